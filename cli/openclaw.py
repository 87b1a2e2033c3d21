"""OpenClaw's sessions: find the sessions.json or the database, read it without touching it.

Everything is checked before the first entry is handed out: half a source is worse than none.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import escape, show
from .exits import CommandError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from .openclaw_entries import Checked, Odd, Replaced

FILE = "sessions.json"
DATABASE = "openclaw-agent.sqlite"
_SQLITE_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True)
class Source:
    """A source that was read as a whole. `warning` is empty or for a person."""

    path: Path
    entries: dict[str, dict[str, Any]]
    times: dict[str, datetime]  # of the last changes, where the source tells
    odd: list[Odd]
    replaced: list[Replaced]
    transcripts: Path  # where they are left
    warning: str = ""


def read(path: Path, *, skip_invalid: bool = False, replace_invalid: bool = False) -> Source:
    """Read the source at `path`, a file or a directory of OpenClaw's. Raises CommandError; writes nothing anywhere.

    An entry that the store cannot hold is an error, or with `skip_invalid` one of `odd`; `replace_invalid` repairs
    halves of surrogate pairs first.
    """
    file = _locate(path)
    if _is_database(file):
        from . import openclaw_database

        found, transcripts, warning = openclaw_database.check(file, repair=replace_invalid), file, ""
    else:
        found, transcripts = _check_text(_read_unchanged(file), file, repair=replace_invalid), file.parent
        database = _database_near(file.parent)
        warning = f"{_name(database)} is there: newer sessions may be in it" if database else ""
    if found.odd and not skip_invalid:
        raise _refused(file, found.odd)
    return Source(file, found.entries, found.times, found.odd, found.replaced, transcripts, warning)


def _locate(path: Path) -> Path:
    """Find the file in a directory: an agent's, or its sessions directory. The database is newer where there is one."""
    if not path.is_dir():
        return path
    for file in (_database_near(path), path / FILE, path / "sessions" / FILE):
        if file is not None and file.exists():
            return file
    raise CommandError(
        f"no {FILE} in {_name(path)}, and no {DATABASE}", "name the file, or the directory that holds it"
    )


def _database_near(directory: Path) -> Path | None:
    """Find the database that newer versions keep beside, or in `agent/` next to, the sessions directory."""
    near = (directory, directory / "agent", directory.parent / "agent")
    return next((folder / DATABASE for folder in near if (folder / DATABASE).exists()), None)


def _is_database(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError:
        return False  # reading it tells why


def _read_unchanged(file: Path) -> bytes:
    """Read the whole file; refuse one that changes meanwhile, which its host rewrites in place or replaces."""
    try:
        with file.open("rb") as opened:
            before = os.fstat(opened.fileno())
            raw = opened.read()
            after = os.fstat(opened.fileno())
    except OSError as error:
        hint = "check the path and who may read it"
        raise CommandError(f"cannot read {_name(file)}: {error.strerror}", hint) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(raw) != after.st_size:
        raise CommandError(
            f"{_name(file)} changed while it was read; nothing was imported", "stop OpenClaw and try again"
        )
    return raw


def _check_text(raw: bytes, file: Path, *, repair: bool) -> Checked:
    """Check the file's entries; a file that is not one whole object is damaged."""
    from . import openclaw_text

    if not raw.strip():
        raise _damaged(file, "the file is empty")
    try:
        return openclaw_text.check(raw.decode("utf-8-sig"), repair=repair)
    except json.JSONDecodeError as error:
        raise _damaged(file, f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise _damaged(file, f"byte {error.start} is not UTF-8") from None


def _damaged(file: Path, reason: str) -> CommandError:
    hint = "nothing was imported; if OpenClaw is running, stop it and try again, or take its last backup"
    return CommandError(f"{_name(file)} is damaged or half written: {show.text(reason)}", hint)


def _refused(file: Path, odd: list[Odd]) -> CommandError:
    """Name the first entry that the store cannot hold, and the options that go on."""
    first = odd[0]
    others = f" and {show.count(len(odd) - 1, 'other')}" if len(odd) > 1 else ""
    message = f"{_name(file)}: session {show.quoted(first.key)}{others} cannot be stored: "
    hint = "nothing was imported; --skip-invalid imports the rest and keeps the skipped entries in a file"
    hint += ", --replace-invalid repairs text with a lone surrogate"
    return CommandError(f"{message}{show.cut(first.where)}: {show.text(first.reason)}", hint)


def _name(path: Path) -> str:
    return escape.text(os.fspath(path))
