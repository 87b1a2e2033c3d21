"""`shardstore list`: the sessions that match, from the index."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import damage, output, parse, show, tables
from .options import JsonOption, PrefixOption, SortOption, StoreOption, WhereOption, open_existing, plain_app

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardstore import SessionInfo

app = plain_app()


@app.command("list")
def list_(
    ctx: typer.Context,
    prefix: PrefixOption = None,
    where: WhereOption = None,
    sort: SortOption = None,
    limit: Annotated[str | None, typer.Option("--limit", "-n", metavar="N", help="At most so many.")] = None,
    offset: Annotated[str, typer.Option("--offset", metavar="N", help="Skip so many first.")] = "0",
    count: Annotated[bool, typer.Option("--count", help="Print only how many match.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List sessions, the last updated first.

    Damaged sessions are left out: one line on stderr says how many there are, and `damaged` with --json.
    """
    most = None if limit is None else parse.number(limit, "--limit")
    skipped = parse.number(offset, "--offset")
    matching: dict[str, Any] = {"prefix": prefix, "where": parse.conditions(where)}
    with open_existing(ctx, store) as opened:
        if count:
            return _count(opened.count(**matching), damage.tell(opened), as_json=json)
        found = opened.list(**matching, order_by=sort or "-updated_at", limit=most, offset=skipped)
        damaged = damage.tell(opened)
    if json:
        return output.json_rows("sessions", map(as_json, found), damaged=damaged)
    return print_table(found)


def _count(number: int, damaged: int, *, as_json: bool) -> None:
    if as_json:
        output.json_object({"count": number, "damaged": damaged})
    else:
        output.line(str(number))


def as_json(info: SessionInfo) -> dict[str, Any]:
    """Return a session of a list for JSON."""
    return {
        "key": info.key,
        "rev": info.rev,
        "version": info.version,
        "created_at": show.iso(info.created_at),
        "updated_at": show.iso(info.updated_at),
        "size": info.size,
        "fields": dict(info.fields),
    }


def print_table(found: Iterable[SessionInfo]) -> None:
    """Print sessions as a table, or say that there are none."""
    now = datetime.now(UTC)
    rows = [(show.text(i.key), show.age(i.updated_at, now), show.size(i.size), str(i.rev)) for i in found]
    if not rows:
        return output.message("no session matches")
    columns = (
        tables.Column("key", lead=True),
        tables.Column("updated", right=True),
        tables.Column("size", right=True),
        tables.Column("rev", right=True),
    )
    return output.table(columns, rows)
