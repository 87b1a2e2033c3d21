"""Restore: an archived session comes back whole, and never over one that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardstore import CorruptShard, SessionExists, SessionNotFound, Store, StoreIOError
from shardstore._files.engine import FileEngine
from shardstore._files.layout import stamped_name
from shardstore._files.maintenance import archive
from shardstore._files.maintenance.archive import archived_files, restore, restore_file


def archived_once_more(store: Store, number: int) -> str:
    """Create a session, archive it, and return its version."""
    version = store.create("k", {"n": number}).version
    assert len(store.prune(older_than=0).actions) == 1
    return version


def test_the_newest_file_comes_back_with_its_version(store: Store, engine: FileEngine) -> None:
    """Older ones stay; files of other sessions and foreign ones are not looked at."""
    archived_once_more(store, 1)
    version = archived_once_more(store, 2)
    store.create("other", {})
    store.prune(older_than=0)
    (engine.layout.archive / "notes").touch()
    before = archived_files(engine, "k")
    assert len(before) == 2
    state = restore(engine, "k", 1.0)
    assert (state.version, store["k"]["n"]) == (version, 2)
    assert archived_files(engine, "k") == before[:1]


def test_nothing_is_restored_over_a_session(store: Store, engine: FileEngine) -> None:
    archived_once_more(store, 1)
    store.create("k", {"n": 2})
    with pytest.raises(SessionExists):
        restore(engine, "k", 1.0)
    path = str(engine.layout.archive / archived_files(engine, "k")[0])
    with engine.transaction("k", 1.0) as txn, pytest.raises(SessionExists):
        restore_file(engine, txn, "k", path)
    assert store["k"]["n"] == 2
    assert len(archived_files(engine, "k")) == 1


def test_without_an_archived_file_no_shard_is_made(engine: FileEngine) -> None:
    with pytest.raises(SessionNotFound):
        restore(engine, "k", 1.0)
    assert not Path(engine.place("k")).exists()


@pytest.mark.parametrize("data", [b"noise" * 1000, b""])
def test_a_damaged_file_stays_in_the_archive(store: Store, engine: FileEngine, data: bytes) -> None:
    archived_once_more(store, 1)
    (name,) = archived_files(engine, "k")
    (engine.layout.archive / name).write_bytes(data)
    with pytest.raises(CorruptShard):
        restore(engine, "k", 1.0)
    assert (engine.layout.archive / name).read_bytes() == data
    assert store.get("k") is None


def test_another_sessions_file_is_refused(store: Store, engine: FileEngine) -> None:
    """Somebody renamed it: its journal knows better."""
    archived_once_more(store, 1)
    (name,) = archived_files(engine, "k")
    stolen = engine.layout.archive / stamped_name(engine.place("other").removeprefix(f"{engine.layout.shards}/"))
    (engine.layout.archive / name).rename(stolen)
    with pytest.raises(CorruptShard):
        restore(engine, "other", 1.0)
    assert stolen.exists()
    assert store.get("other") is None


def test_a_file_that_is_in_use_is_an_error(store: Store, engine: FileEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who opened the shard before it was archived may still hold its lock."""
    from shardstore._files.file import JournalFile

    monkeypatch.setattr(archive, "_WAIT_S", 0.05)
    archived_once_more(store, 1)
    (name,) = archived_files(engine, "k")
    held = JournalFile.open(str(engine.layout.archive / name), write=True)
    assert held is not None
    assert held.lock.try_acquire()
    with pytest.raises(StoreIOError, match="locking an archived session"):
        restore(engine, "k", 1.0)
    held.close()
    assert restore(engine, "k", 1.0).exists
