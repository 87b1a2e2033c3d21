"""Every update survives a power cut: one process, on every file system at hand."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.measure import Summary, sample
from bench.peers import DURABLE_STORES
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import entries
from bench.workloads.touch import change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "durable"
ABOUT = "durable updates of 1 KB, one process; here, and on ext4 and xfs images where they can be mounted"
NEIGHBOURS = 50
ON_IMAGES = ("shardstore-commit", "sqlite-full", "lmdb", "perfile-fsync")


def cases(stage: Stage) -> Iterator[Case]:
    """Yield one case for each file system."""
    seconds = max(stage.plan.window / 2, stage.plan.seconds)
    for filesystem in (None, *stage.filesystems):
        name, stores = named("1 process", filesystem)
        yield Case(NAME, name, stores, partial(_stand, filesystem), seconds)


def named(name: str, filesystem: str | None) -> tuple[str, tuple[str, ...]]:
    """Return a case's name and its stores on one file system; the agents' stores run on the machine's own only."""
    return (f"{name} on {filesystem}", ON_IMAGES) if filesystem else (name, DURABLE_STORES)


@contextmanager
def _stand(filesystem: str | None, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh(filesystem) as root, opened(store, root) as peer:
        peer.fill(entries("1 KB", NEIGHBOURS))
        operation = change(peer, "update")
        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()
