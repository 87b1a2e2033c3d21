"""Which fields of a session stand in its row, for lists: the same in every engine that keeps rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shardstore import _codec as codec
from shardstore._order import sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable

FIELDS_BYTES_MAX: Final = 4096  # of all values in a row together, as a JSON object
VALUE_BYTES_MAX: Final = 256  # of one value, as JSON, that is shown unasked, or held of a larger entry
CUT_BYTES_MAX: Final = 512  # of the list of those that are left out
CUT_ANY: Final = b"*"  # instead of that list where it would be longer


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
            small = self._fitting(small)
            fields = codec.join(small)
        cut = codec.kept([name for name in entry if name not in small])
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
