"""Timing of single operations, and the summary that a row of raw results keeps."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

clock = time.perf_counter_ns
NS_PER_US = 1_000
NS_PER_S = 1_000_000_000
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the nearest-rank quantile of values that are already sorted.

    Nearest rank, so the answer is always a latency that really happened. Raises ValueError when empty.
    """
    if not ordered:
        raise ValueError("no values, no quantile")
    rank = max(0, min(len(ordered) - 1, -int(-q * len(ordered) // 1) - 1))
    return ordered[rank]


def median(values: Iterable[float]) -> float:
    """Return the median; of an even number of values, the mean of the middle two."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values, no median")
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def sample(
    operation: Callable[[], object], seconds: float, *, at_least: int = 5, at_most: int = 1_000_000
) -> array[int]:
    """Call operation again and again for about `seconds`; return each call's nanoseconds.

    The first calls are as good as the last: warming up is the caller's business. `at_least` calls are made
    however slow they are, so a store that needs a second for one update still gets a median.
    """
    taken = array("q")
    end = clock() + int(seconds * NS_PER_S)
    for _ in range(at_most):
        start = clock()
        operation()
        now = clock()
        taken.append(now - start)
        if now >= end and len(taken) >= at_least:
            break
    return taken


def paced(operation: Callable[[], object], seconds: float, interval: float) -> array[int]:
    """Call operation at fixed moments, `interval` seconds apart; return the nanoseconds from each due moment.

    A call that began late because the one before it stalled is counted from when it was due: a store that
    stalls for a second does not hide the calls that would have waited (coordinated omission). A call that began
    late only because sleep() woke late is counted from its own beginning: that is not the store's doing.
    """
    taken = array("q")
    step = int(interval * NS_PER_S)
    due = clock()
    end = due + int(seconds * NS_PER_S)
    while due < end:
        ahead = due - clock()
        if ahead > 0:
            time.sleep(ahead / NS_PER_S)
        begun = clock()
        operation()
        now = clock()
        taken.append(now - (begun if ahead > 0 else due))
        due += step
    return taken


@dataclass(frozen=True)
class Summary:
    """One round's latencies in microseconds: how many, how long together, and the distribution."""

    count: int
    seconds: float
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, taken: Iterable[int], seconds: float | None = None) -> Summary:
        """Summarise nanosecond latencies; `seconds` is the wall time when several processes took them."""
        ordered = sorted(taken)
        total = sum(ordered) / NS_PER_S
        spread = tuple(quantile(ordered, q) / NS_PER_US for q in QUANTILES)
        return cls(len(ordered), total if seconds is None else seconds, spread)

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """Return what a raw row stores: n, ops_s, mean_us, p50_us, p99_us, max_us and the other quantiles."""
        named = {f"{prefix}{name_of(q)}_us": us for q, us in zip(QUANTILES, self.quantiles, strict=True)}
        rate = self.count / self.seconds if self.seconds else 0.0
        return {f"{prefix}n": float(self.count), f"{prefix}ops_s": rate, **named}


def name_of(q: float) -> str:
    """Return the name of a quantile: min, p50, p99, p99.9, max."""
    if q in (0.0, 1.0):
        return "max" if q else "min"
    return f"p{q * 100:g}"
