"""The object that a mutator changes: the entry as it is on the disk, decoded only where it is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from types import CoroutineType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self, final

from shardstore import _codec as codec
from shardstore._draft_log import DraftLog
from shardstore._model import Change, State
from shardstore.errors import InvalidEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shardstore.log import LogSource
    from shardstore.session import Session


@final
class Delete:
    """The type of DELETE, which a mutator returns to remove its session.

    >>> session = store.update("agent:main", lambda draft: DELETE if draft["status"] == "new" else None)
    >>> session.exists
    False
    """

    def __repr__(self) -> str:
        return "shardstore.DELETE"

    def __reduce__(self) -> str:
        return "DELETE"


DELETE: Final = Delete()
_NOTHING: Final[dict[str, bytes]] = {}
_NONE: Final[list[str]] = []
_new = tuple.__new__  # as in every update: half the price of calling the class
_NO_NAMES: Final[AbstractSet[str]] = frozenset()


class Draft(MutableMapping[str, Any]):
    """A session's fields to be changed in place. Nested values are plain dicts and lists, yours to change.

    A value is decoded when you first touch it, and compared with the stored one when the mutator is done. So an update
    costs as much as the fields that it touches, not as the entry. `copy()` returns a plain dict.

    >>> with store.edit("agent:main") as draft:
    ...     draft["turns"] += 1
    ...     draft.setdefault("tags", []).append("urgent")
    ...     draft.log.append({"role": "user", "content": "hi"})
    ...     print(draft.key, draft.exists, draft.raw["turns"])
    True
    agent:main True b'1'
    >>> draft.session.data
    {'status': 'new', 'turns': 2, 'tags': ['urgent']}
    """

    _session: Session  # set by `committed`

    __slots__ = ("_handed", "_log", "_logs", "_raw", "_removed", "_session", "_state", "_touched", "_whole", "key")

    def __init__(self, key: str, state: State, logs: LogSource | None = None) -> None:
        self.key: str = key
        self._state = state
        self._logs = logs
        self._log: DraftLog | None = None  # made when it is asked for
        self._raw = state.fields if state.fields is not None else _NOTHING
        self._touched: dict[str, Any] = {}
        self._removed: AbstractSet[str] = _NO_NAMES
        self._handed: tuple[dict[str, Any], ...] = ()  # the entry's own objects that user code has
        self._whole: Mapping[str, Any] | Delete | None = None

    def __getitem__(self, name: str) -> Any:
        touched = self._touched
        if name in touched:
            return touched[name]
        if name in self._removed:
            raise KeyError(name)
        value = touched[name] = codec.loads(self._raw[name])
        if type(value) is dict:
            self._handed = (*self._handed, value)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        if type(name) is not str:
            raise InvalidEntry("entry", f"field name {name!r} is {type(name).__name__}, not str")
        self._touched[name] = value
        if self._removed:
            self._removed -= {name}

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._touched.pop(name, None)
        if name in self._raw:
            self._removed |= {name}

    def __contains__(self, name: object) -> bool:
        return name in self._touched or (name in self._raw and name not in self._removed)

    def __iter__(self) -> Iterator[str]:
        for name in self._raw:
            if name not in self._removed:
                yield name
        for name in [*self._touched]:
            if name not in self._raw:
                yield name

    def __len__(self) -> int:
        return len(self._raw) - len(self._removed) + sum(name not in self._raw for name in self._touched)

    def __repr__(self) -> str:
        return f"Draft({self.key!r}, {self.copy()!r})"

    def __eq__(self, other: object) -> bool:
        return self.copy() == (other.copy() if isinstance(other, Draft) else other)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self.copy() | dict(other)

    def __ior__(self, other: Mapping[str, Any]) -> Self:
        self.update(other)
        return self

    def copy(self) -> dict[str, Any]:
        """Return the fields as a plain dict; nested values are shared with the draft.

        >>> with store.edit("agent:main") as draft:
        ...     print(draft.copy())
        {'status': 'new', 'turns': 1}
        """
        return {name: self[name] for name in self}

    @property
    def raw(self) -> Mapping[str, bytes]:
        """The committed fields as JSON texts: changes in the draft do not show."""
        return MappingProxyType(self._raw)

    @property
    def exists(self) -> bool:
        """Whether there is a session; else committing this draft makes one."""
        return self._state.exists

    @property
    def log(self) -> DraftLog:
        """The session's log, to be changed in place."""
        if self._log is None:
            self._log = DraftLog(self.key, self._state.log, self._logs)
        return self._log

    def delete(self) -> None:
        """Delete the session, whatever else the draft holds, when it is committed.

        >>> with store.edit("agent:main") as draft:
        ...     if draft["status"] == "new":
        ...         draft.delete()
        >>> draft.session.exists
        False
        """
        self._whole = DELETE

    @property
    def is_deleted(self) -> bool:
        """Whether committing this draft deletes the session.

        >>> with store.edit("agent:main") as draft:
        ...     draft.delete()
        ...     print(draft.is_deleted)
        True
        """
        return self._whole is DELETE

    def replace(self, fields: Mapping[str, object]) -> None:
        """Put `fields` in place of the whole entry when the draft is committed. Raises TypeError for no mapping.

        >>> with store.edit("agent:main") as draft:
        ...     draft.replace({"status": "done"})
        >>> draft.session.data
        {'status': 'done'}
        """
        if not isinstance(fields, Mapping):
            raise TypeError(f"a draft is replaced by a mapping of fields, not by {type(fields).__name__}")
        self._whole = dict(fields)

    @property
    def session(self) -> Session:
        """The session as it was committed, after a `with store.edit(...)` block. AttributeError before that."""
        return self._session

    def committed(self, session: Session) -> None:
        """Note the session that this draft led to. For the store alone."""
        self._session = session

    def accept(self, result: object) -> None:
        """Take what a mutator returned: None, a mapping that replaces the draft, or DELETE. Raises TypeError."""
        if result is None or result is self:
            return
        if not isinstance(result, Mapping | Delete):
            if isinstance(result, CoroutineType):
                result.close()  # else Python warns, elsewhere, that it was never awaited
                raise TypeError(
                    "a mutator runs inside the session's lock, so it cannot be a coroutine: await first, then update "
                    "with the result"
                )
            raise TypeError(
                f"a mutator returns None, a mapping of all fields or DELETE, not {type(result).__name__}; to change "
                "some fields, change the draft and return nothing"
            )
        own = [*self._handed, *self._touched.values()]
        if any(result is value for value in own):
            raise TypeError(
                "the mutator returned one of the entry's own values, which would replace the whole entry "
                "(as in `lambda draft: draft.setdefault(...)`); return None, or a mapping of all fields"
            )
        self._whole = result

    def change(self) -> Change | None:
        """Return what the mutator changed, encoded, or None where that is nothing. Raises InvalidEntry."""
        if self._log is not None:
            return self._with_log(self._log)
        if self._whole is DELETE:
            return Change(_NOTHING, _NONE, delete=True) if self._state.exists else None
        if self._whole is not None:
            return self._replacement(codec.encode_entry(self._whole))
        raw, removed = self._raw, self._removed
        changed = {}
        for name, value in self._touched.items():
            encoded = codec.encode(value, name)
            before = raw.get(name)
            if before != encoded:
                if before is None:
                    codec.encode_key(name)
                changed[name] = encoded
        if self._state.fields is None:
            return Change(changed, _NONE, whole=True)
        if changed or removed:
            return _new(
                Change, (changed, [name for name in raw if name in removed] if removed else _NONE, False, False, None)
            )
        return None

    def _with_log(self, draft: DraftLog) -> Change | None:
        """Return the change of the fields and of the log beside them."""
        self._log = None  # `change` is then about the fields
        try:
            change = self.change()
        finally:
            self._log = draft
        log = None if self._whole is DELETE else draft.change()
        if log is None:
            return change
        return Change({}, _NONE, log=log) if change is None else change._replace(log=log)

    def _replacement(self, new: dict[str, bytes]) -> Change | None:
        """Return the smallest change that leads to exactly these fields, in their order if any changed."""
        raw = self._raw
        if not self._state.exists:
            return Change(new, _NONE, whole=True)
        changed = {name: value for name, value in new.items() if raw.get(name) != value}
        removed = [name for name in raw if name not in new]
        if not changed and not removed:
            return None
        kept = [name for name in raw if name in new]
        order = kept + [name for name in changed if name not in raw]
        return Change(changed, removed) if order == [*new] else Change(new, _NONE, whole=True)


def patcher(fields: Mapping[str, Any], unset: Iterable[str]) -> Callable[[Draft], None]:
    """Return the mutator that sets some fields and removes others. Raises InvalidEntry where a field is in both."""
    if not isinstance(fields, Mapping):
        raise InvalidEntry("entry", f"{type(fields).__name__} is not a mapping of fields")
    removed = (unset,) if isinstance(unset, str) else tuple(unset)
    both = [name for name in removed if name in fields]
    if both:
        raise InvalidEntry(f"entry[{both[0]!r}]", "both given a value and unset")

    def change(draft: Draft) -> None:
        for name in fields:
            draft[name] = fields[name]
        for name in removed:
            draft.pop(name, None)

    return change


def changed_fields(state: State, fields: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the change that setting these fields makes, encoded, as a Draft finds it. Raises InvalidEntry.

    REQUIRES: the session exists.
    """
    before, changed = state.fields, {}
    assert before is not None
    for name, value in fields.items():
        if type(name) is not str:
            raise InvalidEntry("entry", f"field name {name!r} is {type(name).__name__}, not str")
        encoded, old = codec.encode(value, name), before.get(name)
        if old != encoded:
            if old is None:
                codec.encode_key(name)
            changed[name] = encoded
    return changed
