"""Several processes that increment counters, and the proof of how many increments arrived."""

from __future__ import annotations

import time
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.crew import Crew
from bench.measure import NS_PER_S, Summary, clock
from bench.plan import opened
from bench.sizes import bump, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bench.peers.base import Peer
    from bench.plan import Metrics


def increment(peer: Peer, rank: int, keys: Sequence[str], seconds: float, hold: float) -> tuple[array[int], int]:
    """Increment this process' key until the time is over: (latencies in ns, wall time in ns). A worker's job.

    `hold` is how long the mutator takes: the time for which the others have to wait.
    """

    def mutate(draft: object) -> None:
        bump(draft)
        if hold:
            time.sleep(hold)

    key = keys[rank % len(keys)]
    taken = array("q")
    begun = now = clock()
    end = begun + int(seconds * NS_PER_S)
    while now < end:
        start = clock()
        peer.update(key, mutate)
        now = clock()
        taken.append(now - start)
    return taken, now - begun


@contextmanager
def counted(
    store: str, root: Path, processes: int, keys: Sequence[str], hold: float = 0.0
) -> Iterator[Callable[[float], Metrics]]:
    """Stand for workloads in which processes increment: throughput, waiting, fairness, and what was lost."""
    with opened(store, root) as peer:
        peer.fill(entries("1 KB", 10))
        with Crew(store, root, processes) as crew:

            def go(seconds: float) -> Metrics:
                before = _total(peer, keys)
                results = crew.run(increment, keys, seconds, hold)
                arrived = _total(peer, keys) - before
                wall = max(wall for _, wall in results) / NS_PER_S
                return {**metrics([taken for taken, _ in results], wall, arrived), "problems": float(peer.check())}

            yield go


def _total(peer: Peer, keys: Sequence[str]) -> int:
    return sum(int(str(peer.field(key, "totalTokens"))) for key in keys)


def metrics(taken: Sequence[Sequence[int]], wall: float, arrived: int) -> Metrics:
    """Return what a round of several processes measured.

    fairness: turns of the process that had fewest over those of the one that had most.
    p99_share: p99 over the fair share, which is what each would wait if turns went round in order.
    lost: acknowledged increments that the counters don't show.
    """
    turns = [len(each) for each in taken]
    acknowledged = sum(turns)
    summary = Summary.of([latency for each in taken for latency in each], wall).metrics()
    fair_us = wall * 1e6 * len(turns) / acknowledged
    return {
        **summary,
        "turns_min": float(min(turns)),
        "turns_max": float(max(turns)),
        "fairness": min(turns) / max(turns),
        "fair_us": fair_us,
        "p99_share": summary["p99_us"] / fair_us,
        "lost": float(acknowledged - arrived),
    }
