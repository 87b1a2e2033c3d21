"""`shardstore rename`: move a session to another key."""

from __future__ import annotations

from . import output, receipts, show
from .options import ExpectOption, KeyArgument, TargetArgument, plain_app
from .writing import Writing, writes

app = plain_app()


@app.command()
@writes
def rename(to: Writing, key: KeyArgument, target: TargetArgument, expect: ExpectOption = None) -> None:
    """Move a session to another key. Its versions, times, history and log stay the same.

    Exit code 3 if there is no such session, 4 if the new key is taken. After an interruption both keys may be there;
    running it again finishes the move.
    """
    with receipts.interruptible(target), to.open(create=False) as opened:
        session = opened.rename(key, target, expect=expect)
    if to.json:
        output.json_object({"key": session.key, "was": key, "rev": session.rev, "version": session.version})
    else:
        output.message(f"{show.text(key)} is {show.text(session.key)} now, version {session.version}")
