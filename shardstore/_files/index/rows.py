"""From a shard's journal to its row in the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._files.layout import HASH_HEX, SUFFIX, shard_name
from shardstore._journal import replay as journal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardstore._journal.replay import Journal

VALUE_BYTES_MAX: Final = 256  # of one projected value, as JSON
FIELDS_BYTES_MAX: Final = 4096  # of all projected fields together, as a JSON object
CUT_BYTES_MAX: Final = 512  # of the list of those that are not projected
CUT_ANY: Final = b"*"  # instead of that list where it would be longer


class Row(NamedTuple):
    """What the index holds of a session."""

    digest: bytes  # of the key: what the shard is named by
    key: str
    rev: int
    version: str
    created: int  # microseconds since the epoch
    updated: int  # microseconds since the epoch
    size: int  # bytes of the entry as compact JSON
    end: int  # bytes of the journal
    fields: bytes  # the projected fields: a JSON object as codec.dumps makes it
    cut: bytes | None  # JSON list of the fields that the bounds kept out, or CUT_ANY; None: there are none


class Other(NamedTuple):
    """What the index holds of a shard that is no session."""

    name: str
    kind: str  # "absent", "damaged"
    reason: str


def digest_of(name: str) -> bytes:
    """Give the digest that a shard's name carries."""
    return bytes.fromhex(name[-HASH_HEX - len(SUFFIX) : -len(SUFFIX)])


class Projection:
    """Which fields of an entry go into its row: the named ones first, then the others, as far as the bounds allow."""

    __slots__ = ("_first", "digest")

    def __init__(self, names: Iterable[str] | None) -> None:
        from hashlib import blake2b

        self._first = tuple(names or ())
        bounds = [VALUE_BYTES_MAX, FIELDS_BYTES_MAX, CUT_BYTES_MAX, *self._first]
        self.digest = blake2b(codec.dumps(bounds), digest_size=16).digest()

    def of_raw(self, entry: dict[str, bytes]) -> tuple[bytes, bytes | None]:
        """Project an entry given as raw JSON by field; return the fields and the names that were cut."""
        if not self._first:
            fields = codec.join({name: raw for name, raw in entry.items() if len(raw) <= VALUE_BYTES_MAX})
            if len(fields) <= FIELDS_BYTES_MAX:
                return fields, _cut_list([name for name, raw in entry.items() if len(raw) > VALUE_BYTES_MAX])
        parts: list[bytes] = []
        cut: list[str] = []
        total = 1  # "{" and, for each field, its closing comma or brace
        for name in self._ordered(entry):
            raw = entry[name]
            part = codec.member(name) + raw
            if len(raw) > VALUE_BYTES_MAX or total + len(part) + 1 > FIELDS_BYTES_MAX:
                cut.append(name)
            else:
                parts.append(part)
                total += len(part) + 1
        return b"{" + b",".join(parts) + b"}", _cut_list(cut)

    def _ordered(self, entry: dict[str, bytes]) -> Iterable[str]:
        if not self._first:
            return entry
        first = [name for name in self._first if name in entry]
        return [*first, *(name for name in entry if name not in first)]


def _cut_list(names: list[str]) -> bytes | None:
    if not names:
        return None
    raw = codec.dumps(names)
    return raw if len(raw) <= CUT_BYTES_MAX else CUT_ANY


def row_of_state(name: str, read: Journal, projection: Projection) -> Row | Other:
    """Make the row of a shard's state, as read from the shard `name`."""
    return _misplaced(name, read.state.key) or row_of_own(name, read, projection)


def row_of_own(name: str, read: Journal, projection: Projection) -> Row | Other:
    """Make the row of a state whose key is known to be the one that the shard is named by."""
    state = read.state
    if state.fields is None or state.key is None:
        return Other(name, "absent", "deleted" if read.records else "empty")
    fields, cut = projection.of_raw(state.fields)
    return Row(
        digest_of(name), state.key, state.rev, state.version, state.created_at, state.updated_at,
        state.size, read.end, fields, cut,
    )  # fmt: skip


def row_of_bytes(name: str, data: bytes, projection: Projection) -> Row | Other:
    """Make the row of a shard from the bytes of its file: what journal.replay and row_of_state make."""
    found = journal.replay(data)
    if found.damage is not None:
        return Other(name, "damaged", f"byte {found.damage.offset}: {found.damage.reason}")
    return row_of_state(name, found.journal, projection)


def _misplaced(name: str, key: str | None) -> Other | None:
    """Say what is wrong with a shard that claims a key which is not its own."""
    if key is None:
        return None
    try:
        if shard_name(key) == name:
            return None
    except ValueError:
        pass
    return Other(name, "damaged", f"the file belongs to session {key!r}")
