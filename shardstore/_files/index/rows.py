"""From a shard's bytes to its row in the index.

Two ways to one result (tests/index/test_rows.py compares them). `row_of_state` takes the state as get and update know
it: the truth, for any journal. A rebuild and a refresh read each shard once and want nothing but the row; for the plain
journals that most are, `_row_of_plain_journal` makes it from the lines, without a state of raw fields in between: half
the time for an entry of 1 KB, no gain for a large one. What it is not sure of it leaves to the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._files.layout import HASH_HEX, SUFFIX, shard_name
from shardstore._journal import record
from shardstore._journal import replay as journal
from shardstore._journal.replay import State

if TYPE_CHECKING:
    from collections.abc import Iterable

VALUE_BYTES_MAX: Final = 256  # of one projected value, as JSON
FIELDS_BYTES_MAX: Final = 4096  # of all projected fields together, as a JSON object
CUT_BYTES_MAX: Final = 512  # of the list of those that are not projected
CUT_ANY: Final = b"*"  # instead of that list where it would be longer
_SHORT_TEXT: Final = VALUE_BYTES_MAX // 6 - 1  # characters whose JSON is within the bound, however they are escaped
_CONTAINERS: Final = frozenset({dict, list})


class Row(NamedTuple):
    """What the index holds of a session."""

    digest: bytes  # of the key: what the shard is named by
    key: str
    rev: int
    version: str
    created: int  # milliseconds since the epoch
    updated: int  # milliseconds since the epoch
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

    def of_values(self, entry: dict[str, Any]) -> tuple[bytes, bytes | None, int]:
        """Project a decoded entry, to the same result; return the entry's size as well."""
        large = _large(entry)
        few = entry.copy() if large else entry
        for name in large:
            del few[name]
        fields = codec.dumps(few)
        size = len(fields) + sum(length + len(codec.member(name)) + 1 for name, length in large.items())
        if large and not few:
            size -= 1  # the first member has no comma before it
        if self._first or len(fields) > FIELDS_BYTES_MAX:
            return *self.of_raw({name: codec.dumps(value) for name, value in entry.items()}), size
        return fields, _cut_list(list(large)), size

    def _ordered(self, entry: dict[str, bytes]) -> Iterable[str]:
        if not self._first:
            return entry
        first = [name for name in self._first if name in entry]
        return [*first, *(name for name in entry if name not in first)]


def _large(entry: dict[str, Any]) -> dict[str, int]:
    """Give the fields whose values are too large to be projected, with the bytes of each value as JSON."""
    unsure = [
        (name, value)
        for name, value in entry.items()
        if (len(value) > _SHORT_TEXT if type(value) is str else type(value) in _CONTAINERS)
    ]
    return {name: size for name, value in unsure if (size := len(codec.dumps(value))) > VALUE_BYTES_MAX}


def _cut_list(names: list[str]) -> bytes | None:
    if not names:
        return None
    raw = codec.dumps(names)
    return raw if len(raw) <= CUT_BYTES_MAX else CUT_ANY


def row_of_state(name: str, state: State, projection: Projection) -> Row | Other:
    """Make the row of a shard's state, as read from the shard `name`."""
    return _misplaced(name, state.key) or row_of_own(name, state, projection)


def row_of_own(name: str, state: State, projection: Projection) -> Row | Other:
    """Make the row of a state whose key is known to be the one that the shard is named by."""
    if state.fields is None or state.key is None:
        return Other(name, "absent", "deleted" if state.records else "empty")
    fields, cut = projection.of_raw(state.fields)
    return Row(
        digest_of(name), state.key, state.rev, state.version, state.created_at, state.updated_at,
        state.size, state.end, fields, cut,
    )  # fmt: skip


def row_of_bytes(name: str, data: bytes, projection: Projection) -> Row | Other:
    """Make the row of a shard from the bytes of its file: what journal.replay and row_of_state make, quicker."""
    row = _row_of_plain_journal(name, data, projection)
    if row is not None:
        return row
    found = journal.replay(data)
    if found.damage is not None:
        return Other(name, "damaged", f"byte {found.damage.offset}: {found.damage.reason}")
    return row_of_state(name, found.state, projection)


def _row_of_plain_journal(name: str, data: bytes, projection: Projection) -> Row | None:
    """Make the row of a journal that is one `put`, changes after it and room, as most are; None for any other."""
    stop = data.find(b"\n")
    first = record.parse(data[:stop]) if stop > 0 else ""
    if isinstance(first, str) or first.id is None or first.key is None or first.put is None:
        return None
    entry, rev, at = first.put, first.rev, first.at
    start = stop + 1
    while (stop := data.find(b"\n", start)) > start:
        change = record.parse(data[start:stop])
        if isinstance(change, str) or change.put is not None or change.delete or change.id is not None:
            return None
        if change.rev != rev + 1 or change.at < at:
            return None
        for field in change.unset or ():
            entry.pop(field, None)
        entry.update(change.set or ())
        rev, at, start = change.rev, change.at, stop + 1
    room = data[start:]
    if room != b"\n" * len(room) or _misplaced(name, first.key) is not None:
        return None  # compared, not counted: counting what is everywhere takes longer than all the rest
    fields, cut, size = projection.of_values(entry)
    created = first.at if first.created is None else first.created
    version = State(incarnation=first.id, rev=rev).version
    return Row(digest_of(name), first.key, rev, version, created, at, size, start, fields, cut)


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
