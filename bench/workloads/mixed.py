"""A busy host: the operations of evidence from the field, on keys of which few are hot."""

from __future__ import annotations

import random
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

from bench import openclaw
from bench.crew import Crew
from bench.measure import NS_PER_S, Summary, clock
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peers.base import Peer

NAME = "mixed"
ABOUT = "a host's operation mix on 188 sessions of mixed sizes, Zipf, 1, 4 and 16 processes, relaxed"
STORES = ("shardstore", "sqlite-listed", "lmdb-nosync", "perfile", "onefile")
MIX = {"patch": 62, "get": 20, "list": 6, "route": 4, "create": 3, "finish": 3, "roll": 1, "delete": 1}  # per cent
ZIPF = 1.1
SCHEDULE = 5_000  # operations drawn before the timing; then from the start again
NEWEST = 100


def cases(stage: Stage) -> Iterator[Case]:
    """Yield the numbers of processes."""
    for processes in (1, 4) if stage.plan.quick else (1, 4, 16):
        yield Case(NAME, f"{processes} processes", STORES, partial(_stand, processes), stage.plan.window)


def schedule(rank: int, keys: list[str]) -> list[tuple[str, str]]:
    """Draw (operation, key) pairs, the same for every store."""
    draw = random.Random(rank)
    weights = list(accumulate(1 / place**ZIPF for place in range(1, len(keys) + 1)))
    operations = draw.choices(list(MIX), list(MIX.values()), k=SCHEDULE)
    return list(zip(operations, draw.choices(keys, cum_weights=weights, k=SCHEDULE), strict=True))


class Host:
    """What one process of a host does; it creates sessions of its own and deletes only those."""

    def __init__(self, peer: Peer, rank: int) -> None:
        self.peer = peer
        self.mine: list[str] = []
        self.names = (f"agent:main:subagent:{rank}:{clock()}:{number}" for number in range(10_000_000))
        self.now = 1_771_290_458_500

    def do(self, operation: str, key: str) -> None:
        """Run one operation of the mix."""
        self.now += 1
        stamp = {"updatedAt": self.now}
        match operation:
            case "patch":
                self.peer.patch(key, {"totalTokens": self.now, **stamp})
            case "get":
                self.peer.field(key, "updatedAt")
            case "list":
                self.peer.newest(NEWEST)
            case "route":
                self.peer.patch(key, {"lastChannel": "telegram", "lastTo": f"telegram:{self.now}", **stamp})
            case "finish":
                self.peer.patch(key, {"status": "done", "endedAt": self.now, **stamp})
            case "roll":
                self.peer.patch(key, {"sessionId": f"{self.now:x}", "sessionFile": f"{self.now:x}.jsonl", **stamp})
            case "create":
                self.mine.append(next(self.names))
                self.peer.create(self.mine[-1], {**entry("1 KB"), **stamp})
            case "delete" if self.mine:
                self.peer.delete(self.mine.pop())


def work(peer: Peer, rank: int, keys: list[str], seconds: float) -> tuple[list[tuple[str, int]], int]:
    """Run the mix until the time is over: ((operation, latency in ns) ..., wall time in ns). A worker's job."""
    host = Host(peer, rank)
    todo = schedule(rank, keys)
    taken: list[tuple[str, int]] = []
    begun = now = clock()
    end = begun + int(seconds * NS_PER_S)
    while now < end:
        for operation, key in todo:
            start = clock()
            host.do(operation, key)
            now = clock()
            taken.append((operation, now - start))
            if now >= end:
                break
    return taken, now - begun


@contextmanager
def _stand(processes: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    population = openclaw.population("busy", 0)
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill(population.items())
        with Crew(store, root, processes) as crew:

            def go(seconds: float) -> Metrics:
                results = crew.run(work, list(population), seconds)
                wall = max(wall for _, wall in results) / NS_PER_S
                every = [pair for taken, _ in results for pair in taken]
                metrics = Summary.of([latency for _, latency in every], wall).metrics()
                for operation in MIX:
                    latencies = [latency for name, latency in every if name == operation]
                    if latencies:
                        metrics |= Summary.of(latencies).metrics(f"{operation}_")
                return {**metrics, "problems": float(peer.check())}

            yield go
