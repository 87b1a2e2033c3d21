"""Print the actions of compact and prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import output, show, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardstore import Action, CompactReport, PruneReport

    Report = CompactReport | PruneReport

ACTIONS_SHOWN = 40  # a plan of thousands scrolls its own sums away


def for_programs(report: Report) -> dict[str, Any]:
    """Return a report as JSON."""
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


def print_report(report: Report, headline: str, most: int | None) -> None:
    """Print the headline and sums, then the actions, then the files that were left alone."""
    number = len(report.actions)
    output.line(headline)
    if report.actions:
        output.line()
        _print_sums(report.actions)
        output.line()
        _print_actions(report.actions[:most])
    if most is not None and number > most:
        output.line(f"... and {number - most:,} more (--all prints them, --json too)")
    _print_archived(report)
    for one in report.skipped[:most]:
        output.message(f"skipped {show.text(one.key or one.path)}: {show.text(one.why)}")
    if most is not None and len(report.skipped) > most:
        output.message(f"... and {len(report.skipped) - most:,} more skipped (--all prints them, --json too)")


def _print_archived(report: Report) -> None:
    """Print how to free the space that archived sessions still take."""
    sizes = [one.size for one in report.actions if one.action == "archive"]
    if sizes:
        moved = "would move" if report.dry_run else "moved"
        advice = "`shardstore archive purge` frees it (or use --purge)"
        output.message(f"{show.size(sum(sizes))} {moved} to archive/; {advice}")


def _print_sums(actions: Sequence[Action]) -> None:
    """Print how many files and bytes each action concerns; the reason follows where all of them share it."""
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
