"""The verbs of a session's log, and those that move a session whole. `Store` has a method for each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from shardstore import _codec as codec
from shardstore._draft_log import check_id
from shardstore._log import Item, LogChange
from shardstore._model import Change
from shardstore._wake import Rests
from shardstore.draft import Delete, Draft, changed_fields
from shardstore.errors import InvalidEntry, LogReplaced, SessionExists, SessionNotFound
from shardstore.log import Log, read_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shardstore._model import State
    from shardstore.engine import Engine, Transaction
    from shardstore.store import Store

    Patch = Mapping[str, Any] | Callable[[Draft], Mapping[str, Any] | None] | None

_ONE_ITEM: Final = (Mapping, str, bytes, bytearray)  # in place of a list of items: a mistake
_BATCH: Final = 256  # items that a follower reads at a time
_new = tuple.__new__  # half the price of calling the class
_RETRIES: Final = 100  # of a read whose log file was replaced meanwhile; each replacement is somebody's commit


class NewItems:
    """The items of one append, checked and encoded before the lock is taken."""

    __slots__ = ("_items", "_names")

    def __init__(self, items: Iterable[Any], ids: Iterable[str | None] | None) -> None:
        self._items = _encoded(items)
        self._names: Sequence[str | None] | None = None if ids is None else _names(ids, len(self._items))

    def all_known(self, draft: Draft) -> bool:
        """Return whether ids are given and every item stands in the log already: then a retry has nothing to do."""
        names = self._names
        if not names:
            return False
        return all(name is not None and draft.log.find(name) is not None for name in names)

    def is_plain(self, patch: Patch, state: State) -> bool:
        """Return whether no draft is needed. Most appends give the fields themselves, and no ids."""
        return self._names is None and state.fields is not None and (patch is None or type(patch) is dict)

    def plain_change(self, patch: Any, state: State) -> Change | None:
        """Return the change that adds the items and sets the fields; None where that is nothing. REQUIRES: is_plain."""
        changed = changed_fields(state, patch) if patch else {}
        if not self._items:
            return Change(changed, []) if changed else None
        added = _new(LogChange, (None, None, None, tuple(self._items)))
        return _new(Change, (changed, [], False, False, added))

    def change(self, draft: Draft, patch: Patch) -> Change | None:
        """Return the change that adds those that are not known, and then runs the patch; None where that is nothing."""
        for number, item in enumerate(self._items):
            draft.log.add_encoded(item.raw, None if self._names is None else self._names[number])
        apply_patch(draft, patch)
        return draft.change()


def _encoded(items: Iterable[Any]) -> list[Item]:
    if type(items) is not list and isinstance(items, _ONE_ITEM):
        raise TypeError(f"items is a list of items, not a {type(items).__name__}; for one item: [item]")
    found: list[Item] = []
    size = 0
    for number, value in enumerate(items):
        raw = codec.encode_item(value, "items", number)
        size += len(raw)
        if size > codec.ENTRY_BYTES_MAX:
            reason = f"with it the items have {size:,} bytes of JSON; one append has at most {codec.ENTRY_BYTES_MAX:,}"
            raise InvalidEntry(f"items[{number}]", reason)
        found.append(_new(Item, (raw, None, 0, "")))
    return found


def _names(ids: Iterable[str | None], count: int) -> list[str | None]:
    if isinstance(ids, str | bytes | Mapping):
        raise TypeError(f"ids is a list with an id or None for each item, not a {type(ids).__name__}")
    names = list(ids)
    if len(names) != count:
        raise InvalidEntry("ids", f"{len(names)} ids for {count} items; give one, or None, for each")
    for number, name in enumerate(names):
        if name is not None:
            check_id(name, f"ids[{number}]")
    return names


def apply_patch(draft: Draft, patch: Patch) -> None:
    """Change the fields beside an append: by a mapping, or by a function that is called with the draft."""
    if patch is None:
        return
    if type(patch) is dict or isinstance(patch, Mapping):
        for name in patch:
            draft[name] = patch[name]
        return
    if not callable(patch):
        raise TypeError(f"patch is a mapping or a function, not {type(patch).__name__}")
    result = patch(draft)
    if isinstance(result, Delete) or draft.is_deleted:
        raise TypeError("the patch of an append cannot delete the session; use update()")
    draft.accept(result)


def read_log(engine: Engine, key: str, start: int | None, stop: int | None) -> list[Any]:
    """Return the items log[start:stop] of the session as it is now. Raises SessionNotFound, CorruptShard."""
    for _ in range(_RETRIES):
        state = engine.read(key)
        if state.fields is None:
            raise SessionNotFound(key)
        try:
            return Log(key, state.log, engine.logs)[start:stop]
        except LogReplaced:
            continue
    raise LogReplaced(key)


class Follower:
    """The items of one log as they come; `Store.follow` returns it. Iterate over it, and close it when done.

    >>> items = store.follow("agent:chat", -1)
    >>> for item in items:
    ...     print(item)
    ...     items.close()
    {'role': 'user', 'content': 'hi'}
    """

    def __init__(self, store: Store, key: str, start: int | None) -> None:
        self._store: Store | None = store  # a Store that was closed says so at the next look
        self._key = key
        state = store.engine.read(key)
        self._incarnation = state.incarnation
        end = state.log.end
        self._next = end if start is None else max(state.log.dropped, end + start) if start < 0 else start
        self._begun = False  # whether the log was as long as that once
        self._found: Iterator[Any] = iter(())
        self.rests: Rests = Rests(store.engine.changes_in(key))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while True:
            for value in self._found:
                return value
            if self._store is None:
                raise StopIteration
            if not self._look(self._store.engine):
                self.rests.wait(self.rests.pause())

    def ready(self) -> list[Any]:
        """Return the items that have come and were not returned yet, without waiting; empty after `close`.

        Raises as `Store.get`.

        >>> items = store.follow("agent:chat", 0)
        >>> items.ready(), items.ready()
        ([{'role': 'user', 'content': 'hi'}], [])
        """
        found, self._found = list(self._found), iter(())  # a look puts others in their place
        if self._store is not None:
            self._look(self._store.engine)
            found += self._found
            self._found = iter(())
        return found

    def close(self) -> None:
        """End the iteration, also while another thread waits in it. A second call does nothing.

        >>> items = store.follow("agent:chat", 0)
        >>> items.close()
        >>> list(items)
        []
        """
        self._store, self._found = None, iter(())
        self.rests.close()

    def _look(self, engine: Engine) -> bool:
        """Read the added items; return whether there are any."""
        state = engine.read(self._key)
        if not state.exists:
            return False
        if state.incarnation != self._incarnation:
            self._next = state.log.dropped if self._incarnation else self._next  # deleted and made again, or just made
            self._incarnation = state.incarnation
        log = state.log
        if self._next > log.end and not self._begun:
            return False  # the first item wanted has not come
        self._begun = True
        start = min(max(self._next, log.dropped), log.end)  # the end where the log was cut
        try:
            items = read_items(engine.logs, self._key, log, start, min(log.end, start + _BATCH))
        except LogReplaced:
            return False  # by a commit of this moment: look again
        self._next = start + len(items)
        if items:
            self._found = iter([codec.loads(item.raw) for item in items])
            self.rests.begin()
        return bool(items)


# Two sessions at once. The only verbs that hold two locks: always in the same order, so that two of them never wait
# for each other.


class Pair:
    """The transactions on a source that exists and a target that does not. Enter it for (source, target)."""

    def __init__(self, engine: Engine, source: str, target: str, timeout: float | None) -> None:
        self._engine = engine
        self._keys = (source, target)
        self._timeout = timeout
        self._entered: dict[str, Transaction] = {}

    def __enter__(self) -> tuple[Transaction, Transaction]:
        source, target = self._keys
        engine = self._engine
        engine.place(source)
        engine.place(target)
        if source == target:
            if not engine.read(source).exists:
                raise SessionNotFound(source)
            raise SessionExists(target)
        began = time.monotonic()
        try:
            for key in sorted(self._keys, key=_digest):
                left = None if self._timeout is None else max(0.0, self._timeout - (time.monotonic() - began))
                self._entered[key] = engine.transaction(key, left, create=key == target)
                self._entered[key].__enter__()
        except BaseException:
            self.abandon()
            raise
        return self._entered[source], self._entered[target]

    def __exit__(self, *_: object) -> None:
        for key in reversed(self._entered):
            self._entered[key].__exit__(None, None, None)

    def abandon(self) -> None:
        """Leave the transactions that are still entered, as after a failed leave or an exception from outside."""
        for txn in self._entered.values():
            txn.abandon()


def _digest(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=16).digest()


def copy_of(engine: Engine, key: str, state: State, stop: int | None) -> Change:
    """Return the change that makes an absent session one with these fields and log[:stop]. Raises CorruptShard."""
    log = state.log
    end = log.dropped + len(range(log.length)[:stop])
    items: list[Item] = read_items(engine.logs, key, log, log.dropped, end)
    return Change(dict(state.fields or {}), [], whole=True, log=LogChange(add=tuple(items)) if items else None)
