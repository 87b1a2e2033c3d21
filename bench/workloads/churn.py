"""Fourteen days of a cron farm, compressed: 378 new sessions a day, each finished the same day, pruned at night.

Every round is a day. What must show: latency on the last day is that of the first, and the disk stops growing.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.measure import Summary, clock
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import bump, entry
from bench.workloads.population import sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.peers.base import Peer

NAME = "churn"
ABOUT = "14 days of 378 new sessions, pruned each night to 2,703: latency and disk, day by day"
STORES = ("shardstore", "sqlite-listed")
CREATES = 378
KEPT = 2_703
PATCHES = 4
LIST_EVERY = 20  # sessions
RESERVED_DIRECTORIES = ("archive", "quarantine")  # what was removed is kept there, and counted on its own


def cases(stage: Stage) -> Iterator[Case]:
    """Yield the one case; its rounds are days."""
    yield Case(NAME, "a day", STORES, _stand, 0.0, rounds=stage.plan.days)


def disk_bytes(root: Path, *, archived: bool) -> int:
    """Return the bytes allocated below root, either what is archived or all the rest."""
    files = (path for path in root.rglob("*") if path.is_file())
    return sum(
        p.stat().st_blocks * 512 for p in files if archived == any(name in p.parts for name in RESERVED_DIRECTORIES)
    )


def live_a_day(peer: Peer, day: int, now: Iterator[int]) -> dict[str, list[int]]:
    """Create, work on and finish a day's sessions, listing now and then; return the latencies by operation."""
    taken: dict[str, list[int]] = {"create": [], "update": [], "list": []}

    def timed(name: str, operation: Callable[[], object]) -> None:
        start = clock()
        operation()
        taken[name].append(clock() - start)

    for number in range(CREATES):
        key = f"agent:main:cron:nightly:run:{day}-{number}"
        body = {**entry("1 KB", number % 10), "status": "running", "updatedAt": next(now)}
        timed("create", partial(peer.create, key, body))
        for _ in range(PATCHES):
            timed("update", partial(peer.update, key, bump))
        timed("update", partial(peer.patch, key, {"status": "done", "updatedAt": next(now)}))
        if number % LIST_EVERY == 0:
            timed("list", partial(peer.newest, 100))
    return taken


@contextmanager
def _stand(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    days = iter(range(1, 1_000))
    now = iter(range(1_800_000_000_000, 1_900_000_000_000))
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill(sessions(KEPT))

        def go(seconds: float) -> Metrics:
            taken = live_a_day(peer, next(days), now)
            begun = clock()
            peer.prune(KEPT)
            metrics = {"prune_ms": (clock() - begun) / 1e6}
            for name, latencies in taken.items():
                metrics |= Summary.of(latencies).metrics(f"{name}_")
            metrics["disk_bytes"] = float(disk_bytes(root, archived=False))
            metrics["archived_bytes"] = float(disk_bytes(root, archived=True))
            return metrics

        yield go
