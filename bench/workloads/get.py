"""An entry that nobody changes is read: one field of it, and everything as the caller's own objects."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.measure import Summary, sample
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import HOT, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "get"
ABOUT = "an unchanged entry of 1 KB or 42 KB: one field, and everything, one process"
STORES = ("shardstore", "sqlite", "lmdb-nosync", "diskcache", "perfile", "onefile", "nanobot", "strands", "openai")
NEIGHBOURS = 50


def cases(stage: Stage) -> Iterator[Case]:
    """Yield size and how much of the entry is read."""
    for size in ("1 KB", "42 KB"):
        for part in ("one field", "everything"):
            yield Case(NAME, f"{size}, {part}", STORES, partial(_stand, size, part), stage.plan.seconds)


@contextmanager
def _stand(size: str, part: str, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill(entries(size, NEIGHBOURS))
        operation = (lambda: peer.field(HOT, "totalTokens")) if part == "one field" else (lambda: peer.get(HOT))
        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()
