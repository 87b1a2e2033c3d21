"""`shardstore prune`: remove sessions by rules, or show the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import actions, exits, output, parse, progress, show
from .options import PrefixOption, WhereOption, plain_app
from .writing import Writing, writes

if TYPE_CHECKING:
    from shardstore import PruneReport

app = plain_app()

_AGAIN = "every session is removed whole or not touched; run it again for the rest"


@app.command()
@writes
def prune(
    to: Writing,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="30d", help="Remove sessions not updated for this long."),
    ] = None,
    max_entries: Annotated[
        str | None, typer.Option("--max-entries", metavar="N", help="Keep the N sessions updated last.")
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
    trust_clock: Annotated[
        bool, typer.Option("--trust-clock", help="Purge even if every session is older than the limit.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Print every action, however many.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")] = False,
) -> None:
    """Move sessions out of the store, by the given rules.

    You must give a rule: --older-than, --max-entries, --max-bytes or --where. --where and --prefix limit which sessions
    the other rules count and remove. --where alone removes all that match.

    It runs beside writers and locks one session at a time. Without --purge the sessions move to archive/, and take
    space there until `archive purge`. `restore KEY` brings one back. Exit code 1 if a part could not be done.
    """
    rules = _rules(older_than, max_entries, max_bytes, where, prefix, keep)
    with (
        to.open(create=False) as opened,
        progress.bar("Looking" if dry_run else "Pruning", _AGAIN) as shown,
    ):
        report = opened.prune(**rules, purge=purge, trust_clock=trust_clock, dry_run=dry_run, progress=shown)
    if to.json:
        output.json_object({**actions.for_programs(report), "refused": report.refused})
    else:
        _print_report(report, "purged" if purge else "archived", None if show_all else actions.ACTIONS_SHOWN)
    if not report.ok:
        failed = show.count(sum(one.failed for one in report.skipped), "session")
        raise exits.CommandError(f"{failed} could not be removed", "run it again; `shardstore verify` examines damage")


def _rules(
    older_than: str | None,
    max_entries: str | None,
    max_bytes: str | None,
    where: list[str] | None,
    prefix: str | None,
    keep: list[str] | None,
) -> dict[str, Any]:
    """Return the rules as keywords of `Store.prune`; exit 2 where none of them removes anything."""
    rules: dict[str, Any] = {
        "older_than": None if older_than is None else parse.duration(older_than, "--older-than"),
        "max_entries": None if max_entries is None else parse.number(max_entries, "--max-entries", least=1),
        "max_bytes": None if max_bytes is None else parse.size(max_bytes, "--max-bytes"),
        "where": parse.conditions(where),
        "prefix": prefix,
        "keep": _keep(keep),
    }
    if not any(rules[name] for name in ("max_entries", "max_bytes", "where")) and rules["older_than"] is None:
        message = "prune needs a rule: --older-than, --max-entries, --max-bytes or --where"
        raise exits.CommandError(message, "`shardstore prune --help`", code=exits.USAGE)
    return rules


def _print_report(report: PruneReport, verb: str, most: int | None) -> None:
    """Print the plan, or the removed sessions, and why the same call without --dry-run would be refused."""
    actions.print_report(report, _headline(report, verb), most)
    if report.refused:
        output.message(f"without --dry-run this is refused: {report.refused}")


def _headline(report: PruneReport, verb: str) -> str:
    would, frees = ("would be ", "would free") if report.dry_run else ("", "freed")
    total = show.size(sum(one.size for one in report.actions))
    removed = show.count(len(report.actions), "session")
    return f"{removed} {would}{verb} ({total}); {frees} {show.size(report.bytes_freed)}"


def _keep(patterns: list[str] | None) -> tuple[str, ...]:
    """Check the patterns: a key, or a prefix that ends in `*`; an empty one would be a mistake that keeps nothing."""
    for pattern in patterns or ():
        if not pattern or "*" in pattern[:-1]:
            message = f"{pattern!r} is neither a key nor a prefix that ends in *"
            raise typer.BadParameter(message, param_hint="--keep")
    return tuple(patterns or ())
