"""The draft that `edit` of a typed store yields: a model to be changed, and the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, overload

from shardstore import _codec as codec
from shardstore._typed.merge import merged, same
from shardstore._typed.session import I, M, TypedSession
from shardstore.draft import Delete, Draft

if TYPE_CHECKING:
    from shardstore._draft_log import DraftLog
    from shardstore._typed.form import Form


class TypedDraft(Generic[M, I]):
    """A session to be changed: `.value` in place, or by assigning another model to it; `.log`; `.delete()`.

    At the end the model is compared with its first state, and only fields that differ are written.
    """

    __slots__ = ("_before", "_draft", "_form", "_stored", "value")

    value: M

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, draft: Draft, form: Form[M, I]) -> None:
        self._draft = draft
        self._form = form
        self._stored = stored = draft.raw if draft.exists else None  # the fields as JSON texts
        self.value = form.absent(draft.key) if stored is None else form.load(stored)
        self._before = None if stored is None else form.before(self.value, stored)

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
        """Delete the session, whatever else the draft holds, when it is committed."""
        self._draft.delete()

    def accept(self, result: M | Delete | None) -> None:
        """Write the fields that a mutator changed to the draft beneath. Raises InvalidEntry, TypeError."""
        if isinstance(result, Delete):
            self._draft.delete()
        elif result is not None and result is not self.value:
            own = self.value.values() if isinstance(self.value, dict) else ()
            if any(result is one for one in own):
                raise TypeError("the mutator returned a value inside of its model; return None, or the whole model")
            self.value = result
        if not self._draft.is_deleted:
            self._write()

    def _write(self) -> None:
        """Write the fields that differ, and make sure that the entry fits afterwards."""
        draft, form, stored = self._draft, self._form, self._stored
        after = form.dump(form.check(self.value))
        encoded = _encoded(after)
        if stored is None or self._before is None:
            draft.update(after)
        else:
            differ = [name for name, raw in encoded.items() if stored.get(name) != raw]
            gone = [name for name in stored if name not in after and (form.names is None or name in form.names)]
            if not differ and not gone:
                return
            before = self._before([*differ, *gone])
            gone = [name for name in gone if name in before]
            for name in gone:
                del draft[name]
            changed = self._set({name: after[name] for name in differ}, before)
            encoded = {name: raw for name, raw in stored.items() if name not in gone} | changed
        if not form.is_strict:
            form.load(encoded)

    def _set(self, after: dict[str, Any], before: dict[str, Any]) -> dict[str, bytes]:
        """Set those of these fields that are not as they were before; return them as JSON texts."""
        draft, found = self._draft, {}
        for name, new in after.items():
            if name in before and same(before[name], new):
                continue
            known = type(new) in _CONTAINERS and name in before and name in draft
            value = draft[name] = merged(draft[name], before[name], new) if known else new
            found[name] = codec.encode(value, name)
        return found


_CONTAINERS: Final = (dict, list)


def _encoded(fields: dict[str, Any]) -> dict[str, bytes]:
    """Encode what a model dumped, strictly where it matters here: NaN becomes null, and must not pass for null."""
    try:
        found = {name: codec.dumps(value) for name, value in fields.items()}
    except TypeError:
        return codec.encode_entry(fields)  # raises InvalidEntry
    for name, raw in found.items():
        if b"null" in raw and fields[name] is not None:
            codec.encode(fields[name], name)
    return found


class TypedDraftLog(MutableSequence[I]):
    """The log of a typed draft, changed as `DraftLog` is. An item that is read is a copy: to change it, assign it."""

    __slots__ = ("_form", "_log")

    def __init__(self, log: DraftLog, form: Form[Any, I]) -> None:
        self._log = log
        self._form = form

    def __len__(self) -> int:
        return len(self._log)

    @overload
    def __getitem__(self, place: int) -> I: ...
    @overload
    def __getitem__(self, place: slice) -> list[I]: ...
    def __getitem__(self, place: int | slice) -> I | list[I]:
        places = range(len(self._log))[place]
        if isinstance(places, range):
            return [self._load(value, at) for at, value in zip(places, self._log[place], strict=True)]
        return self._load(self._log[place], places)

    def _load(self, value: Any, place: int) -> I:
        item: I = self._form.load_item(value, f"log[{place}]")
        return item

    def _dump(self, value: I) -> Any:
        return self._form.dump_item(value, f"log[{len(self)}]")

    def __iter__(self) -> Iterator[I]:
        return iter(self[:])

    def __eq__(self, other: object) -> bool:
        return self[:] == (other[:] if isinstance(other, TypedDraftLog) else other)

    __hash__: ClassVar[None]  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Typed{self._log!r}"

    @property
    def dropped(self) -> int:
        """How many items were dropped at the front since the session was made."""
        return self._log.dropped

    def find(self, id: str) -> int | None:  # noqa: A002  # as in append
        """Return the index of the item with this id; None where no item that stands has it."""
        return self._log.find(id)

    def ids(self, start: int | None = None, stop: int | None = None) -> list[str | None]:
        """Return the ids of log[start:stop], None for an item without one."""
        return self._log.ids(start, stop)

    def append(self, value: I, id: str | None = None) -> bool:  # type: ignore[override]  # noqa: A002
        """Add an item at the end; return False, and add nothing, where an item that stands has this id."""
        return self._log.append(self._dump(value), id)

    def insert(self, index: int, value: I) -> None:
        """Add an item at the end, the only place where that is possible. Raises TypeError for any other."""
        self._log.insert(index, self._dump(value))

    def keep(self, indices: Iterable[int]) -> None:
        """Keep the items at these places, in this order, with their ids, and remove all others."""
        self._log.keep(indices)

    def clear(self) -> None:
        """Remove every item."""
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
