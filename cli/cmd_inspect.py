"""`shardstore inspect`: the store, some sessions or one session, for a person whose program is slow or disk full."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import damage, output, parse, show
from .options import (
    JsonOption,
    PrefixOption,
    SortOption,
    StoreOption,
    WhereOption,
    complete_key,
    open_existing,
    plain_app,
)

if TYPE_CHECKING:
    from shardstore import Store

app = plain_app()

FILTERED_LIMIT = 20  # sessions shown when a filter is given but no --limit


@app.command()
def inspect(
    ctx: typer.Context,
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="Show this session.", autocompletion=complete_key)
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="With KEY: the changes of each revision, with their actors.")
    ] = False,
    where: WhereOption = None,
    prefix: PrefixOption = None,
    active: Annotated[
        str | None, typer.Option("--active", metavar="2h", help="Only sessions updated within this time.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="30d", help="Only sessions not updated for this long.")
    ] = None,
    larger_than: Annotated[
        str | None, typer.Option("--larger-than", metavar="100KB", help="Only entries larger than this.")
    ] = None,
    sort: SortOption = None,
    limit: Annotated[
        str | None, typer.Option("--limit", "-n", metavar="N", help="Show at most N.  [default: 20]")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show the contents and the state of a store.

    With KEY it shows one session, with a filter those that match. It only reads, so it works on a read-only copy too.
    """
    from . import inspect_session, inspect_store

    matching = _matching(where, prefix, active, older_than, larger_than)
    filtered = bool(matching or sort or limit is not None)
    _refuse_misuse(ctx, key, filtered=filtered, history=history)
    most = FILTERED_LIMIT if limit is None else parse.number(limit, "--limit")
    with open_existing(ctx, store, read_only=True) as opened:
        if key is not None:
            inspect_session.print_session(opened, key, history=history, as_json=json)
        elif filtered:
            _show_matching(opened, matching, sort or "-updated_at", most, as_json=json)
        else:
            inspect_store.print_store(opened, as_json=json)


def _refuse_misuse(ctx: typer.Context, key: str | None, *, filtered: bool, history: bool) -> None:
    """Exit 2 for options that exclude each other."""
    if key is not None and filtered:
        message = "a KEY and a filter exclude each other"
        raise typer.BadParameter(message, ctx=ctx, param_hint="KEY")
    if key is None and history:
        message = "needs a KEY"
        raise typer.BadParameter(message, ctx=ctx, param_hint="--history")


def _matching(
    where: list[str] | None,
    prefix: str | None,
    active: str | None,
    older_than: str | None,
    larger_than: str | None,
) -> dict[str, Any]:
    """Turn the filters into keywords of `Store.list`; only those that were given."""
    now = datetime.now(UTC)
    wanted: dict[str, Any] = {"where": parse.conditions(where), "prefix": prefix}
    if active is not None:
        wanted["updated_since"] = _before(now, active, "--active")
    if older_than is not None:
        wanted["updated_before"] = _before(now, older_than, "--older-than")
    if larger_than is not None:
        wanted["larger_than"] = parse.size(larger_than, "--larger-than")
    return {name: value for name, value in wanted.items() if value is not None}


def _before(now: datetime, text: str, option: str) -> datetime:
    """Return the moment this long before now; the oldest there can be when it is longer than history."""
    try:
        return now - parse.duration(text, option)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _show_matching(store: Store, matching: dict[str, Any], order: str, limit: int, *, as_json: bool) -> None:
    """Print the sessions that match, and how many there are in all."""
    from . import cmd_list

    found = store.list(**matching, order_by=order, limit=limit)
    total = store.count(**matching)
    damaged = damage.tell(store)
    if as_json:
        return output.json_rows("sessions", map(cmd_list.info_as_json, found), matching=total, damaged=damaged)
    cmd_list.print_table(found)
    if total > len(found):
        output.message(f"{len(found):,} of {show.count(total, 'matching session')}; --limit shows more")
    return None
