"""OpenClaw's sessions.json: find it, read it without touching it, write it.

The file is one JSON object, session key -> entry, indented by two spaces. Everything is checked before the first
entry is handed out: half a source is worse than none.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from shardstore import _codec as codec
from shardstore import _keys
from shardstore.errors import InvalidEntry, InvalidKey

from . import show
from .exits import CommandError
from .parse import strict_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FILE = "sessions.json"
DATABASE = "openclaw-agent.sqlite"
_SQLITE_MAGIC = b"SQLite format 3\0"
_MOVED = (
    "this OpenClaw keeps its sessions in a database since 2026.8; what its migration left in sessions.json "
    "may be imported by naming that file itself"
)


@dataclass(frozen=True)
class Source:
    """A sessions.json that was read and found whole. `warning` is empty or for a person."""

    path: Path
    entries: dict[str, dict[str, Any]]
    warning: str = ""


def read(path: Path) -> Source:
    """Read the sessions.json at `path`, a file or its directory. Raises CommandError; writes nothing anywhere."""
    file = _locate(path)
    raw = _read_unchanged(file)
    if raw.startswith(_SQLITE_MAGIC):
        raise CommandError(f"{_name(file)} is an SQLite database, not a sessions.json", _MOVED)
    entries = _parse(raw, file)
    for key, entry in entries.items():
        _check(key, entry, file)
    database = _database_near(file.parent)
    warning = f"{_name(database)} is there: newer sessions may be in it" if database else ""
    return Source(file, entries, warning)


def _locate(path: Path) -> Path:
    """Find the file in a directory: an agent's, or its sessions directory."""
    if not path.is_dir():
        if path.name == DATABASE and path.exists():
            raise CommandError(f"{_name(path)} is OpenClaw's database, not a sessions.json", _MOVED)
        return path
    database = _database_near(path)
    if database:
        raise CommandError(f"{_name(path)} belongs to {_name(database)}", _MOVED)
    for file in (path / FILE, path / "sessions" / FILE):
        if file.exists():
            return file
    raise CommandError(f"no {FILE} in {_name(path)}", "give the file, or the directory that contains it")


def _database_near(directory: Path) -> Path | None:
    """Find the database that newer versions keep beside, or in `agent/` next to, the sessions directory."""
    near = (directory, directory / "agent", directory.parent / "agent")
    return next((folder / DATABASE for folder in near if (folder / DATABASE).exists()), None)


def _read_unchanged(file: Path) -> bytes:
    """Read the whole file; refuse one that changes meanwhile, which its host rewrites in place or replaces."""
    try:
        with file.open("rb") as opened:
            before = os.fstat(opened.fileno())
            raw = opened.read()
            after = os.fstat(opened.fileno())
    except OSError as error:
        raise CommandError(
            f"cannot read {_name(file)}: {error.strerror}", "check the path and who may read it"
        ) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(raw) != after.st_size:
        raise CommandError(
            f"{_name(file)} changed while it was read; nothing was imported", "stop OpenClaw and try again"
        )
    return raw


def _parse(raw: bytes, file: Path) -> dict[str, Any]:
    """Parse the file as the one object it must be."""
    if not raw.strip():
        raise _damaged(file, "the file is empty")
    try:
        entries = strict_json(raw.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise _damaged(file, f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise _damaged(file, f"byte {error.start} is not UTF-8") from None
    except ValueError as error:
        raise _damaged(file, str(error)) from None
    if not isinstance(entries, dict):
        raise _damaged(file, "it should hold one object, session key -> entry")
    return entries


def _check(key: str, entry: Any, file: Path) -> None:
    """Make sure that the store will take this session, exactly as it is."""
    if not isinstance(entry, dict):
        raise _damaged(file, f"session {key!r} is not an object")
    try:
        _keys.check_key(key)
        codec.encode_entry(entry)
    except (InvalidKey, InvalidEntry) as error:
        raise _damaged(file, f"session {key!r}: {error}") from None


def _damaged(file: Path, reason: str) -> CommandError:
    hint = "nothing was imported; if OpenClaw is running, stop it and try again, or take its last backup"
    return CommandError(f"{_name(file)} is damaged or half written: {show.text(reason)}", hint)


def _name(path: Path) -> str:
    return show.text(os.fspath(path))


def write(entries: Iterable[tuple[str, Mapping[str, Any]]], out: BinaryIO) -> int:
    """Write a sessions.json, entry by entry; return how many."""
    count = 0
    for key, entry in entries:
        text = json.dumps(entry, ensure_ascii=False, indent=2).replace("\n", "\n  ")
        out.write(b"{\n  " if count == 0 else b",\n  ")
        out.write(f"{json.dumps(key, ensure_ascii=False)}: {text}".encode())
        count += 1
    out.write(b"\n}\n" if count else b"{}\n")
    return count


@contextmanager
def replacing(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Open a file (0600) that takes the place of `path` once it is whole. Raises CommandError if `path` is there."""
    if not force and os.path.lexists(path):
        raise CommandError(f"{_name(path)} exists already", "--force replaces it")
    # Made with mode 0600.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temp:
        try:
            yield temp  # type: ignore[misc]
            temp.flush()
            os.fsync(temp.fileno())
            _move(Path(temp.name), path, force=force)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temp.name)
            raise


def _move(temp: Path, path: Path, *, force: bool) -> None:
    """Put the finished file in place; without `force`, link refuses a file that has appeared meanwhile."""
    if force:
        temp.replace(path)
        return
    try:
        path.hardlink_to(temp)
    except FileExistsError:
        raise CommandError(f"{_name(path)} exists already", "--force replaces it") from None
    temp.unlink()
