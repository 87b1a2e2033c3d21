"""`shardstore compact`: run the housekeeping, or show its plan."""

from __future__ import annotations

from typing import Annotated

import typer

from . import actions, exits, output, progress, show
from .options import plain_app
from .writing import Writing, writes

app = plain_app()

_AGAIN = "every session is done whole or not touched; run it again for the rest"


@app.command()
@writes
def compact(
    to: Writing,
    show_all: Annotated[bool, typer.Option("--all", help="Print every action, however many.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")] = False,
) -> None:
    """Return unused space to the file system; remove no session.

    It rewrites grown files, trims preallocated space, deletes the remains of crashes, and tidies the index.

    It runs beside writers and locks one session at a time. `shardstore prune` removes sessions.

    Exit code 1 if a part could not be done.
    """
    with (
        to.open(create=False) as opened,
        progress.bar("Looking" if dry_run else "Compacting", _AGAIN) as shown,
    ):
        report = opened.compact(dry_run=dry_run, progress=shown)
    if to.json:
        output.json_object(actions.for_programs(report))
    else:
        would, frees = ("would be ", "would free") if report.dry_run else ("", "freed")
        done = show.count(len(report.actions), "file")
        headline = f"{done} {would}trimmed, rewritten or swept; {frees} {show.size(report.bytes_freed)}"
        actions.print_report(report, headline, None if show_all else actions.ACTIONS_SHOWN)
    if not report.ok:
        failed = show.count(sum(one.failed for one in report.skipped), "file")
        message = f"{failed} could not be compacted"
        raise exits.CommandError(message, "run it again; `shardstore verify` examines damage")
