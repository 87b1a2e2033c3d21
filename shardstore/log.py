"""The log of a session as a snapshot: an immutable sequence whose items are read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol, overload

from shardstore import _codec as codec
from shardstore.errors import LogReplaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore._log import Item, LogState

_BATCH: Final = 256  # items that iteration reads at a time
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(microseconds: int) -> datetime:
    """Return an aware datetime, in UTC, of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=microseconds)


def ticks(when: datetime) -> int:
    """Return microseconds since the epoch of an aware datetime."""
    return (when - _EPOCH) // timedelta(microseconds=1)


class LogItem(NamedTuple):
    """One item of a log; `log.entries` returns it.

    >>> item = store["agent:chat"].log.entries(-1)[0]
    >>> item.index, item.id, item.actor == chat.actor, item.at == chat.updated_at, item.value["role"]
    (0, 'm-1', True, True, 'user')
    """

    index: int  # type: ignore[assignment]  # its place in the log it was read from; a tuple's method is not missed
    id: str | None
    at: datetime  # when it got this value, in UTC
    actor: str  # who gave it this value
    value: Any


class LogSource(Protocol):
    """The reader of the settled parts of logs. Every engine has one."""

    def read(self, key: str, log: LogState, start: int, stop: int) -> list[Item]:
        """Return the settled items of these numbers as their file has them.

        Raises LogReplaced where the file was replaced since, CorruptShard where one of the items is damaged.
        """

    def values(self, key: str, log: LogState, start: int, stop: int) -> list[Any]:
        """Return the values of the same items, each a new one. Raises as `read`."""

    def number_of(self, key: str, log: LogState, name: str) -> int | None:
        """Return the number of the settled item with this id that stands; None where there is none."""


class NotOnALoop:
    """The source of a session that AsyncStore returned: reading a file would stop the event loop."""

    def read(self, key: str, log: LogState, start: int, stop: int) -> list[Item]:  # noqa: ARG002
        """Raise TypeError."""
        raise TypeError(f"these items of {key!r} are not in memory; use `await store.log({key!r}, start, stop)`")

    values = read

    def number_of(self, key: str, log: LogState, name: str) -> int | None:  # noqa: ARG002
        """Raise TypeError."""
        raise TypeError(f"not all items of {key!r} are in memory; use `await store.log({key!r}, start, stop)`")


NOT_ON_A_LOOP: Final = NotOnALoop()


def is_same(one: Log, other: Log) -> bool:
    """Return whether two snapshots of one session, of the same file, have the same log. Reads no item."""
    return one._log[:-1] == other._log[:-1]  # noqa: SLF001  # all but `names`, which follows from the items


def read_items(source: LogSource | None, key: str, log: LogState, start: int, stop: int) -> list[Item]:
    """Return the items of these numbers, which stand in the log. Raises LogReplaced, CorruptShard."""
    found: list[Item] = []
    kept = log.kept
    if start < min(stop, kept):
        if source is None:
            raise LogReplaced(key)
        found = source.read(key, log, start, min(stop, kept))
        if log.replaced:
            found = [_newest(log, number, item) for number, item in enumerate(found, start)]
    if stop > kept:
        found += log.pending[max(start - kept, 0) : stop - kept]
    return found


def read_values(source: LogSource | None, key: str, log: LogState, start: int, stop: int) -> list[Any]:
    """Return the values of the same items, each a new one. Raises LogReplaced, CorruptShard."""
    found: list[Any] = []
    kept = log.kept
    if start < min(stop, kept):
        if source is None:
            raise LogReplaced(key)
        found = source.values(key, log, start, min(stop, kept))
        for number, item in log.replaced.items():
            if start <= number < stop:
                found[number - start] = codec.loads(item.raw)
    if stop > kept:
        found += [codec.loads(item.raw) for item in log.pending[max(start - kept, 0) : stop - kept]]
    return found


