"""`shardstore import openclaw`: bring in the sessions of an OpenClaw sessions.json or database."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import exits, output, progress, show
from .options import (
    ActorOption,
    JsonOption,
    StoreOption,
    TimeoutOption,
    open_for_writing,
    plain_app,
    store_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from shardstore import Session, Store

    from .openclaw import Source
    from .transcripts import Line

app = plain_app()
_NAMED = 5  # conflicts
_LINES_MAX = 100  # skipped or repaired places on stderr; --json and the side file have them all
_AGAIN = "each session is imported whole or not at all; run the same command again for the rest"


@app.callback()
def formats() -> None:
    """Bring in sessions from another program's files."""


@dataclass
class Outcome:
    """What became of the source's sessions, or would become of them."""

    created: int = 0
    unchanged: int = 0
    overwritten: int = 0
    transcripts: int | None = 0  # that were read; None: they were not asked for
    items: int = 0  # of transcripts
    conflicts: list[str] = field(default_factory=list)


@app.command()
def openclaw(
    ctx: typer.Context,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A sessions.json, an openclaw-agent.sqlite, or the directory that contains one.",
            show_default=False,
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything; write nothing.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Overwrite sessions that differ in the store.")
    ] = False,
    skip_invalid: Annotated[
        bool,
        typer.Option(
            "--skip-invalid",
            help="Skip entries and lines that the store cannot hold; keep them in STORE.skipped-TIME.jsonl.",
        ),
    ] = False,
    replace_invalid: Annotated[
        bool,
        typer.Option("--replace-invalid", help="Replace halves of emoji (lone surrogates) by U+FFFD, and say where."),
    ] = False,
    no_transcripts: Annotated[
        bool, typer.Option("--no-transcripts", help="Leave out the transcripts that lie beside the file.")
    ] = False,
    store: StoreOption = None,
    lock_timeout: TimeoutOption = "10",
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Import OpenClaw's sessions. Checks all of the source first; never changes it.

    You may run it twice, and again after an interruption. If the store has a session with other fields, the store's
    stays and is reported (exit code 4), unless you pass --overwrite.

    Transcripts beside the file become the logs of the sessions. A line that a log has already is not added again.
    A line's id is its own, or the one that an export kept beside it, or its number.

    `updatedAt` becomes the time of the last change: ISO 8601, or a number whose magnitude tells its unit (below 10^11
    seconds, below 10^14 milliseconds, then micro- and nanoseconds).
    """
    from . import openclaw as sessions

    to = store_path(ctx, store)  # a missing --store should not wait for 56 MB to be parsed
    source = sessions.read(Path(path), skip_invalid=skip_invalid, replace_invalid=replace_invalid)
    if source.warning:
        output.message(f"Note: {source.warning}")
    logs = {} if no_transcripts else _transcripts(source, skip=skip_invalid, repair=replace_invalid)
    outcome = Outcome(transcripts=None if no_transcripts else len(logs))
    opened = _open(ctx, store, lock_timeout, actor or "import:openclaw", dry_run=dry_run)
    try:
        beside = to if isinstance(to, Path) else source.path
        kept = _keep_odd(source, beside) if source.odd and not dry_run else None
        with progress.bar("Checking" if dry_run else "Importing", _AGAIN) as shown:
            _import(source, logs, opened, outcome, shown, dry_run=dry_run, overwrite=overwrite)
    finally:
        if opened is not None:
            opened.close()
    _report(source, outcome, kept, dry_run=dry_run, as_json=json)


def _open(ctx: typer.Context, store: str | None, lock_timeout: str, actor: str, *, dry_run: bool) -> Store | None:
    """Open the store, making it if need be; None for a dry run where there is none."""
    from shardstore.errors import StoreNotFound

    try:
        return open_for_writing(ctx, store, lock_timeout=lock_timeout, actor=actor, create=not dry_run, announce=False)
    except StoreNotFound:
        if dry_run:
            return None
        raise


def _keep_odd(source: Source, store: Path) -> Path:
    """Write the odd entries to a new file beside the store, before the first of the others is imported."""
    from .openclaw_export import keep_lines

    return keep_lines(store, [one.as_line() for one in source.odd])


def _transcripts(source: Source, *, skip: bool, repair: bool) -> dict[str, list[Line]]:
    """Read the transcripts that lie beside a sessions.json, by key.

    Raises CommandError for a line that no log can hold; with `skip` it is put with the source's odd entries.
    """
    from . import transcripts

    logs: dict[str, list[Line]] = {}
    for key, entry in source.entries.items():
        path = transcripts.find(source.path, key, entry)
        if path is None:
            continue
        logs[key], odd, replaced = transcripts.read(path, key, repair=repair)
        if odd and not skip:
            hint = "nothing was imported; --skip-invalid leaves such lines out, --no-transcripts all transcripts"
            raise exits.CommandError(f"{show.text(odd[0].place)}: {show.text(odd[0].reason)}", hint)
        source.odd.extend(odd)
        source.replaced.extend(replaced)
    return logs


def _import(
    source: Source,
    logs: dict[str, list[Line]],
    store: Store | None,
    outcome: Outcome,
    shown: Callable[[int, int], None],
    *,
    dry_run: bool,
    overwrite: bool,
) -> None:
    """Bring in the sessions, each in a commit of its own; those without a transcript share their syncs."""
    new: list[str] = []
    to = None if dry_run else store

    def missing() -> Iterator[tuple[str, dict[str, Any], datetime | None]]:
        for done, (key, entry) in enumerate(source.entries.items()):
            shown(done, len(source.entries))
            lines, at = logs.get(key, []), source.times.get(key)
            current = store.get(key) if store is not None else None
            if current is None and lines:
                current = _create_with_log(to, key, entry, lines, at, outcome)
                if current is None:
                    continue
            if current is None:
                new.append(key)
            elif not _merge(to, current, source, lines, outcome, overwrite=overwrite):
                continue
            # One that is there already is synced with the others: an earlier run may have died before it was.
            yield key, entry, at

    if to is None:
        for _ in missing():
            pass
        outcome.created += len(new)
        return
    made = to.create_many(missing(), on_exists="skip")
    outcome.created += made
    if made < len(new):
        _made_by_others(to, source, new, made, outcome, overwrite=overwrite)
    to.count()  # leaves the index ready for the first list


def _create_with_log(
    store: Store | None, key: str, entry: dict[str, Any], lines: list[Line], at: datetime | None, outcome: Outcome
) -> Session | None:
    """Create the session with its transcript. Return the one that another process created meanwhile, or None."""
    from . import transcripts

    outcome.items += len(lines)
    if store is None or transcripts.bring(store, key, entry, lines, at=at):
        outcome.created += 1
        return None
    return store[key]


def _merge(
    store: Store | None,
    current: Session,
    source: Source,
    lines: list[Line],
    outcome: Outcome,
    *,
    overwrite: bool,
) -> bool:
    """Compare a session that is there with its source, and add the lines that its log lacks. Return if it is the same.

    The fields come first: `expect` would refuse them once the log has grown. `store`: None changes nothing.
    """
    from . import transcripts

    key, entry = current.key, source.entries[current.key]
    same = _same(current, entry)
    if same:
        outcome.unchanged += 1
    else:
        _differs(store, current, entry, outcome, overwrite=overwrite)
        if not overwrite:
            return False  # it stays as it is, its log too
    new = transcripts.missing(current, lines) if lines else 0
    outcome.items += new
    if new and store is not None:
        transcripts.bring(store, key, entry, lines, at=source.times.get(key))
    return same


def _differs(
    store: Store | None, current: Session, entry: dict[str, Any], outcome: Outcome, *, overwrite: bool
) -> None:
    """Let the source win where that was asked for, else note the conflict. `store`: None changes nothing."""
    if not overwrite:
        outcome.conflicts.append(current.key)
        return
    outcome.overwritten += 1
    if store is not None:
        store.replace(current.key, entry, expect=current)


def _made_by_others(
    store: Store, source: Source, new: list[str], made: int, outcome: Outcome, *, overwrite: bool
) -> None:
    """Look at what another process created in this very moment: it may be the same, or differ."""
    met = len(new) - made
    for key, current in store.get_many(new).items():
        if not _same(current, source.entries[key]):
            met -= 1
            _differs(store, current, source.entries[key], outcome, overwrite=overwrite)
    outcome.unchanged += max(0, met)


def _same(session: Session, entry: dict[str, Any]) -> bool:
    from .changes import same

    return same(dict(session.data), entry)


def _report(source: Source, outcome: Outcome, kept: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Print what was done; exit 4 when sessions were left alone because they differ."""
    if as_json:
        output.json_object(_for_programs(source, outcome, kept, dry_run=dry_run))
    else:
        _print_report(source, outcome, kept, dry_run=dry_run)
    if outcome.conflicts:
        named = ", ".join(show.text(key) for key in outcome.conflicts[:_NAMED])
        more = len(outcome.conflicts) - _NAMED
        message = (
            f"{show.count(len(outcome.conflicts), 'session')} left alone, for the store holds something else: {named}"
        )
        message += f" and {more:,} more" if more > 0 else ""
        raise exits.CommandError(message, "`--overwrite` lets the source win", code=exits.CONFLICT)


