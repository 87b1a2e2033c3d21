"""The entry sizes of the workloads, named by what they measure as compact JSON."""

from __future__ import annotations

from functools import lru_cache
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import orjson

from bench import openclaw

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES: dict[str, tuple[str, int]] = {  # label: (class of openclaw.entry, bytes to trim or stretch it to; 0: as it is)
    "140 B": ("probe", 0),
    "1 KB": ("core", 0),
    "15 KB": ("skills", 15_000),
    "42 KB": ("typical", 42_000),
    "110 KB": ("report", 110_000),
    "230 KB": ("giant", 233_000),
    "400 KB": ("giant", 400_000),
}
DISTINCT = 50  # entries made of one size; more sessions than that repeat them
HOT = "agent:main:telegram:group:-1003718841002:topic:30"


@lru_cache(maxsize=len(SIZES) * DISTINCT)
def entry(size: str, seed: int = 0) -> dict[str, Any]:
    """Return a realistic entry of a labelled size, its counter at 0. The same object each time: don't change it."""
    size_class, target = SIZES[size]
    made = openclaw.entry(size_class, seed)
    made["totalTokens"] = 0
    if target:
        snapshot = made["skillsSnapshot"]
        wanted = len(snapshot["prompt"]) + target - len(orjson.dumps(made))
        snapshot["prompt"] = "".join(islice(cycle(snapshot["prompt"]), max(0, wanted)))
    return made


def entries(size: str, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield HOT and count - 1 more sessions of one size."""
    yield HOT, entry(size)
    for number in range(1, count):
        yield other(number), entry(size, number % DISTINCT)


def other(number: int) -> str:
    """Return the key of the n-th session that is not HOT."""
    return f"agent:main:subagent:{number:08d}-0000-4000-8000-000000000000"


def bump(draft: Any) -> None:
    """Increment the counter: the mutator of every update workload."""
    draft["totalTokens"] += 1
