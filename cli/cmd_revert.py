"""`shardstore revert`: put the fields of an earlier revision back."""

from __future__ import annotations

from typing import Annotated

import typer

from . import parse, receipts
from .options import ExpectOption, KeyArgument, plain_app
from .writing import Writing, writes

app = plain_app()


@app.command()
@writes
def revert(
    to: Writing,
    key: KeyArgument,
    rev: Annotated[str, typer.Argument(metavar="REV", help="The revision, as `shardstore history KEY` shows it.")],
    expect: ExpectOption = None,
) -> None:
    """Put the fields of an earlier revision back, as a new one. The log stays as it is.

    Exit code 3 if there is no such session, or its history no longer has that revision.
    """
    number = parse.number(rev, "REV")
    with receipts.interruptible(key), to.open(create=False) as opened:
        before = opened.get(key)
        session = opened.revert(key, number, expect=expect)
    receipts.written(session, before, as_json=to.json)
