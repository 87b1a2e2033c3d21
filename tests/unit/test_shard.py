"""One shard as a process has it open: reading it without its lock, whatever happens to the file meanwhile."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import CorruptShard, Store, StoreIncomplete, StoreNotFound
from shardstore._files import disk as files_disk
from shardstore._files.layout import shard_name
from shardstore._files.shard import Shard
from shardstore._inside import Visit
from tests.support import disk

KEY = "agent:main:main"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store(root, durability="relaxed") as made:
        made.create(KEY, {"n": 0})
        yield made


@pytest.fixture
def shard(store: Store) -> Shard:
    found: Shard = store.engine.pool.shard(KEY)  # type: ignore[attr-defined]
    return found


def test_an_open_file_that_was_replaced_is_read_anew(store: Store, shard: Shard) -> None:
    before = shard.read()
    path = Path(shard.path)
    other = path.with_name("other")
    shutil.copy(path, other)
    with other.open("r+b") as file:
        more = {"rev": 2, "at": before.state.updated_at + 1, "by": "x", "set": {"n": 1}}
        file.seek(before.end)
        file.write(disk.line(more))
    other.rename(path)
    assert shard.read().state.rev == 2
    path.unlink()
    assert not shard.read().state.exists


def test_a_reader_inside_the_mutex_of_another_opens_a_file_of_its_own(store: Store, shard: Shard) -> None:
    """The descriptor of whoever writes is left alone."""
    shard.close_if_idle()
    visit = Visit(shard.mutex)
    assert visit.try_enter()
    assert shard.read().state.rev == 1
    assert shard.file is None
    visit.leave()
    assert shard.read().state.rev == 1
    assert shard.file is not None


def test_a_shard_in_use_is_not_closed(store: Store, shard: Shard) -> None:
    with store.edit(KEY):
        assert not shard.close_if_idle()
        assert shard.file is not None
    assert shard.close_if_idle()
    assert not shard.is_open
    assert shard.cached_bytes == 0


@pytest.mark.parametrize("woken", [False, True])
def test_a_file_is_closed_and_unlocked_though_a_commit_waits_for_its_sync(
    store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch, woken: bool
) -> None:
    """The commit has a descriptor of its own, which would keep the lock alive; also while it syncs by it."""
    synced: list[int] = []
    monkeypatch.setattr(files_disk, "sync", synced.append)
    visit = Visit(shard.mutex)
    assert visit.try_enter()
    file = shard.file
    assert file is not None
    assert file.lock.try_acquire()
    place = file.share(file.journal.end, behind=True)
    assert place is not None
    if woken:
        file.wake_one()
    number = file.fd
    shard.drop_file()
    visit.leave()
    assert file.fd == -1
    with open(shard.path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        place.wait()
        assert synced
        assert number not in synced
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(synced[0])


@pytest.mark.damages("a directory that is lost")
def test_a_lost_directory_and_a_lost_store_are_not_absent_sessions(root: Path, store: Store, shard: Shard) -> None:
    directory = Path(shard.path).parent
    away = root.parent / "away"
    directory.rename(away)
    with pytest.raises(StoreIncomplete):
        shard.read()
    away.rename(directory)
    assert shard.read().state.rev == 1
    root.rename(away)
    with pytest.raises(StoreNotFound):
        shard.read()
    away.rename(root)


def test_a_shard_is_bound_to_the_key_of_its_name(store: Store) -> None:
    pool = store.engine.pool  # type: ignore[attr-defined]
    unnamed = pool.unnamed(shard_name(KEY))
    assert unnamed.read().state.key == KEY
    assert not unnamed.bind_key("another")
    assert unnamed.key == unnamed.name
    assert unnamed.bind_key(KEY)
    assert unnamed.key == unnamed.mutex.name == KEY
    unnamed.close_if_idle()


@pytest.mark.damages("a copy of one shard in the place of another")
def test_the_file_of_another_key_is_refused_by_reader_and_history(store: Store, shard: Shard) -> None:
    store.create("other", {"n": 1})
    other = store.engine.pool.shard("other")  # type: ignore[attr-defined]
    shutil.copy(shard.path, other.path)
    for read in (other.read, other.history):
        with pytest.raises(CorruptShard, match="belongs to"):
            read()


def test_history_is_that_of_the_present_incarnation(store: Store, shard: Shard) -> None:
    store.patch(KEY, {"n": 1})
    assert [state.rev for state in shard.history()] == [1, 2]
    store.delete(KEY)
    assert shard.history() == []
    store.create(KEY, {"n": 5})
    assert [state.fields for state in shard.history()] == [{"n": b"5"}]


def test_a_forked_child_has_nothing_open(store: Store, shard: Shard) -> None:
    with store.edit(KEY):
        pid = os.fork()
        if not pid:
            free = shard.file is None and shard.mutex.is_free() and not shard.spare
            os._exit(0 if free else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.patch(KEY, {"n": 9}).rev == 2
