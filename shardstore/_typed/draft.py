"""The draft that `edit` of a typed store yields: a model to be changed, and the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableSequence
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, overload

from shardstore import _codec as codec
from shardstore._typed.items import TypedItems
from shardstore._typed.merge import merged, same
from shardstore._typed.session import I, M, TypedSession
from shardstore.draft import Delete, Draft

if TYPE_CHECKING:
    from shardstore._draft_log import DraftLog
    from shardstore._typed.form import Form


class TypedDraft(Generic[M, I]):
    """A session to be changed: `.value` in place, or by assigning another model to it; `.log`; `.delete()`.

    At the end the model is compared with its first state, and only fields that differ are written.

    >>> with chats.edit("agent:main") as draft:
    ...     print(draft.key, draft.exists, draft.value)
    ...     draft.value.turns += 1
    ...     draft.log.append(Message("user", "hi"))
    agent:main True Chat(status='new', turns=1)
    True
    >>> draft.session.value
    Chat(status='new', turns=2)
    """

    __slots__ = ("_draft", "_early", "_form", "_stored", "value")

    value: M

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, draft: Draft, form: Form[M, I]) -> None:
        self._draft = draft
        self._form = form
        stored = draft.raw
        if stored or draft.exists:
            self._stored: Mapping[str, bytes] | None = stored  # the fields as JSON texts
            self.value, self._early = form.open(stored)
        else:
            self._stored = None
            self.value = form.absent(draft.key)

    @property
    def key(self) -> str:
        """The session's key."""
        return self._draft.key

    @property
    def exists(self) -> bool:
        """Whether there is a session; else committing this draft makes one."""
        return self._draft.exists

    @property
    def log(self) -> TypedDraftLog[I]:
        """The session's log, to be changed in place."""
        return TypedDraftLog(self._draft.log, self._form)

    @property
    def session(self) -> TypedSession[M, I]:
        """The session as it was committed, after the with block. AttributeError before that."""
        return TypedSession(self._draft.session, self._form)

    def delete(self) -> None:
        """Delete the session, whatever else the draft holds, when it is committed.

        >>> with chats.edit("agent:main") as draft:
        ...     if draft.value.status == "new":
        ...         draft.delete()
        >>> draft.session.exists
        False
        """
        self._draft.delete()

    def accept(self, result: M | Delete | None) -> None:
        """Write the fields that a mutator changed to the draft beneath. Raises InvalidEntry, TypeError."""
        if isinstance(result, Delete):
            self._draft.delete()
            return
        if result is not None and result is not self.value:
            own = self.value.values() if isinstance(self.value, dict) else ()
            if any(result is one for one in own):
                raise TypeError("the mutator returned a value inside of its model; return None, or the whole model")
            self.value = self._form.check(result)
        self._write()

    def _write(self) -> None:
        """Write the fields that differ, and make sure that the entry fits afterwards."""
        draft, form, stored = self._draft, self._form, self._stored
        after = form.dump(self.value)
        if stored is None:
            draft.update(after)
            if not form.is_strict:
                form.load(codec.encode_entry(after))
            return
        known = stored.keys() if form.names is None else form.names
        gone = [] if after.keys() >= known else [name for name in stored if name in known and name not in after]
        differ = _differing(stored, after)
        if not differ and not gone:
            return
        before = form.before(stored, [*differ, *gone], self._early)
        removed = [name for name in gone if name in before]
        for name in removed:
            del draft[name]
        changed = self._set(after, before, differ)
        if not form.is_strict and (changed or removed):
            form.load({name: raw for name, raw in stored.items() if name not in removed} | changed)

    def _set(self, after: dict[str, Any], before: dict[str, Any], names: list[str]) -> dict[str, bytes]:
        """Set those of these fields that are not as they were before.

        Return them as JSON texts, where the entry is to be checked with them.
        """
        draft, is_strict, found = self._draft, self._form.is_strict, {}
        for name in names:
            value = after[name]
            if name in before:
                if same(before[name], value):
                    continue
                if type(value) in _CONTAINERS and name in draft:
                    value = merged(draft[name], before[name], value)
            draft[name] = value
            if not is_strict:
                found[name] = codec.encode(value, name)
        return found


