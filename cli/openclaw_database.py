"""Read OpenClaw's SQLite database, where it keeps its sessions since 2026.8. Never writes to it, nor beside it."""

from __future__ import annotations

import json
import os
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from . import escape
from .exits import CommandError
from .openclaw_entries import Checked, Odd, unique

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_TABLE = "session_nodes"
_NEEDED = {"session_key", "entry_json"}
_HEADER_BYTES = 100
_BUSY_S = 5.0
_LOGS = ("-wal", "-journal")
_COPY = "copy.sqlite"
_STOP = "stop OpenClaw and try again"


def check(file: Path, *, repair: bool) -> Checked:
    """Check every session of the database, all of them as of one moment. Raises CommandError."""
    import sqlite3

    before = _stamps(file)
    if not _has_log(file):
        _refuse_cut(file)
    found = Checked()
    try:
        with _opened(file) as connection:
            for key, raw, updated_at in _rows(connection, file):
                _add(found, key, raw, updated_at, repair=repair)
    except sqlite3.DatabaseError as error:
        raise CommandError(f"cannot read {_name(file)}: {error}", f"nothing was imported; {_STOP}") from None
    if not os.path.exists(f"{file}-shm") and _stamps(file) != before:
        raise CommandError(f"{_name(file)} changed while it was read; nothing was imported", _STOP)
    return found


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open the database in the way that makes no file beside it.

    Without a log it is one immutable file. With a log the newest sessions are in there: SQLite reads it by its -shm
    file, and would make one; so a log without one is read from a copy.
    """
    import tempfile

    if not _has_log(file):
        with _connected(file, "mode=ro&immutable=1") as connection:
            yield connection
    elif os.path.exists(f"{file}-shm"):
        with _connected(file, "mode=ro") as connection:
            yield connection
    else:
        with tempfile.TemporaryDirectory() as place, _connected(_copy(file, Path(place)), "mode=rw") as connection:
            yield connection


@contextmanager
def _connected(file: Path, how: str) -> Iterator[sqlite3.Connection]:
    import sqlite3

    with closing(sqlite3.connect(f"file:{quote(str(file.absolute()))}?{how}", uri=True, timeout=_BUSY_S)) as connection:
        connection.text_factory = bytes  # what is no UTF-8 is one odd entry, not the end of the import
        yield connection


def _copy(file: Path, place: Path) -> Path:
    """Copy the database and its log; a change meanwhile shows in the stamps."""
    import shutil

    for end in ("", *_LOGS):
        if os.path.exists(f"{file}{end}"):
            shutil.copyfile(f"{file}{end}", place / f"{_COPY}{end}")
    return place / _COPY


def _has_log(file: Path) -> bool:
    """Return whether there is a write-ahead log or a rollback journal with something in it."""
    return any(os.path.exists(f"{file}{end}") and os.path.getsize(f"{file}{end}") for end in _LOGS)


def _stamps(file: Path) -> list[tuple[int, int]]:
    """Return size and time of the database and its logs, which change when somebody writes. Raises CommandError."""
    try:
        found = [os.stat(f"{file}{end}") for end in ("", *_LOGS) if not end or os.path.exists(f"{file}{end}")]
    except OSError as error:
        hint = "check the path and who may read it"
        raise CommandError(f"cannot read {_name(file)}: {error.strerror}", hint) from None
    return [(status.st_size, status.st_mtime_ns) for status in found]


def _refuse_cut(file: Path) -> None:
    """Raise CommandError if the file is shorter than its header says: SQLite would silently read the rest."""
    with file.open("rb") as opened:
        header = opened.read(_HEADER_BYTES)
    if len(header) == _HEADER_BYTES and header[24:28] == header[92:96]:  # else the number of pages is not kept up
        page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
        if (65_536 if page == 1 else page) * pages > file.stat().st_size:
            hint = "nothing was imported; take OpenClaw's last backup"
            raise CommandError(f"{_name(file)} is damaged: its end is missing", hint)


def _rows(connection: sqlite3.Connection, file: Path) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (key, entry's text, time) in the order of the keys. Raises CommandError for another program's database."""
    columns = {row[1].decode() for row in connection.execute(f"PRAGMA table_info({_TABLE})")}
    if not columns >= _NEEDED:
        hint = "nothing was imported; name the agent's openclaw-agent.sqlite, or a sessions.json"
        raise CommandError(f"{_name(file)} holds no table {_TABLE} as OpenClaw makes it", hint)
    moment = "updated_at" if "updated_at" in columns else "NULL"
    query = f"SELECT session_key, entry_json, {moment} FROM {_TABLE} ORDER BY session_key"  # noqa: S608  # our own words
    yield from connection.execute(query)


def _add(found: Checked, key: Any, raw: Any, updated_at: Any, *, repair: bool) -> None:
    name, text = _shown(key), _shown(raw)
    try:
        name = _text(key)
        value = None if raw is None else json.loads(_text(raw), object_pairs_hook=unique)
    except RecursionError:
        found.odd.append(Odd(name, "entry", "nested too deeply", text))
    except ValueError as error:
        found.odd.append(Odd(name, "entry", f"no JSON: {error}", text))
    else:
        moment = updated_at.decode(errors="replace") if isinstance(updated_at, bytes) else updated_at
        found.add(name, value, text, repair=repair, updated_at=moment)


def _text(raw: Any) -> str:
    """Return the text that a column holds. Raises ValueError for anything else."""
    if not isinstance(raw, bytes):
        raise ValueError(f"{type(raw).__name__} in place of a text")  # noqa: TRY004  # as for text that is no UTF-8
    return raw.decode()


def _shown(raw: Any) -> str:
    """Return a column's value as text, for people and for the file of skipped entries."""
    if isinstance(raw, bytes):
        return raw.decode(errors="backslashreplace")
    return "null" if raw is None else str(raw)


def _name(path: Path) -> str:
    return escape.text(os.fspath(path))
