"""`shardstore verify`: read every record, compare the index, report damage; salvage it on demand."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import exits, output, progress, show, tables
from .options import JsonOption, StoreOption, open_existing, plain_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardstore import Problem, VerifyReport

app = plain_app()

_AGAIN = "each file is repaired or untouched; run it again for the rest"
_NAMED = 5  # lost sessions in the last line; the table above has them all
_DIRECTORIES = 8  # missing ones that have a row each; more share one
_PERHAPS = frozenset({"torn", "unused-log"})  # notes of bytes that somebody may want: their details say more


@app.command()
def verify(
    ctx: typer.Context,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Salvage the whole parts; the damaged original moves to quarantine/."),
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Check every file of the store. Exit code 5 if there was damage, even if it was repaired."""
    with open_existing(ctx, store) as opened, progress.bar("Reading", _AGAIN) as shown:
        report = opened.verify(repair=repair, progress=shown)
        journals = "journal" if opened.root is None else "shard"  # a database has no files
    if json:
        output.json_object(_for_programs(report))
    else:
        _print_report(report, journals)
    if report.problems:
        raise _failure(report, repair=repair)


def _failure(report: VerifyReport, *, repair: bool) -> exits.CommandError:
    """Return the error that names the damage and the next step."""
    lost = [problem for problem in report.problems if problem.lost and problem.kind != "lost"]
    short = [problem for problem in report.problems if problem.kind == "lost"]
    left = sum(not problem.repaired and not problem.lost for problem in report.problems)
    if lost:
        return _loss(lost, left + sum(not problem.repaired for problem in short))
    if short:
        return _missing(short, left, repair=repair)
    if not left:
        return exits.CommandError("damage was found and repaired; the originals are in quarantine/", code=exits.CORRUPT)
    hint = "examine the files named above" if repair else "`shardstore verify --repair` salvages the whole parts"
    if any(problem.kind == "log" for problem in report.problems) and not repair:
        hint = f"put the log files named above back from a backup, under their names; only then {hint}"
    return exits.CommandError(f"{show.count(left, 'problem')} left", hint, code=exits.CORRUPT)


def _loss(lost: Sequence[Problem], left: int) -> exits.CommandError:
    """Return the names of the sessions of which nothing could be salvaged, and the way on."""
    names = ", ".join(show.text(problem.key or problem.path) for problem in lost[:_NAMED])
    more = f" and {len(lost) - _NAMED:,} more" if len(lost) > _NAMED else ""
    verb, whose, them = ("is", "its", "it") if len(lost) == 1 else ("are", "their", "them")
    others = f"; {show.count(left, 'other problem')} left" if left else ""
    return exits.CommandError(
        f"{show.count(len(lost), 'session')} {verb} LOST: {names}{more}; {whose} bytes are kept in quarantine/{others}",
        f"restore {them} from a backup, or `set` {them} again",
        code=exits.CORRUPT,
    )


def _missing(short: Sequence[Problem], left: int, *, repair: bool) -> exits.CommandError:
    """Return the names of the sessions that lack revisions, and the way on."""
    names = ", ".join(show.text(problem.key or problem.path) for problem in short[:_NAMED])
    more = f" and {len(short) - _NAMED:,} more" if len(short) > _NAMED else ""
    verb, whose = ("lacks", "its file") if len(short) == 1 else ("lack", "their files")
    others = f"; {show.count(left, 'other problem')} left" if left else ""
    if all(problem.repaired for problem in short):
        until = "this is acknowledged now, and `verify` does not name it again"
    elif repair:
        until = "run the repair again when its cause is mended"
    else:
        until = "after `shardstore verify --repair` this is no longer named"
    return exits.CommandError(
        f"{show.count(len(short), 'session')} {verb} acknowledged revisions: {names}{more}{others}",
        f"put {whose} back from a backup; {until}",
        code=exits.CORRUPT,
    )


def _for_programs(report: VerifyReport) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "shards": report.shards,
        "records": report.records,
        "sessions": report.sessions,
        "problems": [asdict(problem) for problem in report.problems],
        "notes": [asdict(note) for note in report.notes],
    }


def _print_report(report: VerifyReport, journals: str) -> None:
    """Print the findings, lost sessions last, where they do not scroll away; then how much was read."""
    columns = (
        tables.Column("kind"),
        tables.Column("file", lead=True),
        tables.Column("detail", fold=True),
        tables.Column("repaired"),
    )
    lost = [problem for problem in report.problems if problem.lost]
    rows = _other_rows([problem for problem in report.problems if not problem.lost])
    rows += [_row(note, "note" if note.kind in _PERHAPS else "harmless") for note in report.notes]
    rows += [_row(problem, _outcome(problem)) for problem in lost]
    if rows:
        output.table(columns, rows)
        output.line()
    output.line(
        f"{show.count(report.sessions, 'session')}, {show.count(report.shards, journals)}, "
        f"{show.count(report.records, 'record')} "
        f"read: {show.count(len(report.problems), 'problem') if report.problems else 'no problem'}"
    )


def _other_rows(problems: Sequence[Problem]) -> list[tuple[str, ...]]:
    """Return a row for each problem, and one for many directories of which the same is to be said."""
    alike: dict[tuple[object, ...], list[Problem]] = {}
    for problem in problems:
        one = () if problem.kind == "incomplete" else (len(alike),)
        alike.setdefault((problem.kind, problem.detail, problem.repaired, *one), []).append(problem)
    rows = []
    for first, *more in alike.values():
        if len(more) < _DIRECTORIES:
            rows += [_row(problem, _outcome(problem)) for problem in (first, *more)]
        else:
            path = f"{show.text(first.path)} and {len(more):,} more"
            rows.append((first.kind, path, show.text(first.detail), _outcome(first)))
    return rows


def _outcome(problem: Problem) -> str:
    if not problem.repaired:
        return "no"
    return "acknowledged" if problem.kind == "lost" else "yes"


def _row(found: Problem, state: str) -> tuple[str, ...]:
    return found.kind, show.text(found.path), show.text(found.detail), state