_CONTAINERS: Final = (dict, list)


def _differing(stored: Mapping[str, bytes], after: dict[str, Any]) -> list[str]:
    """Return the names of fields that a model dumps otherwise than they are stored. Raises InvalidEntry.

    NaN is dumped as null, and must not pass for it: whatever has a null in it is looked at again.
    """
    found = []
    try:
        for name, value in after.items():
            raw = codec.dumps(value)
            if stored.get(name) != raw or (b"null" in raw and value is not None):
                found.append(name)
    except TypeError:
        codec.encode_entry(after)  # raises InvalidEntry, which names it
        raise
    return found


class TypedDraftLog(TypedItems[I], MutableSequence[I]):
    """The log of a typed draft, changed as `DraftLog` is. An item that is read is a copy: to change it, assign it.

    >>> with chats.edit("agent:chat") as draft:
    ...     draft.log.extend([Message("tool", "ok"), Message("assistant", "Done.")])
    ...     draft.log[0] = Message("user", "hello")  # it keeps its id
    ...     del draft.log[2:]
    >>> draft.session.log[:]
    [Message(role='user', content='hello'), Message(role='tool', content='ok')]
    """

    __slots__ = ()

    _log: DraftLog

    def _dump(self, value: I) -> Any:
        return self._form.dump_item(value, f"log[{len(self)}]")

    def __iter__(self) -> Iterator[I]:
        return iter(self[:])

    def __eq__(self, other: object) -> bool:
        return self[:] == (other[:] if isinstance(other, TypedDraftLog) else other)

    __hash__: ClassVar[None]  # type: ignore[assignment]  # mutable

    def append(self, value: I, id: str | None = None) -> bool:  # type: ignore[override]  # noqa: A002
        """Add an item at the end; return False, and add nothing, where an item that stands has this id.

        Raises InvalidEntry for a value that does not fit, or another id than text of at most 4,096 bytes of UTF-8.

        >>> with chats.edit("agent:chat") as draft:
        ...     print(draft.log.append(Message("user", "hi"), id="m-1"))
        False
        """
        return self._log.append(self._dump(value), id)

    def insert(self, index: int, value: I) -> None:
        """Add an item at the end, the only place where that is possible. Raises TypeError for any other.

        >>> with chats.edit("agent:chat") as draft:
        ...     draft.log.insert(len(draft.log), Message("tool", "ok"))
        >>> len(draft.session.log)
        2
        """
        self._log.insert(index, self._dump(value))

    def keep(self, indices: Iterable[int]) -> None:
        """Keep the items at these places, in this order, with their ids, and remove all others. As `DraftLog.keep`.

        Raises IndexError for a place outside, ValueError for one that is named twice.

        >>> with chats.edit("agent:chat") as draft:
        ...     draft.log.append(Message("tool", "ok"), id="m-2")
        ...     draft.log.keep([1])
        True
        >>> draft.session.log.ids()
        ['m-2']
        """
        self._log.keep(indices)

    def clear(self) -> None:
        """Remove every item.

        >>> with chats.edit("agent:chat") as draft:
        ...     draft.log.clear()
        >>> len(draft.session.log)
        0
        """
        self._log.clear()

    @overload
    def __setitem__(self, place: int, value: I) -> None: ...
    @overload
    def __setitem__(self, place: slice, value: Iterable[I]) -> None: ...
    def __setitem__(self, place: int | slice, value: Any) -> None:
        if isinstance(place, slice):
            self._log[place] = [self._dump(one) for one in value]
        else:
            self._log[place] = self._dump(value)

    def __delitem__(self, place: int | slice) -> None:
        del self._log[place]
