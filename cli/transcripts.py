"""OpenClaw's transcripts: a file of JSON lines beside sessions.json for each session, which becomes the session's log.

A session's entry names its transcript by `sessionFile`, or by `sessionId`; where neither is a usable name, its key
does. Everything is checked before anything is written, as for sessions.json itself.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from shardstore import _codec as codec
from shardstore.draft import Draft
from shardstore.errors import InvalidEntry

from . import escape, show
from .exits import CommandError
from .openclaw_entries import Odd, Replaced, repaired
from .parse import strict_json
from .transcript_files import checksum, given_ids, ids_line, ids_of, names, own_id

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from pathlib import Path

    from shardstore import Session, Store

_MICROSECONDS = 1_000_000
_BATCH = 256  # items that are read at a time


class Line(NamedTuple):
    """One item of a transcript."""

    raw: bytes
    id: str
    at: int  # microseconds since the epoch; 0: it does not say


class Transcript(NamedTuple):
    """A transcript that was read, and the lines that no log can hold."""

    lines: list[Line]
    odd: list[Odd]
    replaced: list[Replaced]


def find(sessions: Path, key: str, entry: dict[str, Any]) -> Path | None:
    """Return the transcript of a session beside its sessions.json; None where there is none."""
    paths = [sessions.parent / name for name in names(key, entry)]
    return next((path for path in paths if path.is_file() and not path.is_symlink()), None)


def read(path: Path, key: str, *, repair: bool) -> Transcript:
    """Read a transcript, and the ids beside it; `repair` puts U+FFFD for halves of surrogate pairs.

    Writes nothing anywhere. Raises CommandError where a file cannot be read.
    """
    found = Transcript([], [], [])
    places: list[tuple[int, bytes, str | None]] = []  # number, text and own id of each line
    for number, text in enumerate(_bytes(path).split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            value, replaced = _value(text, f"{path}, line {number}", key, repair=repair)
            found.lines.append(Line(codec.encode_item(value, "item"), "", _moment(value)))
        except (ValueError, InvalidEntry) as error:
            found.odd.append(Odd(key, str(path), str(error), text.decode(errors="backslashreplace"), line=number))
            continue
        found.replaced.extend(replaced)
        places.append((number, text, own_id(value)))
    given = given_ids(path)
    ids = ids_of(
        [own for _, _, own in places],
        [number for number, _, _ in places],
        [given.get((number, checksum(text))) if given else None for number, text, _ in places],
    )
    return found._replace(lines=[line._replace(id=name) for line, name in zip(found.lines, ids, strict=True)])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {show.text(os.fspath(path))}: {error.strerror}") from None


def _value(text: bytes, where: str, key: str, *, repair: bool) -> tuple[Any, list[Replaced]]:
    """Return the value of a line, and the places that were repaired in it. Raises ValueError, InvalidEntry."""
    try:
        value = strict_json(text.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    replaced: list[Replaced] = []
    return (repaired(value, where, key, replaced) if repair else value), replaced


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
        present = since or time.time_ns() // 1000
        for line in lines:  # each with a time: what an append may hold is no limit of what was there before
            draft.log.add_encoded(line.raw, line.id, at=line.at or present, actor="import:openclaw")
        change = draft.change()
        if change is not None:
            txn.commit(change, "import:openclaw", durable=store.durability == "commit", at=since)
        return made


def missing(session: Session | None, lines: list[Line]) -> int:
    """Return how many lines a session's log does not have."""
    return len(lines) if session is None else sum(session.log.find(line.id) is None for line in lines)


# Writing


def file_name(key: str, entry: dict[str, Any]) -> str:
    """Return the name of the transcript that an export writes for a session: the one that an import looks for first."""
    return next(iter(names(key, entry)), "session.jsonl")


def first_of(key: str, entry: dict[str, Any], written: Container[str]) -> str | None:
    """Return the transcript that an import finds for a session among those that were written."""
    return next((name for name in names(key, entry) if name in written), None)


def as_lines(session: Session) -> Iterator[tuple[bytes, str | None]]:
    """Yield each line of the transcript that an export writes, and the item's id."""
    for start in range(0, len(session.log), _BATCH):
        for item in session.log.entries(start, start + _BATCH):
            yield escape.json_bytes(codec.dumps(item.value)) + b"\n", item.id


def ids_beside(session: Session) -> list[bytes]:
    """Return the lines of the file that keeps the ids; none where an import finds the same ones without it.

    An item without an id gets one at an import, so that a second import does not add it again.
    """
    own, sums, actual = [], [], []
    for text, name in as_lines(session):
        own.append(own_id(codec.loads(text)))
        sums.append(checksum(text))
        actual.append(name)
    numbers = range(1, len(actual) + 1)
    found = ids_of(own, numbers, [None] * len(actual))
    if all(name in (None, mine) for name, mine in zip(actual, found, strict=True)):
        return []
    return [ids_line(n, crc, name) for n, crc, name in zip(numbers, sums, actual, strict=True) if name is not None]


def same(one: Session, other: Session) -> bool:
    """Return whether both sessions have the same transcript."""
    if len(one.log) != len(other.log):
        return False
    return all(mine == its for mine, its in zip(as_lines(one), as_lines(other), strict=True))
