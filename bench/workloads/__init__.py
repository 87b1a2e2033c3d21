"""The workloads by name. Each module has NAME, ABOUT and cases(stage)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from bench.workloads import (
    asynchronous,
    bulk,
    churn,
    cold,
    durable,
    durable_spread,
    fanout,
    floor,
    get,
    hotkey,
    indexcost,
    indexed,
    listing,
    memory,
    mixed,
    rebuild,
    sessionsjson,
    spread,
    touch,
    transcript,
    turn,
    typed,
    watching,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from bench.plan import Case, Stage


class Workload(Protocol):
    """What a workload module offers."""

    NAME: str
    ABOUT: str

    @staticmethod
    def cases(stage: Stage) -> Iterator[Case]:
        """Yield the cases for a plan's sizes."""


_MODULES: tuple[ModuleType, ...] = (
    touch, get, turn, floor, sessionsjson, hotkey, spread, fanout, mixed, durable, durable_spread,
    listing, indexed, indexcost, rebuild, churn, bulk, cold, memory, transcript, typed, watching, asynchronous,
)  # fmt: skip
WORKLOADS: dict[str, Workload] = {module.NAME: cast("Workload", module) for module in _MODULES}
