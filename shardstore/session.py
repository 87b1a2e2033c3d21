"""The results of the verbs: immutable snapshots. Nothing done to them reaches the store."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shardstore import _codec as codec
from shardstore._row import COLUMNS, Candidate, PackedRow
from shardstore.log import NOT_ON_A_LOOP, Log, moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shardstore._model import State
    from shardstore._row import Answer, Row
    from shardstore.log import LogSource


class Session(Mapping[str, Any]):
    """One session as it was at one moment. Immutable; equal to another exactly when key and version are.

    `session["field"]` decodes that field alone and returns a new copy each time. `.data` is the whole entry as a dict
    of your own, made on first use.

    After a delete, `exists` and `bool(session)` are False, and `data` is empty. Rev, version and times are those of the
    delete.
    A session that never was has rev 0 and version "absent".

    >>> session = store["agent:main"]
    >>> session["status"], session.get("error"), session.data
    ('new', None, {'status': 'new', 'turns': 1})
    >>> session.key, session.exists, session.rev, session.size, session.raw["turns"]
    ('agent:main', True, 1, 26, b'1')
    >>> session.updated_at == session.created_at, session.actor == main.actor, session.version == main.version
    (True, True, True)
    >>> store["agent:chat"].log[-20:]
    [{'role': 'user', 'content': 'hi'}]
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
        """The entry, as a dict of your own: changing it changes nothing else."""
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
        """The name of this content: opaque, and never the same for two contents, also after delete and create."""
        return self._state.version

    @property
    def created_at(self) -> datetime:
        """When the session was made, in UTC."""
        return moment(self._state.created_at)

    @property
    def updated_at(self) -> datetime:
        """When it last changed, in UTC; later than any earlier change, unless the clock was a day ahead."""
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
    def raw(self) -> Mapping[str, bytes]:
        """The fields as JSON texts, as they are stored, for whoever hands them on without decoding them."""
        return MappingProxyType(self._fields())

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


def unread(session: Session) -> Session:
    """Return the same session, for an event loop: items of its log that are not in memory are a TypeError."""
    return Session(session.key, session._state, NOT_ON_A_LOOP)  # noqa: SLF001  # one class in two


def has_place(info: SessionInfo) -> bool:
    """Return whether a session has the field that its list is ordered by."""
    return info._answer.position is not None  # noqa: SLF001  # one class in two


class SessionInfo:
    """One session in a list, as of one moment. Immutable. `.size` is in bytes of the entry as compact JSON.

    `.fields` holds the small values of the entry (each at most 256 bytes of JSON, together at most 4 KB), or, where
    the list named `fields=`, those fields, whatever their size. Two are equal when they show the same.

    >>> info = store.list("agent:", order_by="log_length")[0]
    >>> info.key, info.rev, info.size, info.log_length, info.fields
    ('agent:main', 1, 26, 0, {'status': 'new', 'turns': 1})
    >>> info.updated_at == info.created_at, info.version == main.version
    (True, True)
    >>> [next.key for next in store.list("agent:", order_by="log_length", after=info.cursor)]
    ['agent:chat']
    """

    __slots__ = ("_answer", "_only", "_order_by")

    def __init__(self, answer: Answer, order_by: str, only: Sequence[str] | None) -> None:
        self._answer = answer
        self._order_by = order_by
        self._only = only

    @property
    def _row(self) -> Row:
        answer = self._answer
        if isinstance(answer, PackedRow):
            answer = self._answer = Candidate(answer.row, answer.position)
        return answer.row

    @property
    def key(self) -> str:
        """The session's key."""
        return self._answer.key

    @property
    def rev(self) -> int:
        """The revision: 1, 2, 3 ... for each change since the session was made."""
        return self._row.rev

    @property
    def version(self) -> str:
        """The name of this content, as `Session.version`."""
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
    def log_length(self) -> int:
        """How many items the session's log has."""
        return self._row.log_length

    @property
    def fields(self) -> dict[str, Any]:
        """The values that the list shows, as a new dict of your own at each use."""
        fields: dict[str, Any] = codec.loads(self._row.fields)
        if self._only is not None:
            return {name: fields[name] for name in self._only if name in fields}
        if self._row.hidden is not None:
            for name in codec.loads(self._row.hidden):
                del fields[name]
        return fields

    @property
    def cursor(self) -> str:
        """This row's place in its list, for `list(after=...)`: opaque text, good in other processes too."""
        position = self._answer.position
        if self._order_by.removeprefix("-") in COLUMNS:
            place: tuple[str, Any] = ("column", position)
        elif isinstance(position, bytes):
            place = ("field", position.hex())
        else:
            place = ("absent", None)
        return base64.urlsafe_b64encode(codec.dumps([self._order_by, *place, self.key])).decode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionInfo):
            return NotImplemented
        return self._row[:7] == other._row[:7] and self.fields == other.fields

    def __hash__(self) -> int:
        return hash((self.key, self.version))

    def __repr__(self) -> str:
        return f"SessionInfo({self.key!r}, rev={self.rev}, size={self.size})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (SessionInfo, (self._answer, self._order_by, self._only))
