"""From a shard's state to what the catalog holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._files.layout import HASH_HEX, SUFFIX, is_shard_of
from shardstore._order import sort_key
from shardstore.session import Row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardstore._journal.replay import Journal

FIELDS_BYTES_MAX: Final = 4096  # of all values in a row together, as a JSON object
VALUE_BYTES_MAX: Final = 256  # of one value, as JSON, that is shown unasked, or held of a larger entry
CUT_BYTES_MAX: Final = 512  # of the list of those that are left out
CUT_ANY: Final = b"*"  # instead of that list where it would be longer
NO_FILE: Final = "no file"


class Indexed(NamedTuple):
    """A session as the catalog holds it."""

    name: str  # of its shard
    row: Row
    live: int  # bytes of its entry and of its log
    end: int  # bytes of its files
    columns: tuple[bytes | None, ...]  # the sort keys of the indexed fields; None: absent


class Other(NamedTuple):
    """A shard that is no session."""

    name: str
    kind: str  # "absent", "damaged"
    reason: str


class Busy(NamedTuple):
    """A shard whose content is not known: a writer is inside, or this process may not read it."""

    name: str
    kind: str  # "in use", "unreadable"
    reason: str


Found = Indexed | Other | Busy


def is_damaged(found: Found) -> bool:
    """Return whether a session may be missing from a list because its shard could not be read."""
    return not isinstance(found, Indexed) and found.kind in ("damaged", "unreadable")


def digest_of(name: str) -> bytes:
    """Return the digest of the key that a shard's name carries."""
    return bytes.fromhex(name[-HASH_HEX - len(SUFFIX) : -len(SUFFIX)])


class Projection:
    """Which fields of an entry stand in its row: all of a small one; else the small ones, the indexed ones first."""

    __slots__ = ("indexed", "settings")

    def __init__(self, indexed: Iterable[str] | None) -> None:
        self.indexed = tuple(indexed or ())
        # A catalog that was made with others is made anew.
        self.settings = codec.dumps([VALUE_BYTES_MAX, FIELDS_BYTES_MAX, CUT_BYTES_MAX, *self.indexed]).decode()

    def of_journal(self, name: str, journal: Journal) -> Indexed | Other:
        """Return what the catalog holds of a shard with this journal."""
        state = journal.state
        if state.key is not None and not is_shard_of(name, state.key):
            return Other(name, "damaged", f"byte 0: the file belongs to session {state.key!r}")
        if state.fields is None or state.key is None:
            return Other(name, "absent", "deleted" if journal.records else "empty")
        facts = (state.key, state.rev, state.version, state.created_at, state.updated_at, state.size, state.log_length)
        row = Row(*facts, *self._held(state.fields, state.size))
        columns = self._columns(state.fields) if self.indexed else ()
        settled = state.log.settled.end
        return Indexed(name, row, state.size + state.log.bytes + settled, journal.end + settled, columns)

    def _columns(self, entry: dict[str, bytes]) -> tuple[bytes | None, ...]:
        return tuple([sort_key(codec.loads(entry[name])) if name in entry else None for name in self.indexed])

    def _held(self, entry: dict[str, bytes], size: int) -> tuple[bytes, bytes | None, bytes | None]:
        """Return the fields that a row holds, the names of the others, and the names of those that it hides."""
        large = [name for name, raw in entry.items() if len(raw) > VALUE_BYTES_MAX]
        if size <= FIELDS_BYTES_MAX:
            return codec.join(entry), None, codec.dumps(large) if large else None
        small = {name: raw for name, raw in entry.items() if len(raw) <= VALUE_BYTES_MAX}
        fields = codec.join(small)
        if len(fields) > FIELDS_BYTES_MAX:
            small = self._fitting(small)
            fields = codec.join(small)
        cut = codec.dumps([name for name in entry if name not in small])
        return fields, cut if len(cut) <= CUT_BYTES_MAX else CUT_ANY, None

    def _fitting(self, small: dict[str, bytes]) -> dict[str, bytes]:
        """Return as many fields as there is room for, the indexed ones first."""
        chosen: dict[str, bytes] = {}
        room = FIELDS_BYTES_MAX - 1  # for the opening brace; each field has a comma or the closing brace behind it
        for name in dict.fromkeys([*(name for name in self.indexed if name in small), *small]):
            need = len(codec.member(name)) + len(small[name]) + 1
            if need <= room:
                chosen[name] = small[name]
                room -= need
        return chosen


def lacks(cut: bytes | None, name: str) -> bool:
    """Return whether a field of this name may be among those that were left out of a row."""
    return cut is not None and (cut == CUT_ANY or codec.dumps(name) in cut)
