"""What a goal is, and the ways in which raw results tell how far it was reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.results import Results

OURS = "shardstore"
Measure = Callable[["Results"], "float | None"]
Place = tuple[str, str]  # case, store


@dataclass(frozen=True)
class Goal:
    """What was set out for, and how the raw results tell how far it was reached."""

    area: str
    text: str
    measure: Measure
    limit: float
    unit: str
    at_least: bool = True


@dataclass(frozen=True)
class Verdict:
    """A goal with what was reached; `met` is None when the run did not measure it."""

    goal: Goal
    reached: float | None

    @property
    def met(self) -> bool | None:
        """Return whether the goal was reached."""
        if self.reached is None:
            return None
        return self.reached >= self.goal.limit if self.goal.at_least else self.reached <= self.goal.limit

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return area, text, goal, reached and verdict as a table shows them."""
        sign = "≥" if self.goal.at_least else "≤"
        word = {True: "reached", False: "MISSED", None: "not measured"}[self.met]
        reached = "" if self.reached is None else number(self.reached, self.goal.unit)
        return (self.goal.area, self.goal.text, f"{sign} {number(self.goal.limit, self.goal.unit)}", reached, word)


def number(value: float, unit: str) -> str:
    """Return a number with its unit, three digits of it."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{'' if unit == 'x' else ' '}{unit}".rstrip()


def quotient(over: tuple[str, str, str], under: tuple[str, str, str], metric: str, results: Results) -> float | None:
    """Return the metric at one place (workload, case, store) over the same at another."""
    above, below = results.value(*over, metric), results.value(*under, metric)
    return None if above is None or not below else above / below


def faster(workload: str, case: str, than: str, ours: str = OURS) -> Measure:
    """How many times less the median operation costs us."""
    return partial(quotient, (workload, case, than), (workload, case, ours), "p50_us")


def busier(workload: str, case: str, than: str, ours: str = OURS) -> Measure:
    """How many times as many operations a second we do."""
    return partial(quotient, (workload, case, ours), (workload, case, than), "ops_s")


def cost(workload: str, of: Place, than: Place, metric: str = "p50_us") -> Measure:
    """How many times as much one (case, store) costs as another of the same workload."""
    return partial(quotient, (workload, *of), (workload, *than), metric)


def plain(workload: str, case: str, store: str, metric: str, scale: float = 1.0) -> Measure:
    """One metric as it is, times scale."""

    def measure(results: Results) -> float | None:
        value = results.value(workload, case, store, metric)
        return None if value is None else value * scale

    return measure


def difference(workload: str, case: str, metric: str, less: tuple[str, str], per: int = 1) -> Measure:
    """By how much one of our metrics exceeds another (case, metric), for each of `per`."""

    def measure(results: Results) -> float | None:
        value, base = results.value(workload, case, OURS, metric), results.value(workload, less[0], OURS, less[1])
        return None if value is None or base is None else (value - base) / per

    return measure


def bystander(case: str) -> Measure:
    """By how much the bystander's p99 grew: in ms, or 0 when it stayed within 10 %."""

    def measure(results: Results) -> float | None:
        alone = results.value("fanout", case, OURS, "alone_p99_us")
        disturbed = results.value("fanout", case, OURS, "disturbed_p99_us")
        if alone is None or disturbed is None:
            return None
        return 0.0 if disturbed <= 1.1 * alone else (disturbed - alone) / 1e3

    return measure


def at_most(area: str, text: str, measure: Measure, limit: float, unit: str) -> Goal:
    """Return a goal that is a ceiling."""
    return Goal(area, text, measure, limit, unit, at_least=False)
