"""`shardstore log`: print a session's log, the newest items or a range, and follow new items."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import chat, output, parse, show
from .options import JsonOption, KeyArgument, StoreOption, open_existing, plain_app

if TYPE_CHECKING:
    from shardstore import LogItem, Store

app = plain_app()
_LINE_MAX = 160  # characters of an item where nothing limits a line
_LINE_MIN = 24


@app.command()
def log(
    ctx: typer.Context,
    key: KeyArgument,
    count: Annotated[str, typer.Option("--lines", "-n", metavar="N", help="The newest N items.")] = "20",
    start: Annotated[str | None, typer.Option("--from", metavar="N", help="From the item at this index on.")] = None,
    stop: Annotated[str | None, typer.Option("--to", metavar="M", help="Up to the item before this index.")] = None,
    grep: Annotated[
        str | None,
        typer.Option("--grep", metavar="TEXT", help="Only items that contain this text, in upper or lower case."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new items until interrupted.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print a session's log, the newest items or a range.

    Each item is one line: its index, time, role, and the first line of its text.

    --json prints items whole; --follow --json prints one object a line. With --grep, -n counts the items that match.
    """
    first, last = _index(start, "--from"), _index(stop, "--to")
    newest = parse.number(count, "--lines")
    with open_existing(ctx, store) as opened:
        entries = _chosen(opened, key, (first, last), newest, grep)
        if not json or not follow:
            _print(entries, key, as_json=json)
        else:
            for entry in entries:
                output.json_line(_whole(entry))
        if follow:
            _follow(opened, key, grep, as_json=json)


def _index(text: str | None, option: str) -> int | None:
    return None if text is None else parse.number(text, option)


def _chosen(
    store: Store, key: str, places: tuple[int | None, int | None], newest: int, grep: str | None
) -> list[LogItem]:
    """Return the chosen items. A given range is not narrowed to the newest."""
    from shardstore.errors import LogReplaced

    while True:
        items = store[key].log
        ranged = places != (None, None)
        start, stop = places if ranged or grep is not None else (max(0, len(items) - newest), None)
        try:
            found = [entry for entry in items.entries(start, stop) if _matches(entry.value, grep)]
        except LogReplaced:
            continue  # by a commit of this moment
        return found if ranged or newest >= len(found) else found[len(found) - newest :]


def _matches(value: Any, grep: str | None) -> bool:
    return grep is None or grep.casefold() in chat.searched(value).casefold()


def _print(entries: list[LogItem], key: str, *, as_json: bool) -> None:
    if as_json:
        output.json_rows("items", map(_whole, entries), key=key)
        return
    for entry in entries:
        output.line(_line(str(entry.index), entry.at, entry.value))


def _whole(entry: LogItem) -> dict[str, Any]:
    return {"index": entry.index, "id": entry.id, "at": show.iso(entry.at), "actor": entry.actor, "value": entry.value}


def _line(index: str, at: datetime, value: Any) -> str:
    """Show an item in the columns that there are."""
    head = f"{index:>6}  {at.astimezone(UTC).strftime('%m-%d %H:%M:%S')}  {chat.speaker(value):<10}  "
    return head + chat.line(value, max(_LINE_MIN, (output.width() or _LINE_MAX) - len(head)))


def _follow(store: Store, key: str, grep: str | None, *, as_json: bool) -> None:
    """Print new items as they come."""
    for value in store.follow(key):
        if not _matches(value, grep):
            continue
        if as_json:
            output.json_line({"value": value})
        else:
            output.line(_line("", datetime.now(UTC), value))