def _for_programs(source: Source, outcome: Outcome, kept: Path | None, *, dry_run: bool) -> dict[str, Any]:
    return {
        "source": os.fspath(source.path),
        "dry_run": dry_run,
        "sessions": len(source.entries),
        "created": outcome.created,
        "unchanged": outcome.unchanged,
        "overwritten": outcome.overwritten,
        "items": outcome.items,
        "conflicts": outcome.conflicts,
        "skipped": [one.told() for one in source.odd],
        "skipped_file": os.fspath(kept) if kept else None,
        "replaced": [{"key": one.key, "path": one.where} for one in source.replaced],
        "transcripts": os.fspath(source.transcripts),
    }


def _print_report(source: Source, outcome: Outcome, kept: Path | None, *, dry_run: bool) -> None:
    counts = {"new": outcome.created, "unchanged": outcome.unchanged, "overwritten": outcome.overwritten}
    lines = sum(one.line > 0 for one in source.odd)
    counts["skipped"] = len(source.odd) - lines
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number) or "nothing to do"
    told += f"; {outcome.items:,} new items of transcripts" if outcome.items else ""
    told += f"; {show.count(lines, 'line')} of transcripts skipped" if lines else ""
    verb = "would import" if dry_run else "imported"
    output.line(f"{verb} {show.count(len(source.entries), 'session')}: {told}")
    _tell([f"replaced by U+FFFD in {show.text(one.key)}: {show.cut(one.where)}" for one in source.replaced])
    _tell(
        [
            f"skipped {show.text(o.key)}: {show.text(o.place) if o.line else show.cut(o.where)}: {show.text(o.reason)}"
            for o in source.odd
        ]
    )
    if kept is not None:
        numbers = {"skipped session": counts["skipped"], "skipped line": lines}
        many = " and ".join(show.count(number, what) for what, number in numbers.items() if number)
        output.message(f"{many} kept in {show.text(os.fspath(kept))}")
    if outcome.transcripts == 0:
        output.message(f"no transcripts were read from {show.text(os.fspath(source.transcripts))}")


def _tell(lines: list[str]) -> None:
    for line in lines[:_LINES_MAX]:
        output.message(line)
    if len(lines) > _LINES_MAX:
        output.message(f"... and {len(lines) - _LINES_MAX:,} more")
