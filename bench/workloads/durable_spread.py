"""Eight processes on eight sessions, every update safe from a power cut."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.crowd import counted
from bench.plan import Case, Metrics, Stage
from bench.workloads.durable import named
from bench.workloads.spread import KEYS, PROCESSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "durable-spread"
ABOUT = "durable updates by 8 processes on 8 sessions of 1 KB; here, and on images where they can be mounted"


def cases(stage: Stage) -> Iterator[Case]:
    """Yield one case for each file system."""
    for filesystem in (None, *stage.filesystems):
        name, stores = named(f"{PROCESSES} processes", filesystem)
        yield Case(NAME, name, stores, partial(_stand, filesystem), stage.plan.window)


@contextmanager
def _stand(filesystem: str | None, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh(filesystem) as root, counted(store, root, PROCESSES, KEYS) as go:
        yield go
