"""What the index costs an update: the first one of a session after somebody listed, and every other one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.measure import NS_PER_S, Summary, clock
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import HOT, bump, entries, other

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peers.base import Peer

NAME = "indexcost"
ABOUT = "what an update pays for the index: the first of a session after a list, and every other"
SESSIONS = 50
KEYS = [HOT, *(other(number) for number in range(1, SESSIONS))]
FIRST, NOTED = "first after a list", "update, noted"
TURNS = 40  # updates with the index, then as many without, and again


def cases(stage: Stage) -> Iterator[Case]:
    """Yield the first update after a list, and one whose shard is already noted."""
    yield Case(NAME, FIRST, ("shardstore",), _first, stage.plan.seconds)
    yield Case(NAME, NOTED, ("shardstore",), _noted, stage.plan.seconds)


def pass_over(peer: Peer) -> list[int]:
    """Update every session once; return the latencies."""
    taken = []
    for key in KEYS:
        start = clock()
        peer.update(key, bump)
        taken.append(clock() - start)
    return taken


@contextmanager
def _first(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill(entries("1 KB", SESSIONS))

        def go(seconds: float) -> Metrics:
            noting: list[int] = []
            noted: list[int] = []
            end = clock() + int(seconds * NS_PER_S)
            while clock() < end:
                peer.newest(1)  # refreshed: every session has to be marked as changed again
                noting += pass_over(peer)
                noted += pass_over(peer)
            return {**Summary.of(noting).metrics("noting_"), **Summary.of(noted).metrics("noted_")}

        yield go


class _NoIndex:
    """Stands in for the index of an open store and marks nothing: what an update would cost without one."""

    def mark_changed(self, name: str) -> None:
        """Mark nothing."""


@contextmanager
def _noted(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill(entries("1 KB", SESSIONS))
        engine = peer.store._engine  # type: ignore[attr-defined]  # the one place that looks inside
        index, nothing = engine.index, _NoIndex()

        def go(seconds: float) -> Metrics:
            taken: dict[str, list[int]] = {"with_": [], "without_": []}
            end = clock() + int(seconds * NS_PER_S)
            while clock() < end:
                for name, used in (("with_", index), ("without_", nothing)):
                    engine.index = used
                    for _ in range(TURNS):
                        start = clock()
                        peer.update(HOT, bump)
                        taken[name].append(clock() - start)
            engine.index = index
            return {**Summary.of(taken["with_"]).metrics("with_"), **Summary.of(taken["without_"]).metrics("without_")}

        yield go
