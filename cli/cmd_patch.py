"""`shardstore patch`: change single fields, and leave the others to their writers."""

from __future__ import annotations

from typing import Annotated

import typer

from . import parse, receipts
from .options import CreateOption, ExpectOption, KeyArgument, plain_app
from .writing import Writing, writes

app = plain_app()


@app.command()
@writes
def patch(
    to: Writing,
    key: KeyArgument,
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD=JSON", help="Fields to set: model=gpt-5 totalTokens=12 'origin={\"to\": 7}'"),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="FIELD", help="Remove a field. Repeatable.")
    ] = None,
    create: CreateOption = True,
    expect: ExpectOption = None,
) -> None:
    """Set and unset single fields of a session.

    Creates a missing session, and a missing store, and says so. With --no-create it exits with 3 instead.

    All other fields keep their values. A value that is not JSON is text: status=done is the same as 'status="done"'.
    """
    changes = parse.assignments(fields)
    if not changes and not unset:
        message = "nothing to change; give FIELD=JSON or --unset FIELD"
        raise typer.BadParameter(message, ctx=to.ctx, param_hint="FIELD=JSON")
    with receipts.interruptible(key), to.open(create=create) as opened:
        before = receipts.before(opened, key)
        session = opened.patch(key, changes, unset=tuple(unset or ()), create=create, expect=expect)
    receipts.written(session, before, as_json=to.json)