def _newest(log: LogState, number: int, item: Item) -> Item:
    new = log.replaced.get(number)
    return item if new is None else new._replace(id=item.id)


def find_number(source: LogSource | None, key: str, log: LogState, name: str) -> int | None:
    """Return the number of the item with this id; None where none stands in the log."""
    number = log.find_pending(name)
    if number is not None or log.kept == log.dropped:
        return number
    if source is None:
        raise LogReplaced(key)
    return source.number_of(key, log, name)


class Log(Sequence[Any]):
    """The items of a session, as they were when the session was read. Immutable.

    `log[-20:]` reads the newest 20 and no more, however long the log is. An item is decoded at each use, and is
    yours to change. `len` always answers. Reading items raises LogReplaced if the file that holds them was replaced
    since (get the session again), and CorruptShard if that file is damaged there.

    The example of each method goes on from here:

    >>> log = store["agent:chat"].log
    >>> len(log), log.dropped, log[-1]
    (1, 0, {'role': 'user', 'content': 'hi'})
    >>> [item["role"] for item in log]
    ['user']
    """

    __slots__ = ("_key", "_log", "_source")

    def __init__(self, key: str, log: LogState, source: LogSource | None) -> None:
        self._key = key
        self._log = log
        self._source = source

    def __len__(self) -> int:
        return self._log.length

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            places = range(len(self))[place]
            if places.step != 1:  # a few of many, perhaps
                return [codec.loads(item.raw) for item in self._slice(places)]
            return self._values(places) if places else []
        at = range(len(self))[place]
        return self._values(range(at, at + 1))[0]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _BATCH):
            yield from self[start : start + _BATCH]

    def __reversed__(self) -> Iterator[Any]:
        for stop in range(len(self), 0, -_BATCH):
            yield from reversed(self[max(0, stop - _BATCH) : stop])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Log | list):
            return NotImplemented
        return len(self) == len(other) and list(self) == list(other)

    __hash__: ClassVar[None]  # type: ignore[assignment]  # equal to a list, which has none

    def __repr__(self) -> str:
        return f"Log({self._key!r}, items={len(self)})"

    @property
    def dropped(self) -> int:
        """How many items were dropped at the front since the session was made."""
        return self._log.dropped

    def find(self, id: str) -> int | None:  # noqa: A002  # as in append
        """Return the index of the item with this id; None if no item in the log has it. Raises as reading items does.

        >>> log.find("m-1"), log.find("m-2")
        (0, None)
        """
        number = find_number(self._source, self._key, self._log, id)
        return None if number is None else number - self._log.dropped

    def ids(self, start: int | None = None, stop: int | None = None) -> list[str | None]:
        """Return the ids of log[start:stop], None for an item without one. Raises as reading items does.

        >>> log.ids(-20)
        ['m-1']
        """
        return [item.id for item in self._slice(range(len(self))[start:stop])]

    def entries(self, start: int | None = None, stop: int | None = None) -> list[LogItem]:
        """Return log[start:stop] as LogItems: index, id, time and actor beside each value.

        Raises as reading items does.

        >>> for item in log.entries(-20):
        ...     print(item.index, item.id, item.value["content"])
        0 m-1 hi
        """
        places = range(len(self))[start:stop]
        return [
            LogItem(index, item.id, moment(item.at), item.actor, codec.loads(item.raw))
            for index, item in zip(places, self._slice(places), strict=True)
        ]

    def _values(self, places: range) -> list[Any]:
        first = self._log.dropped
        return read_values(self._source, self._key, self._log, first + places.start, first + places.stop)

    def _slice(self, places: range) -> list[Item]:
        """Return the items at these places."""
        if not places:
            return []
        low, high = min(places[0], places[-1]), max(places[0], places[-1])
        first = self._log.dropped
        found = read_items(self._source, self._key, self._log, first + low, first + high + 1)
        return found if places.step == 1 else [found[place - low] for place in places]
