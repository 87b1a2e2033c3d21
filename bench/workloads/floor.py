"""How far update and patch are from the least that a locked append can cost in the same Python."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.measure import Summary, sample
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import entries
from bench.workloads.touch import change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "floor"
ABOUT = "update and patch, 1 KB and 42 KB, against a hand-written flock + fstat + orjson + append"


def cases(stage: Stage) -> Iterator[Case]:
    """Yield verb and size."""
    for verb in ("update", "patch"):
        for size in ("1 KB", "42 KB"):
            yield Case(NAME, f"{verb} {size}", ("shardstore", "floor"), partial(_stand, verb, size), stage.plan.seconds)


@contextmanager
def _stand(verb: str, size: str, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill(entries(size, 10))
        operation = change(peer, verb)
        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()
