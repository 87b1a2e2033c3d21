"""Parallel stress needs its parts in different workers, at the same time."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the parts of the hammer where xdist hands them out first: one at the head of each worker's first batch."""
    parts = [item for item in items if item.get_closest_marker("hammer")]
    workers = int(getattr(config, "workerinput", {}).get("workercount", 0))
    config.stash[PARTS] = len(parts)
    if workers < 2 or not parts:
        return
    others = [item for item in items if item not in parts]
    batch = max(len(items) // workers // 4, 2)
    for number, part in enumerate(parts):
        others.insert(min(len(others), number % workers * batch + number // workers), part)
    items[:] = others


PARTS = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker."""
    config.addinivalue_line("markers", "hammer: a part of the stress that all workers share")
