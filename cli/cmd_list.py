"""`shardstore list`: the sessions that match, from the index."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import damage, output, parse, show, tables
from .options import JsonOption, PrefixOption, SortOption, StoreOption, WhereOption, open_existing, plain_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shardstore import SessionInfo, Store

app = plain_app()
_READABLE_S = 0.2


@app.command("list")
def list_(
    ctx: typer.Context,
    prefix: PrefixOption = None,
    where: WhereOption = None,
    sort: SortOption = None,
    limit: Annotated[str | None, typer.Option("--limit", "-n", metavar="N", help="At most N sessions.")] = None,
    offset: Annotated[str, typer.Option("--offset", metavar="N", help="Skip the first N.")] = "0",
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="CURSOR", help="Continue behind this row; --json prints the cursors."),
    ] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="A,B", help="Show these fields, whatever their size.")
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", metavar="FIELD", help="Print how many sessions have each value of a field."),
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Print only the number of matches.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print it again whenever a session changes, until interrupted.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List sessions, the last updated first.

    Damaged sessions are left out. One line on stderr says how many there are; with --json, `damaged` does.
    """
    matching: dict[str, Any] = {"prefix": prefix, "where": parse.conditions(where)}
    page: dict[str, Any] = {
        "order_by": sort or "-updated_at",
        "limit": None if limit is None else parse.number(limit, "--limit"),
        "offset": parse.number(offset, "--offset"),
        "after": after,
        "fields": None if fields is None else [name for name in fields.split(",") if name],
    }
    if count:
        once = partial(_print_count, matching=matching, as_json=json)
    elif group_by is not None:
        once = partial(_print_groups, field=group_by, matching=matching, as_json=json)
    else:
        once = partial(_print_page, matching=matching, page=page, as_json=json)
    with open_existing(ctx, store) as opened:
        if follow:
            _follow(opened, prefix, once, as_json=json)
        else:
            once(opened)


def _follow(store: Store, prefix: str | None, once: Callable[[Store], None], *, as_json: bool) -> None:
    """Print a list again whenever something changed, but not faster than a person can read."""
    from shardstore.errors import WatchExpired

    while True:
        with store.watch(prefix) as watch, suppress(WatchExpired):  # then the list says what there is
            while True:
                if not as_json:
                    output.new_page()
                once(store)
                next(watch)
                time.sleep(_READABLE_S)
                watch.ready()


def _print_page(store: Store, *, matching: dict[str, Any], page: dict[str, Any], as_json: bool) -> None:
    """Print the sessions of one list."""
    found = store.list(**matching, **page)
    damaged = damage.tell(store)
    if as_json:
        return output.json_rows("sessions", map(info_as_json, found), damaged=damaged)
    return print_table(found, page["fields"] or ())


def _print_count(store: Store, *, matching: dict[str, Any], as_json: bool) -> None:
    """Print the number of matches."""
    number, damaged = store.count(**matching), damage.tell(store)
    if as_json:
        output.json_object({"count": number, "damaged": damaged})
    else:
        output.line(str(number))


def _print_groups(store: Store, *, field: str, matching: dict[str, Any], as_json: bool) -> None:
    """Print how many sessions have each value of a field."""
    groups = _groups(store.list(**matching, order_by=field, fields=[field]))
    if as_json:
        rows = ({**({"value": shown[field]} if shown else {}), "count": number} for shown, number in groups)
        return output.json_rows("groups", rows, field=field)
    if not groups:
        return output.message("no session matches")
    columns = (tables.Column(show.text(field), lead=True), tables.Column("sessions", right=True))
    shown_rows = [(show.value(shown[field]) if shown else "(none)", str(number)) for shown, number in groups]
    return output.table(columns, shown_rows)


def _groups(found: list[SessionInfo]) -> list[tuple[dict[str, Any], int]]:
    """Count the neighbours that have the same value. `found`: in the order of the field."""
    groups: list[tuple[dict[str, Any], int]] = []
    for info in found:
        if groups and _alike(groups[-1][0], info.fields):
            groups[-1] = (groups[-1][0], groups[-1][1] + 1)
        else:
            groups.append((info.fields, 1))
    return groups


def _alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether the one field has the same value in both; true is not 1."""
    return a == b and list(map(type, a.values())) == list(map(type, b.values()))


def info_as_json(info: SessionInfo) -> dict[str, Any]:
    """Return a session of a list for JSON."""
    return {
        "key": info.key,
        "rev": info.rev,
        "version": info.version,
        "created_at": show.iso(info.created_at),
        "updated_at": show.iso(info.updated_at),
        "size": info.size,
        "log_length": info.log_length,
        "fields": info.fields,
        "cursor": info.cursor,
    }


def print_table(found: Iterable[SessionInfo], fields: Sequence[str] = ()) -> None:
    """Print sessions as a table, each with some of its fields, or say that there are none."""
    now = datetime.now(UTC)
    rows = [_row(info, fields, now) for info in found]
    if not rows:
        return output.message("no session matches")
    columns = (
        tables.Column("key", lead=True),
        tables.Column("updated", right=True),
        tables.Column("size", right=True),
        tables.Column("rev", right=True),
        *(tables.Column(show.text(name), fold=True) for name in fields),
    )
    return output.table(columns, rows)


def _row(info: SessionInfo, fields: Sequence[str], now: datetime) -> tuple[str, ...]:
    values = info.fields if fields else {}
    shown = [show.value(values[name]) if name in values else "" for name in fields]
    return (show.text(info.key), show.age(info.updated_at, now), show.size(info.size), str(info.rev), *shown)
