"""`shardstore copy`: make a session from another one, with its log or the beginning of it."""

from __future__ import annotations

from typing import Annotated

import typer

from . import parse, receipts
from .options import KeyArgument, TargetArgument, plain_app
from .writing import Writing, writes

app = plain_app()


@app.command()
@writes
def copy(
    to: Writing,
    key: KeyArgument,
    target: TargetArgument,
    stop: Annotated[
        str | None, typer.Option("--stop", metavar="N", help="Only the first N items of the log: a branch.")
    ] = None,
) -> None:
    """Copy a session, its fields and its log, to a new key.

    Exit code 3 if there is no such session, 4 if the new key is taken.
    """
    items = None if stop is None else parse.number(stop, "--stop")
    with receipts.interruptible(target), to.open(create=False) as opened:
        session = opened.copy(key, target, stop=items)
    receipts.written(session, None, as_json=to.json)
