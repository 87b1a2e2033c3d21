"""What the verbs of a typed store return: a session and its log, with models in place of mappings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from shardstore._typed.items import TypedItems
from shardstore.errors import SessionNotFound

if TYPE_CHECKING:
    from datetime import datetime

    from typing_extensions import TypeVar  # checkers bring it along

    from shardstore._typed.form import Form
    from shardstore.log import Log, LogItem
    from shardstore.session import Session

    I = TypeVar("I", default=Any)  # noqa: E741  # an item
else:
    from typing import TypeVar

    I = TypeVar("I")  # noqa: E741  # an item, which `__class_getitem__` lets be left out
M = TypeVar("M")


class TypedSession(Generic[M, I]):
    """One session as it was at one moment, as a model. Equal to another exactly when key and version are.

    `TypedSession[Model]` is the type of one whose log has items of any kind, `TypedSession[Model, Item]` of one with
    `item=Item`. After a delete, `exists` and `bool(session)` are False.

    >>> session = chats["agent:main"]
    >>> session.value, session.key, session.exists, session.rev, session.size
    (Chat(status='new', turns=1), 'agent:main', True, 1, 26)
    >>> session.session == main, session.version == main.version, session.actor == main.actor
    (True, True, True)
    >>> session.created_at == session.updated_at, len(session.log)
    (True, 0)
    """

    __slots__ = ("_form", "_session", "_value")

    _value: M  # set on first use

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)  # with one parameter too

    def __init__(self, session: Session, form: Form[M, I]) -> None:
        self._session = session
        self._form = form

    @property
    def session(self) -> Session:
        """The session as it is stored, with the fields that the model does not know."""
        return self._session

    @property
    def value(self) -> M:
        """The model, made on first use: the caller's own, changing it changes nothing else.

        Raises InvalidEntry if the stored entry does not fit, SessionNotFound after a delete.
        """
        try:
            return self._value
        except AttributeError:
            if not self._session.exists:
                raise SessionNotFound(self._session.key) from None
            self._value = self._form.load(self._session.raw)
        return self._value

    @property
    def key(self) -> str:
        """The session's key."""
        return self._session.key

    @property
    def exists(self) -> bool:
        """Whether there is a session."""
        return self._session.exists

    @property
    def rev(self) -> int:
        """The revision: 1, 2, 3 ... for each change since the session was made."""
        return self._session.rev

    @property
    def version(self) -> str:
        """The name of this content, as `Session.version`."""
        return self._session.version

    @property
    def created_at(self) -> datetime:
        """When the session was made, in UTC."""
        return self._session.created_at

    @property
    def updated_at(self) -> datetime:
        """When it last changed, in UTC."""
        return self._session.updated_at

    @property
    def actor(self) -> str:
        """Who made the last change."""
        return self._session.actor

    @property
    def size(self) -> int:
        """Bytes of the entry as compact JSON."""
        return self._session.size

    @property
    def log(self) -> TypedLog[I]:
        """The log: an immutable sequence of the session's items, read when they are asked for."""
        return TypedLog(self._session.log, self._form)

    def __bool__(self) -> bool:
        return self._session.exists

    def __eq__(self, other: object) -> bool:
        return self._session == other._session if isinstance(other, TypedSession) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._session)

    def __repr__(self) -> str:
        return f"Typed{self._session!r}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_again, (self._session, self._form.model, self._form.item))


def _again(session: Session, model: type[Any], item: type[Any] | None) -> TypedSession[Any, Any]:
    from shardstore._typed.form import Form

    return TypedSession(session, Form(model, None, item))


class TypedLog(TypedItems[I], Sequence[I]):
    """The log of a typed session: an immutable sequence. Each item is checked when it is read: InvalidEntry.

    The example of each method goes on from here:

    >>> log = chats["agent:chat"].log
    >>> len(log), log.dropped, log[-1]
    (1, 0, Message(role='user', content='hi'))
    >>> [item.role for item in log]
    ['user']
    """

    __slots__ = ()

    _log: Log

    def __iter__(self) -> Iterator[I]:
        for place, value in enumerate(self._log):
            yield self._load(value, place)

    def __reversed__(self) -> Iterator[I]:
        for place, value in zip(range(len(self._log) - 1, -1, -1), reversed(self._log), strict=True):
            yield self._load(value, place)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TypedLog | list):
            return NotImplemented
        return len(self) == len(other) and list(self) == list(other)

    __hash__: ClassVar[None]  # type: ignore[assignment]  # equal to a list, which has none

    def entries(self, start: int | None = None, stop: int | None = None) -> list[LogItem]:
        """Return log[start:stop] as LogItems: index, id, time and actor beside each value of the items' type.

        Raises InvalidEntry where one does not fit; otherwise as `Log.entries`.

        >>> for item in log.entries(-20):
        ...     print(item.index, item.id, item.value)
        0 m-1 Message(role='user', content='hi')
        """
        return [item._replace(value=self._load(item.value, item.index)) for item in self._log.entries(start, stop)]
