"""Concurrent calls on one session behave as if made one after the other, whoever is killed meanwhile.

`list` counts as a read of every session it names or leaves out: it is never stale.
"""

from __future__ import annotations

import pytest

from .harness import exhaustive, sampled, tool


@sampled
@pytest.mark.parametrize(
    "args", ["--processes 4 --seconds 1.5", "--processes 4 --threads 2 --seconds 1 --kills 5 --seed 2"]
)
def test_a_short_race(args: str) -> None:
    """Four processes on three sessions; the second time with two threads each, and a dozen of them killed."""
    result = tool("histories", *args.split())
    assert result["operations"] > 100
    assert not result["kills"] or result["pending"]


@exhaustive
@pytest.mark.parametrize("seed", range(10, 13))
@pytest.mark.parametrize(
    "args",
    [
        "--processes 6 --keys 2 --seconds 4",
        "--processes 4 --threads 3 --keys 3 --seconds 4",
        "--processes 6 --keys 3 --seconds 6 --kills 60",
        "--processes 4 --threads 2 --keys 1 --seconds 4 --kills 25 --durability commit",
    ],
)
def test_long_races(args: str, seed: int) -> None:
    """Few keys, many hands, many deaths."""
    assert tool("histories", *args.split(), "--seed", str(seed))["operations"] > 300
