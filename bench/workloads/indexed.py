"""Lists by an indexed field, in up to 100,000 sessions; and a field too large for the index, of 1,000 sessions."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.crew import Crew
from bench.measure import Summary, sample
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import other
from bench.workloads.listing import NEWEST, touch_each
from bench.workloads.population import store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "indexed"
ABOUT = "by an indexed field: the newest 100 of a status, how many there are, the first 100 by status; after k changes"
STORES = ("shardstore-indexed", "sqlite-listed")
CHANGED = (1, 100, 1_000)
LARGE, LARGE_SESSIONS = 20_000, 1_000  # bytes of one field, and sessions that have it
ASKS: dict[str, Callable[[Any], object]] = {
    "where status, newest 100": lambda peer: peer.newest(NEWEST, "running"),
    "count(where status)": lambda peer: peer.count("running"),
    "by status, first 100": lambda peer: peer.by_status(NEWEST),
}


def cases(stage: Stage) -> Iterator[Case]:
    """Yield each question, changes, and large fields."""
    size = stage.plan.list_sizes[-1]
    for name in ASKS:
        yield Case(NAME, f"{size:,} sessions, {name}", STORES, partial(_asked, size, name), stage.plan.seconds)
    for changed in CHANGED:
        if changed < size:
            stores = ("shardstore", "shardstore-indexed")
            name = f"{size:,} sessions, {changed:,} changed"
            yield Case(NAME, name, stores, partial(_changed, size, changed), stage.plan.seconds)
    yield Case(NAME, f"{LARGE_SESSIONS:,} sessions, a field of 20 KB", ("shardstore",), _large, stage.plan.seconds)


@contextmanager
def _asked(size: int, name: str, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with opened(store, store_of(stage, size, store)) as peer:
        ASKS[name](peer)
        yield lambda seconds: Summary.of(sample(partial(ASKS[name], peer), seconds)).metrics()


@contextmanager
def _changed(size: int, changed: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    """Another process changes k sessions; then one list is timed. Again until the time is over."""
    root = store_of(stage, size, store)
    with opened(store, root) as peer, Crew(store, root, 1) as crew:
        first = iter(range(1, 1_000_000_000, changed))

        def go(seconds: float) -> Metrics:
            taken: list[int] = []
            for _ in range(5 if seconds < 0.3 or changed > NEWEST else 20):
                crew.run(touch_each, size, next(first), changed)
                taken += sample(lambda: peer.newest(NEWEST), 0, at_least=1)
            return Summary.of(taken).metrics()

        yield go


@contextmanager
def _large(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill((other(number), {"text": "x" * LARGE, "n": number}) for number in range(LARGE_SESSIONS))
        listed = peer.store.list  # type: ignore[attr-defined]
        listed(limit=1)
        yield lambda seconds: Summary.of(sample(lambda: listed(fields=["text"]), seconds, at_least=3)).metrics()
