"""One session in detail: its place, size, age, lock and log; its fields, or its changes with their actors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from shardstore._codec import dumps

from . import changes, chat, output, show, tables
from .cmd_get import describe
from .holders import command_of

if TYPE_CHECKING:
    from shardstore import LockHolder, Session, Store

_VALUE_MIN, _VALUE_MAX = 24, 120  # characters of a value in the table of fields
_SIZE_COLUMN = 14  # columns, with what is between the columns


def print_session(store: Store, key: str, *, history: bool, as_json: bool) -> None:
    """Print the session. Raises SessionNotFound."""
    session = store[key]
    path = store.engine.place(key) or store.location
    real = os.path.realpath(path)
    in_files = store.root is not None
    held = next((one for one in store.engine.holders() if (one.path == real if in_files else one.key == key)), None)
    revisions = changes.steps(store.history(key)) if history else []
    remarks = store.engine.remarks(key)
    if as_json:
        return output.json_object({**_for_programs(session, path, held, revisions, history=history), "notes": remarks})
    output.pairs(_facts(session, path, held, in_files=in_files), whole=("Session", "Version", "File", "Store"))
    for remark in remarks:
        output.line(f"Note: {show.text(remark)}")
    if history:
        _print_history(revisions)
    else:
        _print_fields(session)
    return None


def _for_programs(
    session: Session,
    path: str,
    held: LockHolder | None,
    revisions: list[changes.Step],
    *,
    history: bool,
) -> dict[str, Any]:
    shown = {
        **describe(session),
        "size": len(dumps(session.data)),
        "path": path,
        "file_size": _file_size(path),
        "log": _log_for_programs(session, path),
        "lock": {"pid": held.pid, "command": _command(held)} if held else None,
    }
    if not history:
        return {**shown, "data": session.data}
    return {**shown, "history": [_step(step) for step in revisions]}


def _log_for_programs(session: Session, path: str) -> dict[str, Any]:
    newest = session.log.entries(-1)
    at = show.iso(newest[0].at) if newest else None
    return {"length": len(session.log), "dropped": session.log.dropped, "bytes": _log_bytes(path), "newest_at": at}


def _log_bytes(path: str) -> int:
    """Return the bytes of the log's files beside a journal: one, or none."""
    import glob

    stem = path.removesuffix(".jsonl")
    return sum(_file_size(file) for file in glob.glob(f"{glob.escape(stem)}.*.log.jsonl"))


def _log_fact(session: Session, path: str) -> list[tuple[str, str]]:
    """Return the line about the log, where there is one; the newest item as `log` shows it."""
    if not session.log:
        return []
    newest = session.log.entries(-1)[0]
    settled = f", file of {show.size(_log_bytes(path))}" if _log_bytes(path) else ""
    said = f"newest {show.age(newest.at)}: {chat.speaker(newest.value)} {chat.line(newest.value, _VALUE_MIN * 2)}"
    return [("Log", f"{show.count(len(session.log), 'item')}{settled}; {said}")]


def _step(step: changes.Step) -> dict[str, Any]:
    return {
        "rev": step.session.rev,
        "at": show.iso(step.session.updated_at),
        "actor": step.session.actor,
        "changes": [change.as_json() for change in step.changes],
        "log": step.log.as_json() if step.log else None,
    }


def _facts(session: Session, path: str, held: LockHolder | None, *, in_files: bool) -> list[tuple[str, str]]:
    whole = f", file of {show.size(_file_size(path))}" if in_files else ""
    created, updated = session.created_at, session.updated_at
    return [
        ("Session", show.text(session.key)),
        ("Revision", str(session.rev)),
        ("Version", session.version),
        ("Size", show.size(len(dumps(session.data))) + whole),
        ("Created", f"{show.time(created)} ({show.age(created)})"),
        ("Updated", f"{show.time(updated)} ({show.age(updated)}) by {show.text(session.actor)}"),
        *_log_fact(session, path),
        ("File" if in_files else "Store", show.text(path)),
        ("Lock", _owner(held) if held else "free"),
    ]


def _owner(held: LockHolder) -> str:
    """Name who holds the lock; of a database's, as its connection named itself."""
    if _is_elsewhere(held):
        return f"held by {show.text(held.path.rpartition('#')[2])}"
    return f"held by {held.pid}" + (f" ({_command(held)})" if _command(held) else "")


def _command(held: LockHolder) -> str:
    return "" if _is_elsewhere(held) else command_of(held.pid)


def _is_elsewhere(held: LockHolder) -> bool:
    """Return whether the process may be on another host, where its number means another one here."""
    return "://" in held.path


def _print_fields(session: Session) -> None:
    """Print the fields in their order, each on a line; `get` prints values whole."""
    if not session.data:
        return output.line("\nThe entry is empty: {}")
    output.heading(show.count(len(session.data), "field"))
    columns = (tables.Column("field", lead=True), tables.Column("size", right=True), tables.Column("value", fold=True))
    room = (output.width() or _VALUE_MAX) - max(map(len, session.data)) - _SIZE_COLUMN
    limit = max(_VALUE_MIN, min(_VALUE_MAX, room))
    rows = [(show.text(n), show.size(len(dumps(v))), show.value(v, limit)) for n, v in session.data.items()]
    return output.table(columns, rows)


def _print_history(revisions: list[changes.Step]) -> None:
    """Print each revision with its actor and changes, oldest first; the first one shows all that it had."""
    for step in revisions:
        session = step.session
        output.heading(f"Revision {session.rev}, {show.time(session.updated_at)}, by {show.text(session.actor)}")
        for change in step.changes:
            output.line(f"  {change.as_text()}")
        if step.log is not None:
            output.line(f"  Log: {step.log.as_text()}, {step.log.after:,} in all")


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
