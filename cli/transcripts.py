"""OpenClaw's transcripts: a file of JSON lines beside sessions.json for each session, which becomes the session's log.

A session's entry names its transcript by `sessionFile`, or by `sessionId`. Everything is checked before anything is
written, as for sessions.json itself.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from shardstore import _codec as codec
from shardstore.draft import Draft
from shardstore.errors import InvalidEntry, InvalidKey

from . import escape, show
from .exits import CommandError
from .parse import strict_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from shardstore import Session, Store

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_MICROSECONDS = 1_000_000


class Line(NamedTuple):
    """One item of a transcript."""

    raw: bytes
    id: str
    at: int  # microseconds since the epoch; 0: it does not say


def find(sessions: Path, entry: dict[str, Any]) -> Path | None:
    """Return the transcript of a session beside its sessions.json; None where there is none.

    A name that leads out of the directory is not followed.
    """
    names = [os.path.basename(str(entry.get("sessionFile") or "")), f"{entry.get('sessionId')}.jsonl"]
    for name in names:
        path = sessions.parent / name
        if _SAFE.fullmatch(name) and path.is_file() and not path.is_symlink():
            return path
    return None


def read(path: Path) -> list[Line]:
    """Read a transcript. Raises CommandError for a line that no log can hold; writes nothing anywhere."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {_name(path)}: {error.strerror}") from None
    return [_line(path, number, text) for number, text in enumerate(data.split(b"\n"), 1) if text.strip()]


def _line(path: Path, number: int, text: bytes) -> Line:
    try:
        value = strict_json(text.decode())
        raw = codec.encode_item(value, "item")
    except UnicodeDecodeError as error:
        raise _refused(path, number, f"byte {error.start} is not UTF-8") from None
    except (ValueError, InvalidEntry) as error:
        raise _refused(path, number, str(error)) from None
    own = value.get("id") if isinstance(value, dict) else None
    return Line(raw, own if isinstance(own, str) else f"line:{number}", _moment(value))


def _refused(path: Path, number: int, reason: str) -> CommandError:
    hint = "nothing was imported; mend the line, or leave the transcripts out with --no-transcripts"
    return CommandError(f"{_name(path)}, line {number}: {show.text(reason)}", hint)


def _moment(value: Any) -> int:
    """Return the time that a line says it is of: RFC 3339, or milliseconds."""
    given = value.get("timestamp") if isinstance(value, dict) else None
    if isinstance(given, str):
        try:
            return max(0, int(datetime.fromisoformat(given).timestamp() * _MICROSECONDS))
        except (ValueError, OverflowError):
            return 0
    return given * 1000 if type(given) is int and 0 < given < 10**14 else 0


def bring(store: Store, key: str, entry: dict[str, Any], lines: Iterable[Line], *, at: datetime | None) -> bool:
    """Create the session with its log in one commit, or add the lines that its log does not have; return if it was new.

    `at`: when the session last changed where it comes from. REQUIRES: the store is open for writing.
    """
    engine = store.engine
    since = None if at is None else int(at.timestamp() * _MICROSECONDS)
    with engine.transaction(key, store.lock_timeout) as txn:
        made = not txn.state.exists
        draft = Draft(key, txn.state, engine.logs)
        if made:
            draft.replace(entry)
        for line in lines:
            draft.log.add_encoded(line.raw, line.id, at=line.at, actor="import:openclaw")
        change = draft.change()
        if change is not None:
            txn.commit(change, "import:openclaw", durable=store.durability == "commit", at=since)
        return made


def missing(session: Session | None, lines: list[Line]) -> int:
    """Return how many lines a session's log does not have."""
    return len(lines) if session is None else sum(session.log.find(line.id) is None for line in lines)


def file_name(key: str, entry: dict[str, Any]) -> str:
    """Return the name of the transcript that an export writes for a session."""
    name = entry.get("sessionId")
    if isinstance(name, str) and _SAFE.fullmatch(name):
        return f"{name}.jsonl"
    try:
        from shardstore._files.layout import shard_name

        return shard_name(key).partition("/")[2]
    except InvalidKey:  # no session has such a key
        return "session.jsonl"


def as_lines(session: Session) -> Iterator[bytes]:
    """Yield the lines of the transcript that an export writes."""
    for value in session.log:
        yield escape.json_bytes(codec.dumps(value)) + b"\n"


def same(one: Session, other: Session) -> bool:
    """Return whether both sessions have the same transcript."""
    if len(one.log) != len(other.log):
        return False
    return all(mine == its for mine, its in zip(as_lines(one), as_lines(other), strict=True))


def _name(path: Path) -> str:
    return show.text(os.fspath(path))
