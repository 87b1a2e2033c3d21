"""`shardstore rename`: give a session another key."""

from __future__ import annotations

import typer

from . import output, receipts, show
from .options import (
    ActorOption,
    ExpectOption,
    JsonOption,
    KeyArgument,
    StoreOption,
    TargetArgument,
    TimeoutOption,
    open_for_writing,
    plain_app,
)

app = plain_app()


@app.command()
def rename(
    ctx: typer.Context,
    key: KeyArgument,
    target: TargetArgument,
    expect: ExpectOption = None,
    store: StoreOption = None,
    lock_timeout: TimeoutOption = "10",
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Move a session to another key. Its versions, times, history and log stay the same.

    Exit code 3 if there is no such session, 4 if the new key is taken. After an interruption both keys may be there;
    running it again finishes the move.
    """
    with (
        receipts.interruptible(target),
        open_for_writing(ctx, store, lock_timeout=lock_timeout, actor=actor, create=False) as opened,
    ):
        session = opened.rename(key, target, expect=expect)
    if json:
        output.json_object({"key": session.key, "was": key, "rev": session.rev, "version": session.version})
    else:
        output.message(f"{show.text(key)} is {show.text(session.key)} now, version {session.version}")
