"""The log of a session as a value: which items stand, and where. Nothing here does I/O.

Every item has a number that counts from the first item ever added. Dropping items at the front leaves the numbers of
the others as they are, so a follower keeps its position. Three parts make up a log, in this order:

    [dropped, kept)                  items in the settled file, some of them with a newer value in `replaced`
    [kept, kept + len(pending))      items that stand in the journal

A log state is immutable, as a state is: readers, drafts and snapshots share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

SETTLE_BYTES: Final = 262144  # items move to the log's file when those that stand in the journal take more than this
ITEM_OVERHEAD: Final = 64  # bytes that an item takes in a journal beside its value, about


class Item(NamedTuple):
    """One item as it is kept."""

    raw: bytes  # its value as JSON
    id: str | None = None
    at: int = 0  # when it got this value, in microseconds since the epoch; 0 in a change: now
    actor: str = ""  # who gave it this value


class Settled(NamedTuple):
    """The part of a log that stands in a file of its own. Bytes behind `end` in that file never happened."""

    file: str = ""  # the id in the file's name; empty: there is none
    lines: int = 0
    end: int = 0  # bytes
    first: int = 0  # the number of the item in the first line


NOWHERE: Final = Settled()


class Names:
    """The numbers of pending items by id. A cache that the states of one log share, so it may know more than one has.

    It says nothing of the log by itself, so it is equal to every other one.
    """

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Names)

    def __hash__(self) -> int:
        return 0

    def note(self, items: tuple[Item, ...], first: int) -> None:
        """Note the ids of items whose numbers begin at `first`."""
        for number, item in enumerate(items, first):
            if item.id is not None:
                self.numbers[item.id] = number


_NONE: Final[dict[int, Item]] = {}


class LogState(NamedTuple):
    """The committed state of a log. Immutable."""

    dropped: int = 0  # the number of the first item that stands: so many were dropped at the front
    kept: int = 0  # the number behind the last settled item that stands
    pending: tuple[Item, ...] = ()
    bytes: int = 0  # of the pending and replaced items, about: they are a part of the journal
    settled: Settled = NOWHERE
    replaced: dict[int, Item] = _NONE  # by number; never mutated
    names: Names | None = None  # knows every pending item with an id; None: no pending item has one

    @property
    def end(self) -> int:
        """The number behind the last item."""
        return self.kept + len(self.pending)

    @property
    def length(self) -> int:
        """How many items stand."""
        return self.kept + len(self.pending) - self.dropped

    def find_pending(self, name: str) -> int | None:
        """Return the number of the pending item with this id; None where there is none."""
        number = None if self.names is None else self.names.numbers.get(name)
        if number is None:
            return None
        place = number - self.kept
        if 0 <= place < len(self.pending) and self.pending[place].id == name:
            return number
        return next((n for n, item in enumerate(self.pending, self.kept) if item.id == name), None)

    @property
    def appends_to_file(self) -> bool:
        """Whether the settled file, as it is, is what the pending items follow."""
        settled = self.settled
        return bool(settled.file) and self.kept == settled.first + settled.lines and not self.replaced


NO_LOG: Final = LogState()


class LogChange(NamedTuple):
    """The changes of one commit to a log, in this order. Numbers are those of items."""

    cut: int | None = None  # items from this number on go
    drop: int | None = None  # items before this number go
    rep: dict[int, Item] | None = None  # items that get another value, by number; each keeps its id
    add: tuple[Item, ...] = ()


def applied(log: LogState, change: LogChange) -> LogState:
    """Return the log after a change. Numbers outside of the log are brought into it: salvage meets them."""
    dropped, kept, pending, size, settled, replaced, names = log
    cut, drop, rep, add = change
    if cut is None and drop is None and not rep:
        for item in add:
            size += len(item.raw) + ITEM_OVERHEAD
        names = _noted(names, add, kept + len(pending))
        return LogState(dropped, kept, pending + add, size, settled, replaced, names)
    if cut is not None:
        cut = max(cut, dropped)
        pending = pending[: max(0, cut - kept)]
        kept = min(kept, cut)
    if drop is not None:
        dropped = max(dropped, min(drop, kept + len(pending)))
        pending = pending[max(0, dropped - kept) :]
        kept = max(kept, dropped)
    changed = {**replaced, **rep} if rep else replaced
    if rep:
        pending = tuple(_renewed(item, rep.get(number)) for number, item in enumerate(pending, kept))
    if names is not None and all(item.id is None for item in pending):
        names = None
    names = _noted(names, add, kept + len(pending))
    pending += add
    stand = {number: item for number, item in changed.items() if dropped <= number < kept}
    return LogState(dropped, kept, pending, _bytes(pending) + _bytes(stand.values()), settled, stand, names)


def _noted(names: Names | None, add: tuple[Item, ...], first: int) -> Names | None:
    if names is None:
        if all([item.id is None for item in add]):  # noqa: C419  # a generator costs more than a few items
            return None
        names = Names()
    names.note(add, first)
    return names


def _renewed(item: Item, new: Item | None) -> Item:
    return item if new is None else new._replace(id=item.id)


def _bytes(items: Iterable[Item]) -> int:
    return sum(len(item.raw) + ITEM_OVERHEAD for item in items)


def misfit(log: LogState, change: LogChange) -> str:
    """Return why a change cannot follow on this log; an empty text where it can."""
    low, high = log.dropped, log.end
    if change.cut is not None:
        if not low <= change.cut <= high:
            return f"the log, which has the items {low} to {high}, is cut at {change.cut}"
        high = change.cut
    if change.drop is not None:
        if not low <= change.drop <= high:
            return f"of the log, which has the items {low} to {high}, those before {change.drop} are dropped"
        low = change.drop
    if change.rep and not all(low <= number < high for number in change.rep):
        return "an item is replaced that the log does not have"
    return ""


def moved_to(log: LogState, settled: Settled) -> LogState:
    """Return the same log when all that stands is in a settled file, and nothing is pending."""
    return LogState(log.dropped, settled.first + settled.lines if settled.file else log.dropped, (), 0, settled)
