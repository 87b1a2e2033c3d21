"""What the verbs return: immutable snapshots. Nothing done to them reaches the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shardstore import _codec as codec
from shardstore.log import Log, moment

if TYPE_CHECKING:
    from datetime import datetime

    from shardstore._model import State
    from shardstore.log import LogSource


class Session(Mapping[str, Any]):
    """One session as it was at one moment. Immutable; equal to another exactly when key and version are.

    `session["field"]` decodes that field alone and returns a fresh copy each time; `.data` is the whole entry as a
    dict, made on first use, the caller's own.

    After a delete, `exists` and `bool(session)` are False and `data` is empty; rev, version and times are the delete's.
    A session that never was has rev 0 and version "absent".
    """

    __slots__ = ("_data", "_key", "_logs", "_state")

    _data: dict[str, Any]  # set on first use

    def __init__(self, key: str, state: State, logs: LogSource | None = None) -> None:
        self._key = key
        self._state = state
        self._logs = logs

    @property
    def key(self) -> str:
        """The session's key."""
        return self._key

    @property
    def exists(self) -> bool:
        """Whether there is a session."""
        return self._state.exists

    @property
    def data(self) -> dict[str, Any]:
        """The entry, as a dict of the caller's own: changing it changes nothing else."""
        try:
            return self._data
        except AttributeError:
            self._data = codec.loads(codec.join(self._fields()))
        return self._data

    @property
    def rev(self) -> int:
        """The revision: 1, 2, 3 ... for each change since the session was made."""
        return self._state.rev

    @property
    def version(self) -> str:
        """The name of this content: opaque, never the same for two contents, not even after delete and create."""
        return self._state.version

    @property
    def created_at(self) -> datetime:
        """When the session was made, in UTC."""
        return moment(self._state.created_at)

    @property
    def updated_at(self) -> datetime:
        """When it last changed, in UTC; after each earlier change, unless the clock had been a day ahead."""
        return moment(self._state.updated_at)

    @property
    def actor(self) -> str:
        """Who made the last change."""
        return self._state.actor

    @property
    def size(self) -> int:
        """Bytes of the entry as compact JSON."""
        return self._state.size

    @property
    def log(self) -> Log:
        """The log: an immutable sequence of the session's items, read when they are asked for."""
        return Log(self._key, self._state.log, self._logs)

    def __getitem__(self, name: str) -> Any:
        return codec.loads(self._fields()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields())

    def __len__(self) -> int:
        return len(self._fields())

    def __bool__(self) -> bool:
        return self._state.exists  # an empty session is a session

    def __contains__(self, name: object) -> bool:
        return name in self._fields()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Session):
            return NotImplemented
        return self.key == other.key and self.version == other.version

    def __hash__(self) -> int:
        return hash((self.key, self.version))

    def __repr__(self) -> str:
        if not self.exists:
            return f"Session({self.key!r}, rev={self.rev}, absent)"
        return f"Session({self.key!r}, rev={self.rev}, fields={len(self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Session, (self.key, self._state, self._logs))

    def _fields(self) -> dict[str, bytes]:
        fields = self._state.fields
        return _NOTHING if fields is None else fields


_NOTHING: Final[dict[str, bytes]] = {}


class SessionInfo(NamedTuple):
    """A line of a list: what the index holds of a session. `size` is bytes of the entry as compact JSON. Immutable."""

    key: str
    rev: int
    version: str
    created_us: int  # microseconds since the epoch, like updated_us
    updated_us: int
    size: int
    raw_fields: bytes

    @property
    def created_at(self) -> datetime:
        """When the session was made."""
        return moment(self.created_us)

    @property
    def updated_at(self) -> datetime:
        """When it last changed."""
        return moment(self.updated_us)

    @property
    def fields(self) -> dict[str, Any]:
        """The small values of the entry: each at most 256 bytes of JSON, together at most 4 KB. Decoded at each use."""
        fields: dict[str, Any] = codec.loads(self.raw_fields)
        return fields

    def __repr__(self) -> str:
        return f"SessionInfo({self.key!r}, rev={self.rev}, size={self.size})"
