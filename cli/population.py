"""How the sessions of a store divide: by the beginnings of their keys, and by their field `status`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from . import show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore import SessionInfo, Store

STATUS = "status"
RUNNING = "running"
_PAGE = 5_000  # sessions in memory at a time
_DEPTH = 4  # parts of a key, at most, that a prefix has
_SEPARATOR = ":"


class Population(NamedTuple):
    """How many sessions there are of each kind, the most first."""

    prefixes: list[tuple[str, int]]
    statuses: list[tuple[str, int]]  # of those that have a status, as text
    running: list[SessionInfo]  # the ones that changed longest ago


def population(store: Store, top: int, *, indexed: bool) -> Population:
    """Count every session once. `top`: how many are wanted of each; `indexed`: the store has an index to go by."""
    by_prefix: list[Counter[str]] = [Counter() for _ in range(_DEPTH)]
    by_status: Counter[str] = Counter()
    for info in _sessions(store, _PAGE if indexed else None):
        parts = info.key.split(_SEPARATOR)
        for depth, counter in enumerate(by_prefix):
            counter[_prefix(parts, depth)] += 1
        if STATUS in info.fields:
            by_status[_text(info.fields[STATUS])] += 1
    running: list[SessionInfo] = []
    if by_status[RUNNING]:
        running = store.list(where={STATUS: RUNNING}, order_by="updated_at", limit=top)
    most = min(top, sum(by_prefix[0].values()) - 1)
    telling = next((counter for counter in reversed(by_prefix) if len(counter) <= most), by_prefix[0])
    return Population(telling.most_common(top), by_status.most_common(top), running)


def _prefix(parts: list[str], depth: int) -> str:
    """Return the first parts of a key, as a prefix that can be asked for; a whole key where it has no more of them."""
    taken = parts[: depth + 1]
    return _SEPARATOR.join(taken) + (_SEPARATOR if len(parts) > len(taken) else "")


def _text(status: object) -> str:
    return show.text(status) if isinstance(status, str) else show.value(status)


def _sessions(store: Store, page: int | None) -> Iterator[SessionInfo]:
    """Yield every session, in the order of keys; without an index all at once, for each page would read every file."""
    found: list[SessionInfo] = []
    while found := store.list(order_by="key", limit=page, after=found[-1] if found else None, fields=[STATUS]):
        yield from found
        if page is None:
            return
