"""Appends of many processes to one session, beside everything that rewrites its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardstore import Store
from tests.scenarios import logs


@pytest.mark.sampled
def test_eight_writers_with_kills_beside_readers_cuts_compact_and_archive(root: Path) -> None:
    """A few seconds of it: order per writer, nothing lost, doubled or spliced, fields agree with the log."""
    counts = logs.a_race(root, seconds=5.0)
    assert counts["kills"] > 1
    assert counts["reads"] > 100
    assert counts["cuts"] > 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(4))
def test_the_race_for_longer(root: Path, seed: int) -> None:
    """The same for a minute each."""
    counts = logs.a_race(root, seconds=60.0, seed=seed)
    assert counts["moves"] > 3


def test_memory_stays_flat_over_many_appends(root: Path) -> None:
    """What one process keeps of a session does not grow with its log."""
    with Store(root, durability="relaxed") as store:
        for number in range(3_000):
            store.append("k", [logs.item(0, number)])
        log = store.engine.read("k").log
    assert log.length == 3_000
    assert log.bytes < 300_000
    assert len(log.pending) < 1_000
