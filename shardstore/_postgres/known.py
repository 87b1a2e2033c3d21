"""A session's journal as one process knows it, and reading the lines that were added."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore._inside import FifoMutex
from shardstore._journal.replay import EMPTY, Journal, replay
from shardstore._keys import check_key
from shardstore._postgres.values import number
from shardstore.errors import CorruptShard

if TYPE_CHECKING:
    from shardstore._model import State

    Rows = list[tuple[bytes | None, ...]]


class Known(NamedTuple):
    """A journal as far as it was read or written."""

    n: int = 0  # the number of its last line
    journal: Journal = EMPTY

    @property
    def state(self) -> State:
        """What it leads to."""
        return self.journal.state

    @property
    def version(self) -> str:
        """The name of the content; empty where nothing is known."""
        return self.journal.state.version if self.n else ""

    def is_at(self, row: tuple[bytes | None, ...], key: str) -> bool:
        """Return whether a session's row (n, version, key, ...) belongs to the known journal."""
        return number(row[0]) == self.n and row[1] == self.version.encode() and row[2] == key.encode()

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return self.journal.state.entry_bytes + self.journal.state.log.bytes


NOTHING: Final = Known()


class Unknown(Exception):
    """The known journal is of another history: a backup was put back, or a standby took over that lacked some of it.

    The session is to be read from the beginning.
    """


class Slot:
    """One session in one process: its mutex, and its last seen state."""

    __slots__ = ("__weakref__", "id", "key", "known", "mutex")

    def __init__(self, key: str, place: str) -> None:
        """Check the key. Raises InvalidKey."""
        self.id = digest(key)
        self.key = key
        self.mutex = FifoMutex(key, place)
        self.known = NOTHING


def digest(key: str) -> bytes:
    """Return what a session is found by. Raises InvalidKey."""
    return blake2b(check_key(key), digest_size=16).digest()


def follow(rows: Rows, known: Known, slot: Slot, location: str) -> Known:
    """Return what the answer to `Statements.read` leads to. Raises CorruptShard, Unknown."""
    last, version, key = number(rows[0][0]), (rows[0][1] or b"").decode(), rows[0][2]
    lines = [(number(n), line) for *_, n, line in rows if n is not None and line is not None]
    if key is None:
        if lines:
            raise damaged(slot, location, 0, "its lines are there, its row is not")
        return NOTHING
    if key != slot.key.encode():
        raise damaged(slot, location, 0, f"the row belongs to session {key.decode()!r}")
    if not lines and (last, version) == (known.n, known.version):
        return known
    if known.n and not lines:
        raise Unknown
    start = NOTHING
    if known.n and lines and lines[0][0] == known.n:
        if lines[0][1][8:16] != known.journal.crc:
            raise Unknown
        start = known
        del lines[0]
    if not last and not lines:
        return NOTHING
    return _followed(lines, start, (last, version), slot, location)


def _followed(lines: list[tuple[int, bytes]], start: Known, row: tuple[int, str], slot: Slot, location: str) -> Known:
    found = replay(b"".join([line for _, line in lines]), start.journal)
    if found.damage is not None:
        raise damaged(slot, location, found.damage.offset, found.damage.reason)
    if found.tail:
        raise damaged(slot, location, found.journal.end, "the checksum does not match")
    after = Known(lines[-1][0] if lines else start.n, found.journal)
    if (after.n, after.version) != row:
        reason = f"its lines end with number {after.n} at {after.version}, its row is at {row}"
        raise damaged(slot, location, found.journal.end, reason)
    if after.state.key != slot.key:
        raise damaged(slot, location, 0, f"the lines belong to session {after.state.key!r}")
    return after


def damaged(slot: Slot, location: str, offset: int, reason: str) -> CorruptShard:
    """Return the error for a session that cannot be read."""
    return CorruptShard(f"{location}#{slot.id.hex()}", offset, reason, slot.key)
