"""Stores with many sessions, built once a run for all the workloads that need them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bench.peers import SPECS
from bench.sizes import entry, other

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.peers.base import Entry
    from bench.plan import Stage

DISTINCT = 50  # entries generated; the many sessions repeat them under keys of their own
FIRST_MS = 1_771_290_458_500
RUNNING = 10  # one session in so many still runs


def sessions(count: int) -> Iterator[tuple[str, Entry]]:
    """Yield `count` sessions of 1 KB with a status and a time of their own."""
    made = [entry("1 KB", seed) for seed in range(min(count, DISTINCT))]
    for number in range(count):
        status = "done" if number % RUNNING else "running"
        yield other(number), {**made[number % len(made)], "status": status, "updatedAt": FIRST_MS + number}


def store_of(stage: Stage, count: int, store: str = "shardstore") -> Path:
    """Return the directory of a store with `count` sessions, built the first time it is asked for.

    Workloads may update sessions in it, but leave their number alone.
    """

    def build(root: Path) -> Path:
        peer = SPECS[store].open(root)
        peer.fill(sessions(count))
        peer.newest(1)  # builds the index, where there is one
        peer.close()
        return root

    built: Path = stage.shared(f"{store}-{count}", build)
    return built


def drop(path: Path) -> None:
    """Remove a directory if it is there."""
    shutil.rmtree(path, ignore_errors=True)
