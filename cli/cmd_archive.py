"""`shardstore archive`: list the files that prune and verify moved aside, and remove them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import exits, output, parse, progress, show, tables
from .options import JsonOption, PrefixOption, StoreOption, open_existing, plain_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardstore import ArchivedFile

app = plain_app()

_NONE_SO_OLD = "nothing was moved there more than {} ago"  # what counts is not when the session was last changed


@app.callback()
def archive() -> None:
    """List archived sessions, and remove them for good."""


@app.command("list")
def list_(ctx: typer.Context, prefix: PrefixOption = None, store: StoreOption = None, json: JsonOption = False) -> None:
    """List the files in archive/ and quarantine/, the oldest first.

    `restore KEY` brings back the file of KEY that was archived last.
    """
    with open_existing(ctx, store, read_only=True) as opened:
        found = opened.archive.list(prefix)
    if json:
        total = sum(one.size for one in found)
        return output.json_rows("files", map(_as_json, found), count=len(found), bytes=total)
    if not found:
        return output.message("nothing was moved aside")
    _print_table(found)
    return output.line(f"\n{_sum(found)}")


@app.command()
def purge(
    ctx: typer.Context,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="30d", help="Only files that were moved there longer ago than this."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every file in archive/, whatever its age.")] = False,
    prefix: PrefixOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the files that would be removed; remove nothing.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Remove archived sessions for good. Needs --older-than or --all. Files in quarantine/ stay.

    Exit code 1 if a file could not be removed.
    """
    if (older_than is None) is not everything:
        message = "give --older-than AGE, or --all"
        raise exits.CommandError(message, "`shardstore archive purge --help`", code=exits.USAGE)
    age = 0 if older_than is None else parse.duration(older_than, "--older-than")
    with (
        open_existing(ctx, store, read_only=dry_run) as opened,
        progress.bar("Removing", "run it again for the rest") as shown,
    ):
        report = opened.archive.purge(age, prefix=prefix, dry_run=dry_run, progress=shown)
    if json:
        fields = {"dry_run": dry_run, "ok": report.ok, "bytes_freed": report.bytes_freed}
        skipped = [{"path": one.path, "why": one.why} for one in report.skipped]
        output.json_rows("removed", map(_as_json, report.removed), **fields, skipped=skipped)
    else:
        if report.removed:
            _print_table(report.removed)
            output.line()
        none = f" ({_NONE_SO_OLD.format(older_than)})" if older_than and not report.removed else ""
        output.line(f"{'would remove' if dry_run else 'removed'} {_sum(report.removed)}{none}")
    for one in report.skipped if not json else ():
        output.message(f"skipped {one.path}: {show.text(one.why)}")
    if not report.ok:
        message = f"{show.count(len(report.skipped), 'file')} could not be removed"
        raise exits.CommandError(message, "check who may write to archive/, then run it again")


def _as_json(one: ArchivedFile) -> dict[str, Any]:
    moved = show.iso(datetime.fromtimestamp(one.moved_at, UTC))
    return {"place": one.place, "key": one.key, "path": one.path, "size": one.size, "moved_at": moved}


def _print_table(found: Sequence[ArchivedFile]) -> None:
    columns = (
        tables.Column("place"),
        tables.Column("key", lead=True),
        tables.Column("moved", right=True),
        tables.Column("size", right=True),
    )
    now = datetime.now(UTC)
    rows = [
        (
            one.place,
            show.text(one.key if one.key is not None else one.path),
            show.age(datetime.fromtimestamp(one.moved_at, UTC), now),
            show.size(one.size),
        )
        for one in found
    ]
    output.table(columns, rows)


def _sum(found: Sequence[ArchivedFile]) -> str:
    return f"{show.count(len(found), 'file')}, {show.size(sum(one.size for one in found))}"
