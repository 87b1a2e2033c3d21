"""`shardstore compact`: give back what nobody needs any more, by rules; or show what that would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import exits, output, parse, progress, show
from .options import (
    ActorOption,
    JsonOption,
    PrefixOption,
    StoreOption,
    TimeoutOption,
    WhereOption,
    open_for_writing,
    plain_app,
)

if TYPE_CHECKING:
    from shardstore import CompactReport

app = plain_app()


@app.command()
def compact(
    ctx: typer.Context,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="30d", help="Remove what was not updated for this long."),
    ] = None,
    max_entries: Annotated[
        str | None, typer.Option("--max-entries", metavar="N", help="Keep the N last updated.")
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option("--max-bytes", metavar="500MB", help="Remove the oldest until the rest fits."),
    ] = None,
    where: WhereOption = None,
    prefix: PrefixOption = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="KEY|PREFIX*", help="Never remove these. Repeatable."),
    ] = None,
    purge: Annotated[bool, typer.Option("--purge", help="Remove for good, instead of moving to archive/.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")] = False,
    store: StoreOption = None,
    lock_timeout: TimeoutOption = "10",
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Give back space, and remove what the given rules name.

    Rewrites grown files, sweeps what the dead left, tidies the index. Without a rule no session is removed. --where
    and --prefix narrow the rules; alone, they remove all that match.

    Runs beside writers, one session locked at a time. Removed sessions go to archive/ (`restore KEY` brings one
    back) unless --purge. Exit code 1 when something could not be done.
    """
    rules: dict[str, Any] = {
        "older_than": None if older_than is None else parse.duration(older_than, "--older-than"),
        "max_entries": None if max_entries is None else parse.number(max_entries, "--max-entries", least=1),
        "max_bytes": None if max_bytes is None else parse.size(max_bytes, "--max-bytes"),
        "where": parse.conditions(where),
        "prefix": prefix,
        "keep": _keep(keep),
    }
    with (
        open_for_writing(ctx, store, lock_timeout=lock_timeout, actor=actor, create=False) as opened,
        progress.bar("Looking" if dry_run else "Compacting") as shown,
    ):
        report = opened.compact(**rules, purge=purge, dry_run=dry_run, progress=shown)
    if json:
        output.json_object(_for_programs(report))
    else:
        _print_report(report)
    if not report.ok:
        failed = sum(one.failed for one in report.skipped)
        message = f"{failed:,} {'file' if failed == 1 else 'files'} could not be compacted"
        raise exits.CommandError(message, "run it again; `shardstore verify` looks into damage")


def _keep(patterns: list[str] | None) -> tuple[str, ...]:
    """Check the patterns: a key, or a prefix that ends in `*`; an empty one would be a mistake that keeps nothing."""
    for pattern in patterns or ():
        if not pattern or "*" in pattern[:-1]:
            message = f"{pattern!r} is neither a key nor a prefix that ends in *"
            raise typer.BadParameter(message, param_hint="--keep")
    return tuple(patterns or ())


def _for_programs(report: CompactReport) -> dict[str, Any]:
    return {
        "dry_run": report.dry_run,
        "ok": report.ok,
        "bytes_freed": report.bytes_freed,
        "actions": [
            {"action": one.action, "key": one.key, "age": one.age, "size": one.size, "why": one.why}
            for one in report.actions
        ],
        "skipped": [{"key": one.key, "path": one.path, "why": one.why, "failed": one.failed} for one in report.skipped],
    }


def _print_report(report: CompactReport) -> None:
    """Print the plan, or what was done, then one line with the sum."""
    columns = (
        output.Column("action"),
        output.Column("key", fold=True, lead=True),
        output.Column("age", right=True),
        output.Column("size", right=True),
        output.Column("why", fold=True),
    )
    rows = [
        (
            one.action,
            show.text(one.key or ""),
            "" if one.age is None else show.duration(one.age),
            show.size(one.size),
            one.why,
        )
        for one in report.actions
    ]
    if rows:
        output.table(columns, rows)
        output.line()
    verb = "would free" if report.dry_run else "freed"
    output.line(f"{len(rows):,} {'action' if len(rows) == 1 else 'actions'}, {verb} {show.size(report.bytes_freed)}")
    for one in report.skipped:
        output.message(f"skipped {show.text(one.key or one.path)}: {one.why}")
