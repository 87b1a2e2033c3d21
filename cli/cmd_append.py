"""`shardstore append`: add items to a session's log, from the command line or from a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import parse, receipts, show
from .options import CreateOption, ExpectOption, KeyArgument, open_existing, plain_app
from .writing import Writing, writes

if TYPE_CHECKING:
    from shardstore import Session

app = plain_app()


@app.command()
@writes
def append(
    to: Writing,
    key: KeyArgument,
    item: Annotated[
        str, typer.Argument(metavar="JSON", help="One item as JSON; - reads one item a line from stdin.")
    ] = "-",
    patch: Annotated[
        list[str] | None,
        typer.Option("--patch", metavar="FIELD=JSON", help="Set a field in the same commit. Repeatable."),
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="TEXT", help="The item's id; an item with this id is not added twice.")
    ] = None,
    id_field: Annotated[
        str | None,
        typer.Option(
            "--id-field", metavar="FIELD", help="Take each item's id from this field, which every item needs."
        ),
    ] = None,
    create: CreateOption = True,
    expect: ExpectOption = None,
) -> None:
    """Add items to the end of a session's log, all in one commit.

    Creates a missing session, and a missing store, and says so. With --no-create it exits with 3 instead.

    With --id or --id-field you may run it again: an item whose id is in the log is not added a second time.
    With an empty stdin nothing is changed or created, not even by --patch.
    """
    fields = parse.assignments(patch, "--patch")
    items = _lines() if item == "-" else [("the item", _item(item, "the item"))]
    ids = _ids(items, id_, id_field)
    if not items:
        return receipts.nothing(key, _present(to, key), as_json=to.json)
    with receipts.interruptible(key), to.open(create=create) as opened:
        before = receipts.before(opened, key)
        values = [value for _, value in items]
        session = opened.append(key, values, fields or None, ids=ids, create=create, expect=expect)
    return receipts.written(session, before, as_json=to.json)


def _present(to: Writing, key: str) -> Session | None:
    """Return the session as it is; None where there is none, or no store."""
    from shardstore.errors import StoreNotFound

    try:
        with open_existing(to.ctx, to.store) as opened:
            return opened.get(key)
    except StoreNotFound:
        return None


def _lines() -> list[tuple[str, Any]]:
    """Read one item a line from stdin, each with its place for errors."""
    places = [(f"line {number}", text) for number, text in parse.lines(sys.stdin.buffer.read())]
    return [(place, _item(text, place)) for place, text in places]


def _item(text: str, where: str) -> Any:
    try:
        return parse.strict_json(text)
    except ValueError as error:
        message = f"{where} is not JSON: {error}; a text is written with quotes: '\"hello\"'"
        raise typer.BadParameter(message, param_hint="JSON") from None


def _ids(items: list[tuple[str, Any]], name: str | None, field: str | None) -> list[str | None] | None:
    """Return the id of each item; None where no option asks for ids."""
    if name is not None:
        if field is not None or len(items) != 1:
            message = "names one item; for several use --id-field"
            raise typer.BadParameter(message, param_hint="--id")
        return [name]
    return None if field is None else [_id(place, value, field) for place, value in items]


def _id(place: str, value: Any, field: str) -> str:
    """Return the id that an item holds: an item without one would be added again by every retry."""
    found = value.get(field) if isinstance(value, dict) else None
    if isinstance(found, str) or type(found) is int:
        return str(found)
    message = f"{place} has no text or whole number in the field {show.quoted(field)}; nothing was added"
    raise typer.BadParameter(message, param_hint="--id-field")
