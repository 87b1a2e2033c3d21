"""A batch syncs names late; the file of a log goes only when the names that make it unused are on the medium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import Store
from shardstore._files import disk, transaction
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
    sync, discard = disk.sync_directory, transaction.discard

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
        monkeypatch.setattr(transaction, "discard", recorded_discard)
        monkeypatch.setattr(archive, "discard", recorded_discard)
        verb(store)
        discards = [number for number, event in enumerate(events) if event == "discard"]
        assert discards
        for number in discards:
            assert events[number - 1] == "sync shards", events  # the prefix directory, last of all
        if verb is _restore:
            assert len(store["k"].log) == ITEMS
