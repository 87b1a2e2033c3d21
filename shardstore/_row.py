"""The row of a session: what a list shows, filters and orders by. Every engine chooses the same fields for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._order import sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable

FIELDS_BYTES_MAX: Final = 4096  # of all values in a row together, as a JSON object
VALUE_BYTES_MAX: Final = 256  # of one value, as JSON, that is shown unasked, or held of a larger entry
CUT_BYTES_MAX: Final = 512  # of the list of those that are left out
CUT_ANY: Final = b"*"  # instead of that list where it would be longer

Position = int | str | bytes | None  # the value of a row's order: its column, or a field's sort key; None: absent

COLUMNS: Final = {
    "key": "key", "updated_at": "updated", "created_at": "created", "size": "size", "rev": "rev",
    "log_length": "log_length",
}  # fmt: skip


class Row(NamedTuple):
    """What an engine keeps of a session for lists."""

    key: str
    rev: int
    version: str
    created: int  # in the unit of State.created_at, like updated
    updated: int
    size: int  # bytes of the entry as compact JSON
    log_length: int  # items of the log
    fields: bytes  # fields of the entry: a JSON object
    cut: bytes | None = None  # which fields are not in it, as the engine knows it; None: none
    hidden: bytes | None = None  # a JSON list of those in it that a list shows only when asked; None: none


class PackedRow(NamedTuple):
    """A row as the catalog stores it. A list returns many that nobody looks at, so it is unpacked on first use."""

    key: str
    position: Position
    packed: bytes

    @property
    def row(self) -> Row:
        """What it says."""
        facts, _, fields = self.packed.partition(b"\n")
        rev, version, created, updated, size, log_length, *texts = codec.loads(facts)
        cut, hidden = [None if text is None else text.encode() for text in texts]
        return Row(self.key, rev, version, created, updated, size, log_length, fields, cut, hidden)


def pack(row: Row) -> bytes:
    """Return what a PackedRow holds of a row: a JSON list, a newline, and the fields. JSON holds no newline."""
    texts = [None if text is None else text.decode() for text in (row.cut, row.hidden)]
    return codec.dumps([*row[1:7], *texts]) + b"\n" + row.fields


class Candidate(NamedTuple):
    """A row, and its place in the order."""

    row: Row
    position: Position

    @property
    def key(self) -> str:
        """The session's key."""
        return self.row.key


Answer = Candidate | PackedRow


class Projection:
    """Which fields of an entry stand in its row: all of a small one; else the small ones, the indexed ones first."""

    __slots__ = ("indexed",)

    def __init__(self, indexed: Iterable[str] | None) -> None:
        self.indexed = tuple(indexed or ())

    def columns(self, entry: dict[str, bytes]) -> tuple[bytes | None, ...]:
        """Return the sort keys of the indexed fields; None: absent."""
        return tuple([sort_key(codec.loads(entry[name])) if name in entry else None for name in self.indexed])

    def held(self, entry: dict[str, bytes], size: int) -> tuple[bytes, bytes | None, bytes | None]:
        """Return the fields that a row holds, the names of the others, and the names of those that it hides."""
        large = [name for name, raw in entry.items() if len(raw) > VALUE_BYTES_MAX]
        if size <= FIELDS_BYTES_MAX:
            return codec.join(entry), None, codec.kept(large) if large else None
        small = {name: raw for name, raw in entry.items() if len(raw) <= VALUE_BYTES_MAX}
        fields = codec.join(small)
        if len(fields) > FIELDS_BYTES_MAX:
            small = fitting({name: small[name] for name in (*self.indexed, *small) if name in small})
            fields = codec.join(small)
        cut = codec.kept([name for name in entry if name not in small])
        return fields, cut if len(cut) <= CUT_BYTES_MAX else CUT_ANY, None


def fitting(small: dict[str, bytes]) -> dict[str, bytes]:
    """Return the fields that there is room for; earlier ones come before later ones."""
    chosen: dict[str, bytes] = {}
    room = FIELDS_BYTES_MAX - 1  # for the opening brace; each field has a comma or the closing brace behind it
    for name, raw in small.items():
        need = len(codec.member(name)) + len(raw) + 1
        if need <= room:
            chosen[name] = raw
            room -= need
    return chosen


def lacks(cut: bytes | None, name: str) -> bool:
    """Return whether a field of this name may be among those that were left out of a row."""
    return cut is not None and (cut == CUT_ANY or codec.dumps(name) in cut)
