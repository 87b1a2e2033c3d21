"""The report of an import: counts, the places that were replaced or skipped, the conflicts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import exits, output, show

if TYPE_CHECKING:
    from pathlib import Path

    from .importing import Outcome
    from .openclaw import Source

_NAMED = 5  # conflicts
_LINES_MAX = 100  # skipped or repaired places on stderr; --json and the side file have them all


def print_report(source: Source, outcome: Outcome, skipped: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Print the outcome; exit 4 if sessions were left alone because they differ. `skipped`: the file of odd entries."""
    if as_json:
        output.json_object(_for_programs(source, outcome, skipped, dry_run=dry_run))
    else:
        output.line(_summary(source, outcome, dry_run=dry_run))
        _print_places(source)
        if skipped is not None:
            output.message(_side_file(source, skipped))
        if outcome.transcripts == 0:
            output.message(f"no transcripts were read from {show.text(os.fspath(source.transcripts))}")
    if outcome.conflicts:
        raise _conflict(outcome.conflicts)


def _conflict(keys: list[str]) -> exits.CommandError:
    named = ", ".join(show.text(key) for key in keys[:_NAMED])
    more = f" and {len(keys) - _NAMED:,} more" if len(keys) > _NAMED else ""
    message = f"{show.count(len(keys), 'session')} left alone, for the store holds something else: {named}{more}"
    return exits.CommandError(message, "`--overwrite` lets the source win", code=exits.CONFLICT)


def _for_programs(source: Source, outcome: Outcome, skipped: Path | None, *, dry_run: bool) -> dict[str, Any]:
    return {
        "source": os.fspath(source.path),
        "dry_run": dry_run,
        "sessions": len(source.entries),
        "created": outcome.created,
        "unchanged": outcome.unchanged,
        "overwritten": outcome.overwritten,
        "items": outcome.items,
        "conflicts": outcome.conflicts,
        "skipped": [one.as_json() for one in source.odd],
        "skipped_file": os.fspath(skipped) if skipped else None,
        "replaced": [{"key": one.key, "path": one.where} for one in source.replaced],
        "transcripts": os.fspath(source.transcripts),
    }


def _odd(source: Source) -> tuple[int, int]:
    """Return how many sessions, and how many lines of transcripts, were skipped."""
    lines = sum(one.line > 0 for one in source.odd)
    return len(source.odd) - lines, lines


def _summary(source: Source, outcome: Outcome, *, dry_run: bool) -> str:
    sessions, lines = _odd(source)
    counts = {
        "new": outcome.created,
        "unchanged": outcome.unchanged,
        "overwritten": outcome.overwritten,
        "skipped": sessions,
    }
    parts = [", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "nothing to do"]
    if outcome.items:
        parts.append(f"{show.count(outcome.items, 'new item')} of transcripts")
    if lines:
        parts.append(f"{show.count(lines, 'line')} of transcripts skipped")
    verb = "would import" if dry_run else "imported"
    return f"{verb} {show.count(len(source.entries), 'session')}: {'; '.join(parts)}"


def _print_places(source: Source) -> None:
    """Print where text was replaced, then where an entry or a line was skipped, and why."""
    _print_some([f"replaced by U+FFFD in {show.text(one.key)}: {show.cut(one.where)}" for one in source.replaced])
    skipped = []
    for one in source.odd:
        place = show.text(one.place) if one.line else show.cut(one.where)
        skipped.append(f"skipped {show.text(one.key)}: {place}: {show.text(one.reason)}")
    _print_some(skipped)


def _print_some(lines: list[str]) -> None:
    for line in lines[:_LINES_MAX]:
        output.message(line)
    if len(lines) > _LINES_MAX:
        output.message(f"... and {len(lines) - _LINES_MAX:,} more")


def _side_file(source: Source, skipped: Path) -> str:
    sessions, lines = _odd(source)
    numbers = {"skipped session": sessions, "skipped line": lines}
    many = " and ".join(show.count(number, name) for name, number in numbers.items() if number)
    return f"{many} kept in {show.text(os.fspath(skipped))}"
