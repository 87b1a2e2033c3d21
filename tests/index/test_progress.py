"""Whoever waits while every shard is read is told how far that is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store

Ask = Callable[[Store], Any]
ASKS: list[Ask] = [Store.list, Store.count, len, list, Store.stats, lambda store: store.prune(max_entries=9)]
EVERY = [(done, 256) for done in range(257)]


@pytest.mark.parametrize("ask", ASKS)
def test_a_rebuild_is_told(root: Path, ask: Ask) -> None:
    """Every directory, and the end; nothing when the index can answer."""
    told: list[tuple[int, int]] = []
    with Store(root, scan_progress=lambda *step: told.append(step)) as store:
        store.create("s", {"n": 0})
        ask(store)
        assert told == EVERY
        told.clear()
        store.patch("s", {"n": 1})
        ask(store)
        assert told == []


@pytest.mark.parametrize("ask", ASKS[:-1])
def test_a_scan_is_told(root: Path, ask: Ask) -> None:
    """A store that is only read cannot have an index made: each question reads everything."""
    told: list[tuple[int, int]] = []
    with Store(root) as store:
        store.create("s", {"n": 0})
    with Store(root, read_only=True, create=False, scan_progress=lambda *step: told.append(step)) as store:
        ask(store)
    assert told[: len(EVERY)] == EVERY
    assert len(told) % len(EVERY) == 0


def test_only_the_store_that_asks_is_told(root: Path) -> None:
    """Two Store objects share the index of a process, not who is told."""
    told: list[int] = []
    with Store(root, scan_progress=lambda done, _: told.append(done)), Store(root) as other:
        other.create("s", {"n": 0})
        assert len(other.list()) == 1
    assert told == []


def test_a_failing_progress_leaves_no_lock(root: Path) -> None:
    """What it raises reaches the caller; the next list makes the index."""

    def fail(done: int, _total: int) -> None:
        raise RuntimeError(done)

    with Store(root, scan_progress=fail) as store, Store(root) as other:
        store.create("s", {"n": 0})
        with pytest.raises(RuntimeError, match="0"):
            store.list()
        assert [info.fields for info in other.list()] == [{"n": 0}]
        assert len(store.list()) == 1
        shutil.rmtree(root / "index")
