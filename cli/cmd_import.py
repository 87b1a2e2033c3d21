"""`shardstore import openclaw`: bring in the sessions of an OpenClaw sessions.json."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
    from collections.abc import Callable

    from shardstore import Session, Store

    from .openclaw import Source
    from .transcripts import Line

app = plain_app()
_MOMENTS_END = 10**14  # milliseconds: the year 5138; beyond is no moment
_CONFLICTS_NAMED = 5


@app.callback()
def formats() -> None:
    """Bring in sessions from another program's files."""


@dataclass
class Outcome:
    """What became of the source's sessions, or would become of them."""

    created: int = 0
    unchanged: int = 0
    overwritten: int = 0
    items: int = 0  # of transcripts
    conflicts: list[str] = field(default_factory=list)


@app.command()
def openclaw(
    ctx: typer.Context,
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="A sessions.json, or the directory that contains it.", show_default=False),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything; write nothing.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Let the source win where the store holds something else.")
    ] = False,
    no_transcripts: Annotated[
        bool, typer.Option("--no-transcripts", help="Leave out the transcripts that lie beside the file.")
    ] = False,
    store: StoreOption = None,
    lock_timeout: TimeoutOption = "10",
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Import a sessions.json as OpenClaw writes it. Checks all of it first; never changes it.

    Safe to run twice, and to run again after it was interrupted. A session that the store holds already, and
    differently, is kept as it is in the store and reported (exit code 4), unless --overwrite.

    The transcripts beside it become the logs of the sessions; lines that a log has already are not added again.
    """
    from . import openclaw as sessions_json

    store_path(ctx, store)  # a missing --store should not wait for 56 MB to be parsed
    source = sessions_json.read(Path(path))
    if source.warning:
        output.message(f"Note: {source.warning}")
    logs = {} if no_transcripts else _transcripts(source)
    opened = _open(ctx, store, lock_timeout, actor or "import:openclaw", dry_run=dry_run)
    outcome = Outcome()
    try:
        with progress.bar("Checking" if dry_run else "Importing") as shown:
            _import(source, logs, opened, outcome, shown, dry_run=dry_run, overwrite=overwrite)
    finally:
        if opened is not None:
            opened.close()
    _report(source, outcome, dry_run=dry_run, as_json=json)


def _open(ctx: typer.Context, store: str | None, lock_timeout: str, actor: str, *, dry_run: bool) -> Store | None:
    """Open the store, making it if need be; None for a dry run where there is none."""
    from shardstore.errors import StoreNotFound

    try:
        return open_for_writing(ctx, store, lock_timeout=lock_timeout, actor=actor, create=not dry_run)
    except StoreNotFound:
        if dry_run:
            return None
        raise


def _transcripts(source: Source) -> dict[str, list[Line]]:
    """Read the transcripts that lie beside a sessions.json, by key."""
    from . import transcripts

    found = {key: transcripts.find(source.path, entry) for key, entry in source.entries.items()}
    return {key: transcripts.read(path) for key, path in found.items() if path is not None}


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
    """Bring in one session after the other, each in a commit of its own."""
    for done, (key, entry) in enumerate(source.entries.items()):
        shown(done, len(source.entries))
        current = store.get(key) if store is not None else None
        lines = logs.get(key, [])
        outcome.items += _log(store, key, entry, lines, dry_run=dry_run) if lines else 0
        if current is None and not lines and store is not None and not dry_run:
            current = _create(store, key, entry)
        if current is None:
            outcome.created += 1
        elif _same(current, entry):
            outcome.unchanged += 1
        elif overwrite:
            outcome.overwritten += 1
            if store is not None and not dry_run:
                store.replace(key, entry, expect=current)
        else:
            outcome.conflicts.append(key)


def _log(store: Store | None, key: str, entry: dict[str, Any], lines: list[Line], *, dry_run: bool) -> int:
    """Bring in a session's transcript, and the session where there is none; return how many items are new."""
    from . import transcripts

    new = transcripts.missing(store.get(key) if store is not None else None, lines)
    if new and store is not None and not dry_run:
        transcripts.bring(store, key, entry, lines, at=_last_change(entry))
    return new


def _create(store: Store, key: str, entry: dict[str, Any]) -> Session | None:
    """Create the session; give the one that another process created in this very moment, or None."""
    from shardstore.errors import SessionExists

    try:
        store.create(key, entry, at=_last_change(entry))
    except SessionExists:
        return store.get(key)
    return None


def _last_change(entry: dict[str, Any]) -> datetime | None:
    """Give the moment of an entry's `updatedAt`, in milliseconds, so that ages and retention go on from there."""
    moment = entry.get("updatedAt")
    if type(moment) is not int or not 0 < moment < _MOMENTS_END:
        return None
    return datetime.fromtimestamp(moment / 1000, UTC)


def _same(session: Session, entry: dict[str, Any]) -> bool:
    from .changes import same

    return same(dict(session.data), entry)


def _report(source: Source, outcome: Outcome, *, dry_run: bool, as_json: bool) -> None:
    """Print what was done; exit 4 when sessions were left alone because they differ."""
    if as_json:
        output.json_object(
            {
                "source": os.fspath(source.path),
                "dry_run": dry_run,
                "sessions": len(source.entries),
                "created": outcome.created,
                "unchanged": outcome.unchanged,
                "overwritten": outcome.overwritten,
                "items": outcome.items,
                "conflicts": outcome.conflicts,
            }
        )
    else:
        counts = {"new": outcome.created, "unchanged": outcome.unchanged, "overwritten": outcome.overwritten}
        told = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number) or "nothing to do"
        if outcome.items:
            told += f"; {outcome.items:,} new items of transcripts"
        output.line(f"{'would import' if dry_run else 'imported'} {len(source.entries):,} sessions: {told}")
    if outcome.conflicts:
        named = ", ".join(show.text(key) for key in outcome.conflicts[:_CONFLICTS_NAMED])
        more = len(outcome.conflicts) - _CONFLICTS_NAMED
        message = f"{len(outcome.conflicts):,} sessions differ from the store's and were left alone: {named}"
        message += f" and {more:,} more" if more > 0 else ""
        raise exits.CommandError(message, "`--overwrite` lets the source win", code=exits.CONFLICT)
