"""Many processes, one key: who gets how many turns, and how long the unluckiest wait."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.crowd import counted
from bench.plan import Case, Metrics, Stage
from bench.sizes import HOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "hotkey"
ABOUT = "2, 8, 32 processes increment one 1 KB entry: throughput, fairness, p99; also with a mutator of 2 ms"
STORES = ("shardstore", "sqlite", "lmdb-nosync", "diskcache", "perfile", "onefile")
WITH_FRAMEWORKS = (*STORES, "perfile-unlocked", "nanobot", "strands", "openai")
HOLD_S = 0.002
FRAMEWORKS_UP_TO = 8  # processes: 32 of them need longer to import than to measure


def cases(stage: Stage) -> Iterator[Case]:
    """Yield the numbers of processes, without and with a mutator that takes its time."""
    for processes in stage.plan.processes:
        stores = WITH_FRAMEWORKS if processes <= FRAMEWORKS_UP_TO else STORES
        yield Case(NAME, f"{processes} processes", stores, partial(_stand, processes, 0.0), stage.plan.window)
    for processes in stage.plan.processes[1:]:
        yield Case(
            NAME, f"{processes} processes, 2 ms each", STORES, partial(_stand, processes, HOLD_S), stage.plan.window
        )


@contextmanager
def _stand(processes: int, hold: float, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, counted(store, root, processes, [HOT], hold) as go:
        yield go
