"""One field of one entry changes, in one process: through update(fn) and through patch."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import count, cycle
from typing import TYPE_CHECKING

from bench.measure import Summary, sample
from bench.peers import RELAXED_STORES
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import HOT, bump, entries, other

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peers.base import Peer

NAME = "touch"
ABOUT = "one field changed, 140 B to 400 KB, update(fn) and patch, one process, relaxed"
NEIGHBOURS = 50  # other sessions in the store: a table of one row flatters a tree
WIDE = 200  # sessions written in turn: more than a process keeps descriptors or pages hot for


def cases(stage: Stage) -> Iterator[Case]:
    """Yield verb and size; and update in turn over WIDE sessions."""
    seconds = stage.plan.seconds
    for verb in ("update", "patch"):
        for size in stage.plan.entry_sizes:
            yield Case(NAME, f"{verb} {size}", RELAXED_STORES, partial(_stand, verb, size), seconds)
    yield Case(NAME, f"update 1 KB, {WIDE} sessions in turn", RELAXED_STORES, _wide, seconds)


def change(peer: Peer, verb: str) -> Callable[[], None]:
    """Return the operation that is timed: one field of HOT set to a new value."""
    if verb == "update":
        return lambda: peer.update(HOT, bump)
    numbers = count(1)
    return lambda: peer.patch(HOT, {"totalTokens": next(numbers)})


@contextmanager
def _stand(verb: str, size: str, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill(entries(size, 10 if size == "400 KB" else NEIGHBOURS))
        operation = change(peer, verb)
        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()


@contextmanager
def _wide(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill(entries("1 KB", WIDE))
        keys = cycle([HOT, *(other(number) for number in range(1, WIDE))])
        yield lambda seconds: Summary.of(sample(lambda: peer.update(next(keys), bump), seconds)).metrics()
