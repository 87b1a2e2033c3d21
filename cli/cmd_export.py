"""`shardstore export openclaw`: write the sessions as a sessions.json that OpenClaw reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import exits, output, progress, show
from .options import PrefixOption, StoreOption, open_existing, plain_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore import Store

app = plain_app()


@app.callback()
def formats() -> None:
    """Write sessions to files of another program."""


@app.command()
def openclaw(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="The file to write; - is stdout.")] = "-",
    prefix: PrefixOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    no_transcripts: Annotated[
        bool, typer.Option("--no-transcripts", help="Write sessions.json alone, without the logs beside it.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Write a sessions.json, ordered by key, to stdout or to a file of mode 0600 that appears when it is complete.

    Every session is written as of one moment of its own; other sessions may change meanwhile.

    The log of each session is written beside it, as the transcript that its `sessionFile` or `sessionId` names.
    """
    from . import openclaw_export as sessions_json

    left = "the output is not whole" if path == "-" else f"{show.text(path)} was left as it was"
    with open_existing(ctx, store) as opened, progress.bar("Exporting", f"{left}; run it again") as shown:
        _refuse_damaged(opened)
        entries = _entries(opened, prefix, shown)
        if path == "-":
            try:
                sessions_json.write(entries, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                output.reader_left()
            return
        with sessions_json.replacing(Path(path), force=force) as out:
            count = sessions_json.write(entries, out)
            if not no_transcripts:
                _write_transcripts(opened, prefix, Path(path).parent, force=force)
    output.message(f"{show.count(count, 'session')} written to {show.text(path)}")


def _write_transcripts(store: Store, prefix: str | None, directory: Path, *, force: bool) -> None:
    """Write the log of each session that has one to a file of JSON lines, before sessions.json appears.

    A file of ids stands beside it where an import would not find the same ones.
    """
    from . import openclaw_export, transcript_files, transcripts

    for name, key in _transcript_names(store, prefix).items():
        session = store.get(key)
        if session is None or not session.log:
            continue
        ids, beside = transcripts.ids_beside(session), directory / (name + transcript_files.IDS)
        if ids:
            with openclaw_export.replacing(beside, force=force) as out:
                out.writelines(ids)
        with openclaw_export.replacing(directory / name, force=force) as out:
            out.writelines(line for line, _ in transcripts.as_lines(session))
        if not ids:
            openclaw_export.take_away(beside, force=force)


def _transcript_names(store: Store, prefix: str | None) -> dict[str, str]:
    """Return the key of a session with a log for each file to write.

    Raises CommandError where an import would give a session another one's log: a copied session has the `sessionId` of
    its source, and their logs may differ, or one of them may have none.
    """
    from . import transcripts

    written: dict[str, str] = {}
    others: list[str] = []  # sessions that write none of the files
    for key in _keys(store, prefix):
        session = store.get(key)
        if session is None:
            continue
        name = transcripts.file_name(key, dict(session.data))
        if session.log and written.setdefault(name, key) == key:
            continue
        others.append(key)
    for key in others:
        session = store.get(key)
        found = None if session is None else transcripts.first_of(key, dict(session.data), written)
        other = None if found is None else store.get(written[found])
        if session is not None and other is not None and not transcripts.same(session, other):
            pair = f"{show.text(other.key)} and {show.text(key)}"
            message = f"{pair} have different logs and would share the transcript {show.text(str(found))}"
            raise exits.CommandError(message, "give one of them another sessionId, or pass --no-transcripts")
    return written


def _refuse_damaged(store: Store) -> None:
    """Refuse a store that has a shard that cannot be read: whose it is may be unknown, and it would be left out."""
    damaged = store.stats().damaged
    if damaged:
        many = show.count(len(damaged), "damaged session")
        message = f"{many}, so the export would not be whole: {show.text(damaged[0])}"
        raise exits.CommandError(message, "`shardstore verify --repair` salvages the whole parts", code=exits.CORRUPT)


def _entries(
    store: Store, prefix: str | None, shown: Callable[[int, int], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (key, entry) in the order of the keys; a session deleted meanwhile is left out."""
    keys = _keys(store, prefix)
    for done, key in enumerate(keys):
        shown(done, len(keys))
        session = store.get(key)
        if session is not None:
            yield key, dict(session.data)


def _keys(store: Store, prefix: str | None) -> list[str]:
    return sorted(key for key in store if key.startswith(prefix or ""))
