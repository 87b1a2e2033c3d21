"""What the verbs return: immutable snapshots. Nothing done to them reaches the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from shardstore import _codec as codec

if TYPE_CHECKING:
    from shardstore._journal.replay import State


def moment(milliseconds: int) -> datetime:
    """Turn milliseconds since the epoch into an aware datetime, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


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


class SessionInfo(NamedTuple):
    """A line of a list: what the index holds of a session. `size` is bytes of the entry as compact JSON. Immutable."""

    key: str
    rev: int
    version: str
    created_ms: int  # milliseconds since the epoch, like updated_ms
    updated_ms: int
    size: int
    raw_fields: bytes

    @property
    def created_at(self) -> datetime:
        """When the session was made."""
        return moment(self.created_ms)

    @property
    def updated_at(self) -> datetime:
        """When it last changed."""
        return moment(self.updated_ms)

    @property
    def fields(self) -> dict[str, Any]:
        """The small values of the entry: each at most 256 bytes of JSON, together at most 4 KB. Decoded at each use."""
        fields: dict[str, Any] = codec.loads(self.raw_fields)
        return fields

    def __repr__(self) -> str:
        return f"SessionInfo({self.key!r}, rev={self.rev}, size={self.size})"
