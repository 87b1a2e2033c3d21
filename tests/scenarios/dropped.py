"""Scenarios about Store objects that nobody closes, and what they have open."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from shardstore import Store


def open_below(root: Path) -> list[str]:
    """List what this process has open in a directory: one path for each descriptor."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if path.startswith(str(root)):
            found.append(path)
    return found


def a_dropped_store_gives_everything_back(root: Path) -> None:
    """Stores that are written, listed and dropped without close leave nothing open."""
    gc.collect()
    gc.disable()
    try:
        for number in range(5):
            store = Store(root.with_name(f"{root.name}{number}"))
            store.patch("k", {"n": number})
            assert sys.platform != "linux" or open_below(root)
            del store
            _nothing_is_open(root)  # at once: reference counts alone see to it
            store = Store(root.with_name(f"{root.name}{number}"))
            assert [info.key for info in store.list()] == ["k"]
            assert store.patch("k", {"m": number}).rev == 2
            del store
            gc.collect()  # a list that made the index has kept an exception, and with it the call's frames
            _nothing_is_open(root)
            cycle: list[object] = [Store(root.with_name(f"{root.name}{number}"))]
            cycle.append(cycle)
            assert len(cycle[0].list()) == 1  # type: ignore[attr-defined]
            del cycle
            gc.collect()
            _nothing_is_open(root)
    finally:
        gc.enable()


def _nothing_is_open(root: Path) -> None:
    assert sys.platform != "linux" or open_below(root) == [], open_below(root)


def the_last_store_object_of_a_root_gives_back(root: Path) -> None:
    """Of several Store objects on one root some are dropped and some closed; the last one to go gives all back."""
    first, second, third = Store(root), Store(root), Store(root)
    first.patch("k", {"n": 1})
    del first
    second.list()
    second.close()
    assert third["k"]["n"] == 1
    assert third.patch("k", {"n": 2}).rev == 2
    del third
    gc.collect()
    _nothing_is_open(root)
