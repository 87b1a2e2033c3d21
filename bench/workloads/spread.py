"""Eight processes, each with a session of its own: what waiting for nobody is worth."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.crowd import counted
from bench.plan import Case, Metrics, Stage
from bench.sizes import other
from bench.workloads.hotkey import WITH_FRAMEWORKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "spread"
ABOUT = "8 processes update 8 sessions of 1 KB, one each, relaxed"
PROCESSES = 8
KEYS = [other(number) for number in range(1, PROCESSES + 1)]


def cases(stage: Stage) -> Iterator[Case]:
    """Yield the one case there is."""
    yield Case(NAME, f"{PROCESSES} processes, {PROCESSES} keys", WITH_FRAMEWORKS, _stand, stage.plan.window)


@contextmanager
def _stand(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, counted(store, root, PROCESSES, KEYS) as go:
        yield go
