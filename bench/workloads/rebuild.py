"""The index is gone: the first list makes it again, against opening and reading every file once."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.measure import NS_PER_S, Summary, clock
from bench.peers import SPECS
from bench.plan import Case, Metrics, Stage
from bench.workloads.population import drop, store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "rebuild"
ABOUT = "the index is deleted: the first list, against opening and reading every file once"
READ_ALL = "read every file once"


def cases(stage: Stage) -> Iterator[Case]:
    """Yield the largest population; few rounds, for each takes its time."""
    size = stage.plan.list_sizes[-1]
    yield Case(NAME, f"{size:,} sessions", ("shardstore", READ_ALL), _stand, 0.0, rounds=min(3, stage.plan.rounds))


def read_all(root: Path) -> int:
    """Open and read every file below root; return the bytes."""
    total = 0
    for directory, _, names in os.walk(root):
        for name in names:
            fd = os.open(f"{directory}/{name}", os.O_RDONLY)
            try:
                while part := os.read(fd, 1 << 16):
                    total += len(part)
            finally:
                os.close(fd)
    return total


@contextmanager
def _stand(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    root = store_of(stage, stage.plan.list_sizes[-1])

    def go(seconds: float) -> Metrics:
        begun = clock()
        if store == READ_ALL:
            read_all(root / "store" / "shards")
            return {"seconds": (clock() - begun) / NS_PER_S}
        drop(root / "store" / "index")
        peer = SPECS[store].open(root)
        begun = clock()
        peer.newest(100)
        taken = clock() - begun
        peer.close()
        return {"seconds": taken / NS_PER_S, **Summary.of([taken]).metrics()}

    yield go
