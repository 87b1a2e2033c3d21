"""A batch syncs names late; the file of a log goes only when the names that make it unused are on the medium."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import Store
from shardstore._files import disk, locked
from shardstore._files.engine import FileEngine
from shardstore._files.layout import shard_name
from shardstore._files.log_reader import OpenedLog
from shardstore._files.maintenance import archive

ITEMS = 400  # of 1 KB: most of them are in the log's file


def _archive(store: Store) -> None:
    assert len(store.prune(older_than=0).actions) == 1


def _purge(store: Store) -> None:
    assert len(store.prune(older_than=0, purge=True).actions) == 1


def _delete(store: Store) -> None:
    assert store.delete_all("k") == 1


def _restore(store: Store) -> None:
    _archive(store)
    assert store.archive.restore_many("k").restored


@pytest.mark.parametrize("verb", [_archive, _purge, _delete, _restore])
def test_a_batch_syncs_the_names_before_it_discards_a_log(
    root: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[Store], None]
) -> None:
    """Else a power cut could bring back a journal whose log is gone."""
    events: list[str] = []
    sync, discard = disk.sync_directory, locked.discard

    def recorded_sync(path: str) -> None:
        sync(path)
        events.append("sync " + Path(path).parent.name)

    def recorded_discard(path: str) -> None:
        events.append("discard")
        discard(path)

    with Store(root) as store:
        quick = store.using(durability="relaxed")
        for number in range(ITEMS):
            quick.append("k", [{"n": number, "text": "x" * 1_000}])
        assert list(root.glob("shards/*/*.log.jsonl"))
        monkeypatch.setattr(disk, "sync_directory", recorded_sync)
        monkeypatch.setattr(locked, "discard", recorded_discard)
        monkeypatch.setattr(archive, "discard", recorded_discard)
        verb(store)
        discards = [number for number, event in enumerate(events) if event == "discard"]
        assert discards
        for number in discards:
            assert events[number - 1] == "sync shards", events  # the prefix directory, last of all
        if verb is _restore:
            assert len(store["k"].log) == ITEMS


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list a process' descriptors")
def test_one_that_is_dropped_before_its_block_leaves_no_descriptor(root: Path) -> None:
    """As where an exception from outside comes between entering and the block."""
    with Store(root) as store:
        quick = store.using(durability="relaxed")
        for number in range(ITEMS):
            quick.append("k", [{"n": number, "text": "x" * 1_000}])
        engine, settled = store.engine, store.engine.read("k").log.settled
        assert isinstance(engine, FileEngine)
        store.list()
        gc.collect()
        before = set(os.listdir("/proc/self/fd"))
        engine.batch(durable=True).__enter__()  # what it returns is dropped
        OpenedLog(engine.logs, shard_name("k"), "k", settled).__enter__()
        gc.collect()
        assert set(os.listdir("/proc/self/fd")) == before
