"""The log that a mutator changes. Its changes are kept as a cut, a drop, replaced and added items, encoded at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any, ClassVar, Final, NoReturn, overload

from shardstore import _codec as codec
from shardstore._log import Item, LogChange, LogState
from shardstore.errors import InvalidEntry
from shardstore.log import LogSource, find_number, read_items

_ID_BYTES_MAX: Final = 4096


class DraftLog(MutableSequence[Any]):
    """A session's log to be changed in place.

    append, extend, pop, `log[i] = x`, `del log[n:]`, `del log[:n]`, `log[:] = kept`, `keep(indices)`. An item that is
    read is a copy: to change it, assign it. Inserting or deleting in the middle is a TypeError.

    >>> with store.edit("agent:chat") as draft:
    ...     draft.log.extend([{"role": "tool", "content": "ok"}, {"role": "assistant", "content": "Done."}])
    ...     draft.log[0] = {"role": "user", "content": "hello"}  # it keeps its id
    ...     del draft.log[2:]
    >>> draft.session.log[:]
    [{'role': 'user', 'content': 'hello'}, {'role': 'tool', 'content': 'ok'}]
    """

    __slots__ = ("_added", "_high", "_ids", "_key", "_log", "_low", "_rep", "_source")

    def __init__(self, key: str, log: LogState, source: LogSource | None) -> None:
        self._key = key
        self._log = log
        self._source = source
        self._low, self._high = log.dropped, log.end  # the numbers of what still stands of the committed log
        self._rep: dict[int, Item] = {}
        self._added: list[Item] = []
        self._ids: set[str] = set()  # of the added items

    # Reading

    def __len__(self) -> int:
        return self._high - self._low + len(self._added)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            places = range(len(self))[place]
            return [codec.loads(item.raw) for item in self._items(places)]
        return codec.loads(self._item(range(len(self))[place]).raw)

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])

    def __eq__(self, other: object) -> bool:
        return self[:] == (other[:] if isinstance(other, DraftLog) else other)

    __hash__: ClassVar[None]  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"DraftLog({self._key!r}, items={len(self)})"

    @property
    def dropped(self) -> int:
        """How many items were dropped at the front since the session was made.

        >>> with store.edit("agent:chat") as draft:
        ...     del draft.log[:1]
        ...     print(len(draft.log), draft.log.dropped)
        0 1
        """
        return self._low

    def find(self, id: str) -> int | None:  # noqa: A002  # as in append
        """Return the index of the item with this id; None if no item in the log has it. Raises as `Log.find`.

        >>> with store.edit("agent:chat") as draft:
        ...     print(draft.log.find("m-1"), draft.log.find("m-2"))
        0 None
        """
        if id in self._ids:
            return next(n for n, item in enumerate(self._added, self._high - self._low) if item.id == id)
        number = find_number(self._source, self._key, self._log, id)
        return number - self._low if number is not None and self._low <= number < self._high else None

    def ids(self, start: int | None = None, stop: int | None = None) -> list[str | None]:
        """Return the ids of log[start:stop], None for an item without one. Raises as `Log.ids`.

        >>> with store.edit("agent:chat") as draft:
        ...     print(draft.log.ids())
        ['m-1']
        """
        return [item.id for item in self._items(range(len(self))[start:stop])]

    def _item(self, index: int) -> Item:
        return self._items(range(index, index + 1))[0]

    def _items(self, places: range) -> list[Item]:
        if not places:
            return []
        low, high = min(places[0], places[-1]), max(places[0], places[-1]) + 1
        stand = self._high - self._low
        found: list[Item] = []
        if low < stand:
            first, last = self._low + low, self._low + min(high, stand)
            found = read_items(self._source, self._key, self._log, first, last)
            found = [self._rep.get(number, item) for number, item in enumerate(found, first)]
        found += self._added[max(0, low - stand) : max(0, high - stand)]
        return found if places.step == 1 else [found[place - low] for place in places]

    # Changing

    def append(self, value: Any, id: str | None = None) -> bool:  # type: ignore[override]  # noqa: A002
        """Add an item at the end; return False, and add nothing, if an item in the log has this id.

        value: whatever JSON holds. id: text of at most 4,096 bytes of UTF-8; None: the item has none.

        Raises InvalidEntry for any other value or id.

        >>> with store.edit("agent:chat") as draft:
        ...     print(draft.log.append({"role": "user", "content": "hi"}, id="m-1"))
        False
        """
        return self.add_encoded(codec.encode_item(value, "log", len(self)), id)

    def add_encoded(self, raw: bytes, name: str | None, *, at: int = 0, actor: str = "") -> bool:
        """Add an item that is JSON already, as `append` does; `at` and `actor` where they are not the commit's own."""
        if name is not None:
            check_id(name)
            if self.find(name) is not None:
                return False
            self._ids.add(name)
        self._added.append(Item(raw, name, at, actor))
        return True

    def insert(self, index: int, value: Any) -> None:
        """Add an item at the end, the only place where that is possible. Raises TypeError for any other.

        >>> with store.edit("agent:chat") as draft:
        ...     draft.log.insert(len(draft.log), {"role": "tool", "content": "ok"})
        >>> len(draft.session.log)
        2
        """
        if index < len(self):
            _refuse("insert an item in the middle of a log")
        self.append(value)

    def pop(self, index: int = -1) -> Any:
        """Remove and return the last item; with index 0 the first one. Raises IndexError, TypeError.

        >>> with store.edit("agent:chat") as draft:
        ...     print(draft.log.pop())
        {'role': 'user', 'content': 'hi'}
        """
        if not len(self):
            raise IndexError("pop from an empty log")
        value = self[index]
        del self[index]
        return value

    def clear(self) -> None:
        """Remove every item.

        >>> with store.edit("agent:chat") as draft:
        ...     draft.log.clear()
        >>> len(draft.session.log)
        0
        """
        del self[:]

    @overload
    def __setitem__(self, place: int, value: Any) -> None: ...
    @overload
    def __setitem__(self, place: slice, value: Iterable[Any]) -> None: ...
    def __setitem__(self, place: int | slice, value: Any) -> None:
        if isinstance(place, slice):
            self._set_slice(range(len(self))[place], list(value))
            return
        index = range(len(self))[place]
        raw, stand = codec.encode_item(value, "log", index), self._high - self._low
        if index >= stand:
            old = self._added[index - stand]
            self._added[index - stand] = Item(raw, old.id)
            return
        before = self._item(index)
        if before.raw != raw:
            self._rep[self._low + index] = Item(raw, before.id)

    def _set_slice(self, places: range, values: list[Any]) -> None:
        """Replace everything from a place on, or as many items as there are values."""
        if places.step == 1 and places.stop >= len(self):
            new = [Item(codec.encode_item(value, "log", n)) for n, value in enumerate(values, places.start)]
            self._cut(places.start)
            self._added += new
        elif len(places) == len(values):
            for index, value in zip(places, values, strict=True):
                self[index] = value
        else:
            _refuse("insert or remove items in the middle of a log")

    def __delitem__(self, place: int | slice) -> None:
        size = len(self)
        places = range(size)[place] if isinstance(place, slice) else range(at := range(size)[place], at + 1)
        if places.step < 0:
            places = places[::-1]
        if not places:
            return
        if places.step != 1 and len(places) > 1:
            _refuse("remove items from the middle of a log")
        if places.start == 0:
            self._drop(places[-1] + 1)
        elif places[-1] == size - 1:
            self._cut(places.start)
        else:
            _refuse("remove items from the middle of a log")

    def keep(self, indices: Iterable[int]) -> None:
        """Keep the items at these places, in this order, with their ids, and remove all others.

        indices: places in the log; a negative one counts from the end.

        Raises IndexError for a place outside, ValueError for one that is named twice.

        >>> with store.edit("agent:chat") as draft:
        ...     draft.log.extend(["a", "b"])
        ...     draft.log.keep([0, 2])
        >>> draft.session.log[:]
        [{'role': 'user', 'content': 'hi'}, 'b']
        """
        places = [range(len(self))[index] for index in indices]
        if len(set(places)) < len(places):
            raise ValueError("an item can be kept once only")
        if not places or places == [*range(places[0], places[-1] + 1)]:
            self._cut(places[-1] + 1 if places else 0)
            self._drop(places[0] if places else 0)
            return
        kept = self._chosen(places)
        self._cut(0)
        self._added = kept
        self._ids = {item.id for item in kept if item.id is not None}

    def _chosen(self, places: list[int]) -> list[Item]:
        first = min(places)
        found = self._items(range(first, max(places) + 1))
        return [found[place - first] for place in places]

    def _cut(self, index: int) -> None:
        """Remove the items from a place on."""
        stand = self._high - self._low
        self._forget(max(0, index - stand), len(self._added))
        if index < stand:
            self._high = self._low + index
            self._rep = {number: item for number, item in self._rep.items() if number < self._high}

    def _drop(self, count: int) -> None:
        """Remove so many items at the front."""
        stand = self._high - self._low
        self._low += min(count, stand)
        self._rep = {number: item for number, item in self._rep.items() if number >= self._low}
        self._forget(0, max(0, count - stand))

    def _forget(self, start: int, stop: int) -> None:
        self._ids -= {item.id for item in self._added[start:stop] if item.id is not None}
        del self._added[start:stop]

    # Committing

    def change(self) -> LogChange | None:
        """Return the change; None if there is none."""
        log = self._log
        cut = self._high if self._high < log.end else None
        drop = self._low if self._low > log.dropped else None
        if cut is None and drop is None and not self._rep and not self._added:
            return None
        size = sum([len(item.raw) for item in (*self._added, *self._rep.values()) if not item.at])
        if size > codec.ENTRY_BYTES_MAX:
            raise InvalidEntry("log", f"{size:,} bytes of new items; at most {codec.ENTRY_BYTES_MAX:,} are allowed")
        return LogChange(cut, drop, self._rep or None, tuple(self._added))


def _refuse(what: str) -> NoReturn:
    raise TypeError(f"cannot {what}; append, cut (del log[n:]), drop (del log[:n]), log[i] = x, log[:] = kept, keep()")


def check_id(name: object, path: str = "id") -> None:
    """Raise InvalidEntry unless this can be an item's id: text of at most 4,096 bytes of UTF-8."""
    if type(name) is not str:
        raise InvalidEntry(path, f"an id is text, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidEntry(path, "text with a lone surrogate") from None
    if size > _ID_BYTES_MAX:
        raise InvalidEntry(path, f"{size:,} bytes; an id has at most {_ID_BYTES_MAX:,}")
