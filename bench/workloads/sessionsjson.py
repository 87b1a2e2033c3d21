"""The incident that the project answers to: 240 sessions of 233 KB in one sessions.json, one field changes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.measure import Summary, sample
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import entries
from bench.workloads.touch import change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "sessionsjson"
ABOUT = "240 sessions of 230 KB (56 MB): one field of one changes; one sessions.json against a store"


def cases(stage: Stage) -> Iterator[Case]:
    """Yield the one case, smaller when quick."""
    sessions = 40 if stage.plan.quick else 240
    name = f"{sessions} sessions of 230 KB"

    @contextmanager
    def stand(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
        with stage.fresh() as root, opened(store, root) as peer:
            peer.fill(entries("230 KB", sessions))
            operation = change(peer, "update")
            yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()

    yield Case(NAME, name, ("shardstore", "sqlite", "perfile", "onefile"), stand, stage.plan.seconds)
