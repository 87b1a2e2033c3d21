"""`shardstore revert`: put the fields of an earlier revision back."""

from __future__ import annotations

from typing import Annotated

import typer

from . import parse, receipts
from .options import (
    ActorOption,
    ExpectOption,
    JsonOption,
    KeyArgument,
    StoreOption,
    TimeoutOption,
    open_for_writing,
    plain_app,
)

app = plain_app()


@app.command()
def revert(
    ctx: typer.Context,
    key: KeyArgument,
    rev: Annotated[str, typer.Argument(metavar="REV", help="The revision, as `shardstore history KEY` shows it.")],
    expect: ExpectOption = None,
    store: StoreOption = None,
    lock_timeout: TimeoutOption = "10",
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Put the fields of an earlier revision back, as a new one. The log stays as it is.

    Exit code 3 when there is no such session, or its history does not hold that revision.
    """
    number = parse.number(rev, "REV")
    with (
        receipts.interruptible(key),
        open_for_writing(ctx, store, lock_timeout=lock_timeout, actor=actor, create=False) as opened,
    ):
        before = opened.get(key)
        session = opened.revert(key, number, expect=expect)
    receipts.written(session, before, as_json=json)
