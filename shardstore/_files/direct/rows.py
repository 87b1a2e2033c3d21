"""From a shard's state to what the catalog holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._files.layout import HASH_HEX, SUFFIX, is_shard_of
from shardstore._row import CUT_BYTES_MAX, FIELDS_BYTES_MAX, VALUE_BYTES_MAX, Projection, Row

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from shardstore._journal.replay import Journal

NO_FILE: Final = "no file"
INTEGER_MAX: Final = (1 << 63) - 1  # of SQLite; inode numbers, and times beyond the year 2262, are larger
_SPREAD: Final = 0x9E3779B97F4A7C15  # odd, so that two inodes and two times give one number by chance alone


class SessionRow(NamedTuple):
    """A session as the catalog holds it."""

    name: str  # of its shard
    row: Row
    live: int  # bytes of its entry and of its log
    end: int  # bytes of its files
    columns: tuple[bytes | None, ...]  # the sort keys of the indexed fields; None: absent
    fingerprint: int = 0  # of its file, where that was read under its lock


class NoSession(NamedTuple):
    """A shard that is no session."""

    name: str
    kind: str  # "absent", "damaged"
    reason: str
    fingerprint: int = 0


class Busy(NamedTuple):
    """A shard whose content is not known: a writer is inside, or this process may not read it."""

    name: str
    kind: str  # "in use", "unreadable"
    reason: str


Found = SessionRow | NoSession | Busy


def is_damaged(found: Found) -> bool:
    """Return whether a session may be missing from a list because its shard could not be read."""
    return not isinstance(found, SessionRow) and found.kind in ("damaged", "unreadable")


def fingerprint_of(status: os.stat_result) -> int:
    """Return a number by which a file is known that nobody marked as changed: of its inode and its time."""
    return (status.st_ino * _SPREAD ^ status.st_mtime_ns) & INTEGER_MAX


def digest_of(name: str) -> bytes:
    """Return the digest of the key that a shard's name carries."""
    return bytes.fromhex(name[-HASH_HEX - len(SUFFIX) : -len(SUFFIX)])


class ShardProjection(Projection):
    """From a shard to its row."""

    __slots__ = ("settings",)

    def __init__(self, indexed: Iterable[str] | None) -> None:
        super().__init__(indexed)
        # A catalog that was made with others is rebuilt.
        self.settings = codec.dumps([VALUE_BYTES_MAX, FIELDS_BYTES_MAX, CUT_BYTES_MAX, *self.indexed]).decode()

    def of_journal(self, name: str, journal: Journal) -> SessionRow | NoSession:
        """Return what the catalog holds of a shard with this journal."""
        state = journal.state
        key, log = state.key, state.log
        if key is not None and not is_shard_of(name, key):
            return NoSession(name, "damaged", f"byte 0: the file belongs to session {key!r}")
        if state.fields is None or key is None:
            return NoSession(name, "absent", "deleted" if journal.records else "empty")
        held, columns = self.held(state.fields, state.size), self.columns(state.fields)
        row = Row(key, state.rev, state.version, state.created_at, state.updated_at, state.size, log.length, *held)
        settled = log.settled.end
        return SessionRow(name, row, state.size + log.bytes + settled, journal.end + settled, columns)
