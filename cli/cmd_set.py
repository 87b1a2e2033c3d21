"""`shardstore set`: replace a session's entry as a whole."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from . import parse, receipts, show
from .options import CreateOption, ExpectOption, KeyArgument, plain_app
from .writing import Writing, writes

app = plain_app()


@app.command("set")
@writes
def set_(
    to: Writing,
    key: KeyArgument,
    entry: Annotated[str, typer.Argument(metavar="JSON", help="The entry, a JSON object; - reads it from stdin.")],
    expect: ExpectOption = None,
    create: CreateOption = True,
) -> None:
    """Replace a session's entry as a whole.

    Creates a missing session, and a missing store, and says so. With --no-create it exits with 3 instead.

    If others write to the session too, pass --expect with the version from `get --json`, or use `patch`.
    """
    fields = _entry(entry)
    with receipts.interruptible(key), to.open(create=create and expect is None) as opened:
        before = receipts.before(opened, key)
        if create or expect is not None:
            session = opened.replace(key, fields, expect=expect)
        else:
            session = opened.update(key, lambda _: fields, create=False)
    receipts.written(session, before, as_json=to.json)


def _entry(text: str) -> dict[str, Any]:
    """Parse the JSON object given as an argument or on stdin, before any store is made."""
    source = "stdin" if text == "-" else "JSON"
    try:
        fields = parse.strict_json(sys.stdin.buffer.read() if text == "-" else text)
    except ValueError as error:  # also UnicodeDecodeError
        message = f'not a JSON object: {error}; for example \'{{"status": "new"}}\''
        raise typer.BadParameter(message, param_hint=source) from None
    if not isinstance(fields, dict):
        message = f'an entry is a JSON object such as \'{{"status": "new"}}\', not {show.value(fields)}'
        raise typer.BadParameter(message, param_hint=source)
    return fields
