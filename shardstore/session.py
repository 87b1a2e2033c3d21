"""What the verbs return: immutable snapshots. Nothing done to them reaches the store."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shardstore import _codec as codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardstore._journal.replay import State


def moment(milliseconds: int) -> datetime:
    """Turn milliseconds since the epoch into an aware datetime, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def ticks(when: datetime) -> int:
    """Turn an aware datetime into what `moment` turns back, rounded up."""
    return math.ceil(when.timestamp() * 1000)


_WHOLES_MAX, _WHOLE_BYTES_MAX = 256, 8192  # where the small fields cost more to put together than to decode
_wholes: dict[int, tuple[dict[str, bytes], bytes]] = {}  # by id of the fields, which the entry keeps alive


def _whole(fields: dict[str, bytes]) -> bytes:
    """Make the JSON of an entry; of a small one that is read again unchanged, once."""
    kept = _wholes.get(id(fields))
    if kept is not None and kept[0] is fields:
        return kept[1]
    raw = codec.join(fields)
    if len(raw) <= _WHOLE_BYTES_MAX:
        if len(_wholes) >= _WHOLES_MAX:
            _wholes.clear()
        _wholes[id(fields)] = (fields, raw)
    return raw


class Session(Mapping[str, Any]):
    """One session as it was at one moment. Immutable; equal to another exactly when key and version are.

    `session["field"]` decodes that field alone and gives a fresh copy each time; `.data` is the whole entry as a
    dict, made on first use, the caller's own.
    """

    __slots__ = ("_data", "_key", "_state")

    _data: dict[str, Any]  # set on first use

    def __init__(self, key: str, state: State) -> None:
        self._key = key
        self._state = state

    @property
    def key(self) -> str:
        """The session's key."""
        return self._key

    @property
    def data(self) -> dict[str, Any]:
        """The entry, as a dict of the caller's own: changing it changes nothing else."""
        try:
            return self._data
        except AttributeError:
            pass
        self._data = codec.loads(_whole(self._fields()))
        return self._data

    @property
    def rev(self) -> int:
        """1, 2, 3 ... for each change since the session was made."""
        return self._state.rev

    @property
    def version(self) -> str:
        """Name this content: opaque, never the same for two contents, not even after delete and create."""
        return self._state.version

    @property
    def created_at(self) -> datetime:
        """When the session was made."""
        return moment(self._state.created_at)

    @property
    def updated_at(self) -> datetime:
        """When it last changed; never before an earlier change, whatever the clock did."""
        return moment(self._state.updated_at)

    @property
    def by(self) -> str:
        """The actor of the last change."""
        return self._state.by

    @property
    def size(self) -> int:
        """Bytes of the entry as compact JSON."""
        return self._state.size

    def __getitem__(self, name: str) -> Any:
        return codec.loads(self._fields()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields())

    def __len__(self) -> int:
        return len(self._fields())

    def __bool__(self) -> bool:
        return True  # an empty session is a session

    def __contains__(self, name: object) -> bool:
        return name in self._fields()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Session):
            return NotImplemented
        return self.key == other.key and self.version == other.version

    def __hash__(self) -> int:
        return hash((self.key, self.version))

    def __repr__(self) -> str:
        return f"Session({self.key!r}, rev={self.rev}, fields={len(self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Session, (self.key, self._state))

    def _fields(self) -> dict[str, bytes]:
        fields: dict[str, bytes] | None = self._state.fields
        assert fields is not None, "a Session is never made of an absent state"
        return fields


COLUMNS: Final = {"key": "key", "updated_at": "updated", "created_at": "created", "size": "size", "rev": "rev"}


class Row(NamedTuple):
    """What an engine keeps of a session for lists."""

    key: str
    rev: int
    version: str
    created: int  # in the unit of State.created_at, like updated
    updated: int
    size: int  # bytes of the entry as compact JSON
    fields: bytes  # fields of the entry: a JSON object
    cut: bytes | None = None  # which fields are not in it, as the engine knows it; None: none
    hidden: bytes | None = None  # a JSON list of those in it that a list shows only when asked; None: none


class SessionInfo:
    """One session in a list, as of one moment. Immutable. `.size` is in bytes of the entry as compact JSON.

    `.fields` holds the small values of the entry (each at most 256 bytes of JSON, together at most 4 KB), or, where
    the list named `fields=`, those fields, whatever their size. Two are equal when they show the same.
    """

    __slots__ = ("_only", "_order_by", "_position", "_row")

    def __init__(
        self,
        row: Row,
        order_by: str = "key",
        position: int | str | bytes | None = None,
        only: Sequence[str] | None = None,
    ) -> None:
        """`position`: what the row is ordered by in the list of this `order_by`."""
        self._row = row
        self._order_by = order_by
        self._position = position
        self._only = only

    @property
    def key(self) -> str:
        """The session's key."""
        return self._row.key

    @property
    def rev(self) -> int:
        """1, 2, 3 ... for each change since the session was made."""
        return self._row.rev

    @property
    def version(self) -> str:
        """Name this content, as `Session.version` does."""
        return self._row.version

    @property
    def created_at(self) -> datetime:
        """When the session was made."""
        return moment(self._row.created)

    @property
    def updated_at(self) -> datetime:
        """When it last changed."""
        return moment(self._row.updated)

    @property
    def size(self) -> int:
        """Bytes of the entry as compact JSON."""
        return self._row.size

    @property
    def fields(self) -> dict[str, Any]:
        """The values that the list shows, decoded anew at each use: the caller's own."""
        fields: dict[str, Any] = codec.loads(self._row.fields)
        if self._only is not None:
            return {name: fields[name] for name in self._only if name in fields}
        if self._row.hidden is not None:
            for name in codec.loads(self._row.hidden):
                del fields[name]
        return fields

    @property
    def cursor(self) -> str:
        """Name this row's place in its list, for `list(after=...)`: opaque text, good in other processes too."""
        if self._order_by.removeprefix("-") in COLUMNS:
            place: tuple[str, Any] = ("column", self._position)
        elif isinstance(self._position, bytes):
            place = ("field", self._position.hex())
        else:
            place = ("absent", None)
        return base64.urlsafe_b64encode(codec.dumps([self._order_by, *place, self._row.key])).decode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionInfo):
            return NotImplemented
        return self._row[:6] == other._row[:6] and self.fields == other.fields

    def __hash__(self) -> int:
        return hash((self._row.key, self._row.version))

    def __repr__(self) -> str:
        return f"SessionInfo({self.key!r}, rev={self.rev}, size={self.size})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (SessionInfo, (self._row, self._order_by, self._position, self._only))
