"""`shardstore compact`: give back what nobody needs any more, by rules; or show what that would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import exits, output, parse, progress, show, tables
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
    from collections.abc import Sequence

    from shardstore import Action, CompactReport

app = plain_app()

_AGAIN = "every session is done whole or not touched; run it again for the rest"
ACTIONS_SHOWN = 40  # a plan of thousands scrolls its own sums away
_REMOVALS = frozenset({"archive", "purge"})


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
    show_all: Annotated[bool, typer.Option("--all", help="Print every action, however many.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")] = False,
    store: StoreOption = None,
    lock_timeout: TimeoutOption = "10",
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Give back space, and remove what the given rules name.

    Housekeeping (rewriting grown files, trimming, sweeping what the dead left, tidying the index) always covers the
    whole store. Without a rule no session is removed. --where and --prefix narrow only what is removed; --where alone
    removes all that match, --prefix alone nothing.

    Runs beside writers, one session locked at a time. Unless --purge, removed sessions go to archive/ (`restore KEY`
    brings one back) and take their space there until `archive purge`. Exit code 1 when something could not be done.
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
        progress.bar("Looking" if dry_run else "Compacting", _AGAIN) as shown,
    ):
        report = opened.compact(**rules, purge=purge, dry_run=dry_run, progress=shown)
    if json:
        output.json_object(_for_programs(report))
    else:
        _print_report(report, verb="purged" if purge else "archived", most=None if show_all else ACTIONS_SHOWN)
    if not report.ok:
        failed = sum(one.failed for one in report.skipped)
        message = f"{show.count(failed, 'file')} could not be compacted"
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


def _headline(report: CompactReport, verb: str) -> str:
    """Return the sums of removal, which the rules steer, and of housekeeping, which covers the whole store anyway."""
    removed = [one for one in report.actions if one.action in _REMOVALS]
    would, frees = ("would be ", "would free") if report.dry_run else ("", "freed")
    return (
        f"{show.count(len(removed), 'session')} {would}{verb} ({show.size(sum(one.size for one in removed))}); "
        f"{show.count(len(report.actions) - len(removed), 'file')} trimmed, rewritten or swept; "
        f"{frees} {show.size(report.bytes_freed)}"
    )


def _print_report(report: CompactReport, verb: str, most: int | None) -> None:
    """Print the sums, then the plan or what was done, then what was left alone."""
    count = len(report.actions)
    output.line(_headline(report, verb))
    if report.actions:
        output.line()
        _print_sums(report.actions)
        output.line()
        _print_actions(report.actions[:most])
    if most is not None and count > most:
        output.line(f"... and {count - most:,} more (--all prints them, --json too)")
    _tell_archived(report)
    for one in report.skipped[:most]:
        output.message(f"skipped {show.text(one.key or one.path)}: {show.text(one.why)}")
    if most is not None and len(report.skipped) > most:
        output.message(f"... and {len(report.skipped) - most:,} more skipped (--all prints them, --json too)")


def _tell_archived(report: CompactReport) -> None:
    """Print how to get the space: what was archived still takes it."""
    sizes = [one.size for one in report.actions if one.action == "archive"]
    if sizes:
        moved = "would move" if report.dry_run else "moved"
        told = "`shardstore archive purge` frees it (or use --purge)"
        output.message(f"{show.size(sum(sizes))} {moved} to archive/; {told}")


def _print_sums(actions: Sequence[Action]) -> None:
    """Print how many files and bytes each action concerns; the reason is told where all of them share it."""
    groups: dict[str, list[Action]] = {}
    for one in actions:
        groups.setdefault(one.action, []).append(one)
    columns = (
        tables.Column("action", lead=True),
        tables.Column("count", right=True),
        tables.Column("size", right=True),
        tables.Column("frees", right=True),
        tables.Column("why", fold=True),
    )
    rows = [
        (
            action,
            f"{len(those):,}",
            show.size(sum(one.size for one in those)),
            show.size(sum(one.bytes_freed for one in those)),
            _reasons(those),
        )
        for action, those in groups.items()
    ]
    output.table(columns, rows)


def _reasons(actions: Sequence[Action]) -> str:
    reasons = {one.why for one in actions}
    return show.text(reasons.pop()) if len(reasons) == 1 else "several reasons"


def _print_actions(actions: Sequence[Action]) -> None:
    columns = (
        tables.Column("action"),
        tables.Column("key", lead=True),
        tables.Column("age", right=True),
        tables.Column("size", right=True),
        tables.Column("why", fold=True),
    )
    rows = [
        (
            one.action,
            show.text(one.key or ""),
            "" if one.age is None else show.duration(one.age),
            show.size(one.size),
            show.text(one.why),
        )
        for one in actions
    ]
    output.table(columns, rows)
