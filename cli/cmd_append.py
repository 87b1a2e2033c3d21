"""`shardstore append`: add items to a session's log, from the command line or from a pipe."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from . import parse, receipts
from .options import (
    ActorOption,
    CreateOption,
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
def append(
    ctx: typer.Context,
    key: KeyArgument,
    item: Annotated[
        str, typer.Argument(metavar="JSON", help="One item as JSON; - reads one item a line from stdin.")
    ] = "-",
    patch: Annotated[
        list[str] | None,
        typer.Option("--patch", metavar="FIELD=JSON", help="Set a field in the same commit. Repeatable."),
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="TEXT", help="The item's id: what is there already is not added.")
    ] = None,
    id_field: Annotated[
        str | None, typer.Option("--id-field", metavar="FIELD", help="Take each item's id from this field of it.")
    ] = None,
    create: CreateOption = True,
    expect: ExpectOption = None,
    store: StoreOption = None,
    lock_timeout: TimeoutOption = "10",
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Add items to the end of a session's log, all in one commit.

    Makes the session, and the store, where there is none, and says so; with --no-create exit code 3.

    With --id or --id-field it is safe to run again: an item whose id stands in the log is not added a second time.
    """
    fields = parse.assignments(patch, "--patch")
    items = _lines() if item == "-" else [_item(item, "JSON")]
    ids = _ids(items, id_, id_field)
    with (
        receipts.interruptible(key),
        open_for_writing(ctx, store, lock_timeout=lock_timeout, actor=actor, create=create) as opened,
    ):
        before = opened.get(key)
        session = opened.append(key, items, fields or None, ids=ids, create=create, expect=expect)
    receipts.written(session, before, as_json=json)


def _lines() -> list[Any]:
    """Read one item a line from stdin; blank lines are skipped. Only a line feed ends a line: JSON may hold U+2028."""
    lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")
    return [_item(text, f"line {number}") for number, text in enumerate(lines, 1) if text.strip()]


def _item(text: str, where: str) -> Any:
    try:
        return parse.strict_json(text)
    except ValueError as error:
        message = f"{where} is not JSON: {error}; a text is written with quotes: '\"hello\"'"
        raise typer.BadParameter(message, param_hint="JSON") from None


def _ids(items: list[Any], name: str | None, field: str | None) -> list[str | None] | None:
    """Return an id, or None, for each item; None where no option asks for ids."""
    if name is not None:
        if field is not None or len(items) != 1:
            message = "names one item; for several use --id-field"
            raise typer.BadParameter(message, param_hint="--id")
        return [name]
    if field is None:
        return None
    found = [item.get(field) if isinstance(item, dict) else None for item in items]
    return [value if value is None or isinstance(value, str) else str(value) for value in found]
