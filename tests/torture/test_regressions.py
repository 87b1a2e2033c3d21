"""Each fault that the proof harness found, in a test of its own."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, InvalidQuery, ShardStoreError, Store, StoreIOError, UnsafeStore
from shardstore._files.locks import identity as look
from tests.support import actions, disk
from tests.support.peer import one_peer

from .arena import descriptors, scratch

KEY, OTHER = "agent:main:main", "agent:main:other"


@pytest.fixture
def root() -> Iterator[Path]:
    """Give a store of two sessions that nobody has open."""
    base = scratch("regression-")
    with Store(base / "store") as store:
        for key in (KEY, OTHER):
            store.update(key, lambda d: d.update(n=0))
        store.list()
    yield base / "store"
    shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def fails(
    module: Any, name: str, error: int, when: Callable[..., bool] = lambda *_: True, times: int = 1
) -> Iterator[list[int]]:
    """Make a function fail, `times` times, where `when(its arguments)`; give how often it did."""
    function, count = getattr(module, name), [0]

    def failing(*args: Any, **kwargs: Any) -> Any:
        if count[0] < times and when(*args):
            count[0] += 1
            raise OSError(error, os.strerror(error))
        return function(*args, **kwargs)

    setattr(module, name, failing)
    try:
        yield count
    finally:
        setattr(module, name, function)


def of_shard(root: Path, key: str = KEY) -> Callable[..., bool]:
    """Match calls on the shard of a key, by path or by descriptor."""
    path = disk.shard(root, key)
    inode = path.stat().st_ino
    real = os.stat

    def match(target: Any, *_: Any) -> bool:
        if isinstance(target, int):
            with contextlib.suppress(OSError):
                return real(target).st_ino == inode
            return False
        return os.fspath(target) == str(path)

    return match


def lock_is_free(root: Path, key: str = KEY) -> bool:
    """Try the kernel's lock from a descriptor of our own."""
    with disk.shard(root, key).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_failed_fstat_of_a_shard_is_typed_and_leaks_nothing(root: Path) -> None:
    """Opening a shard let a plain OSError of fstat out."""
    with Store(root) as store:
        store.get(OTHER)
        before = descriptors()
        with fails(os, "fstat", errno.EIO, of_shard(root)) as count, pytest.raises(StoreIOError):
            store.patch(KEY, {"n": 1})
        assert count == [1]
        assert descriptors() == before
        assert store.patch(KEY, {"n": 1})["n"] == 1


def test_an_older_look_of_a_reader_is_not_taken_for_the_writers(root: Path) -> None:
    """A reader's statx, delayed in the kernel, wrote "the old file" over the answer "a new one" of a writer.

    The writer then committed to a file that had been replaced, and the update was lost.
    """
    with Store(root, durability="relaxed") as store:
        store.create("k", {"n": 0})
        for n in range(1, 200):
            store.update("k", lambda draft, n=n: draft.update(n=n))  # type: ignore[misc]
            store.get("k")
        shard = store._engine.shards.shard("k")
        mine, readers = shard._named._ask, shard._read_name._ask
        if mine is None or readers is None:
            pytest.skip("this system has no statx")
        ask, answer = mine
        old = bytes(answer)
        os.link(shard.path, root / "backup")  # makes the next commit, by another process, a rewrite
        with one_peer() as peer:
            peer.run(actions.call, root, "patch", "k", {"m": 1})

        def asked_while_a_reader_is_late() -> int:
            done = ask()
            ctypes.memmove(readers[1], old, len(old))  # type: ignore[arg-type]  # the kernel, for the reader
            return done

        shard._named._ask = asked_while_a_reader_is_late, answer
        store.patch("k", {"n": -1})
    with Store(root) as store:
        assert store["k"].data == {"n": -1, "m": 1}
    (root / "backup").unlink()


@pytest.mark.parametrize("statx", [False, True])
def test_a_failed_lstat_after_locking_is_typed_and_unlocks(
    root: Path, statx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison of the locked file with its path let a plain OSError out."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        store._engine.shards.shard(KEY)._named._ask = ((lambda: -1), b"") if statx else None
        monkeypatch.setattr(look, "_OFTEN", 1 << 62)
        with fails(os, "lstat", errno.EIO, of_shard(root)) as count, pytest.raises(StoreIOError):
            store.patch(KEY, {"n": 2})
        assert count == [1]
        assert lock_is_free(root)
        assert store[KEY]["n"] == 1


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOLCK])
def test_an_unlock_that_fails_neither_hides_a_commit_nor_keeps_the_lock(root: Path, error: int) -> None:
    """update raised "nothing was changed" for a committed change, and everybody else waited for ever."""
    with Store(root) as store:
        with fails(fcntl, "flock", error, lambda _fd, how: how == fcntl.LOCK_UN) as count:
            assert store.patch(KEY, {"n": 1})["n"] == 1
        assert count == [1]
        assert lock_is_free(root)
        assert store.patch(KEY, {"n": 2})["n"] == 2


def test_a_shard_being_opened_is_not_evicted_when_descriptors_run_out(root: Path) -> None:
    """With EMFILE the pool dropped the very shard that was being opened: a second gate, and a descriptor for ever."""
    before = descriptors()
    with Store(root) as store:
        store.get(OTHER)
        with fails(os, "open", errno.EMFILE, of_shard(root)) as count:
            store.patch(KEY, {"n": 1})
        assert count == [1]
        assert store.patch(KEY, {"n": 2})["n"] == 2
    assert descriptors() == before


def test_a_rewrite_that_fails_leaves_no_temp_and_the_old_journal(root: Path) -> None:
    """A NameError took the place of every failure of a rewrite."""
    with Store(root) as store:
        with fails(os, "rename", errno.EIO, lambda a, _b: ".jsonl" in os.fspath(a)) as count:
            for n in range(60):
                try:
                    store.patch(KEY, {"n": n, "filler": f"{n:04d}" * 750})
                except StoreIOError:
                    assert store[KEY]["n"] == n - 1
                    break
        assert count == [1]
        assert not list(root.glob("shards/*/.tmp-*"))
        assert store.patch(KEY, {"n": -1})["n"] == -1


def test_a_root_that_cannot_be_looked_at_is_a_typed_error(root: Path) -> None:
    """The look at the marker let a plain OSError out."""
    with (
        fails(os, "stat", errno.EIO, lambda p, *_: str(p) == str(root / "shardstore.json")),
        pytest.raises(ShardStoreError),
    ):
        Store(root)
    with fails(os, "stat", errno.EIO, lambda p, *_: str(p) == str(root), times=2), pytest.raises(ShardStoreError):
        Store(root)


def test_a_group_writable_root_is_refused(root: Path) -> None:
    """Only world-writable was."""
    root.chmod(0o770)
    with pytest.raises(UnsafeStore):
        Store(root)
    root.chmod(0o700)


def test_stats_survives_a_file_in_place_of_the_archive(root: Path) -> None:
    """stats let ENOTDIR out."""
    (root / "archive").rmdir()
    (root / "archive").write_text("x")
    with Store(root) as store, contextlib.suppress(ShardStoreError):
        assert store.stats().sessions == 2


def test_repair_does_not_read_two_gigabytes_of_nothing(root: Path) -> None:
    """verify --repair read a sparse shard whole, whatever its size."""
    with disk.shard(root, KEY).open("r+b") as file:
        file.truncate(2 << 30)
    began = time.monotonic()
    with Store(root) as store:
        store.verify(repair=True)
        assert store[OTHER]["n"] == 0
    assert time.monotonic() - began < 10


def test_garbage_is_not_an_absent_session(root: Path) -> None:
    """Bytes without a newline passed for the torn first record of a creator, and the next update wrote over them."""
    path = disk.shard(root, KEY)
    path.write_bytes(bytes(range(11, 251)) * 20)
    with Store(root) as store:
        for call in (lambda: store.get(KEY), lambda: store.patch(KEY, {"n": 1})):
            with pytest.raises(CorruptShard):
                call()
    assert path.read_bytes() == bytes(range(11, 251)) * 20


@pytest.mark.parametrize("which", ["archive", "index", "prefix"])
def test_directories_that_are_links_are_not_followed(root: Path, which: str) -> None:
    """Files of the store appeared wherever the link led."""
    outside = root.parent / "outside"
    outside.mkdir()
    target = disk.shard(root, KEY).parent if which == "prefix" else root / which
    shutil.rmtree(target)
    target.symlink_to(outside)
    with Store(root) as store:
        for call in (lambda: store.patch(KEY, {"n": 1}), lambda: store.compact(max_entries=1), store.list):
            with contextlib.suppress(ShardStoreError):
                call()
    assert list(outside.iterdir()) == []


def test_deleting_does_not_write_through_a_hard_link(root: Path) -> None:
    """A patch copied the file first, a delete did not: the backup got the tombstone."""
    backup = root.parent / "backup"
    os.link(disk.shard(root, KEY), backup)
    before = backup.read_bytes()
    with Store(root) as store:
        assert store.delete(KEY)
        assert KEY not in store
    assert backup.read_bytes() == before


def test_updates_go_on_without_a_usable_index_directory(root: Path) -> None:
    """An index directory that is a link to itself made every update fail."""
    shutil.rmtree(root / "index")
    (root / "index").symlink_to(root / "index")
    with Store(root) as store:
        assert store.patch(KEY, {"n": 1})["n"] == 1
        assert {i.key: i.fields["n"] for i in store.list()} == {KEY: 1, OTHER: 0}


def test_a_close_that_fails_does_not_hide_a_commit(root: Path) -> None:
    """Closing the old file after a rewrite let EIO out although the change was committed."""
    real = os.close

    def failing(fd: int) -> None:
        shard = ".jsonl" in os.readlink(f"/proc/self/fd/{fd}")
        real(fd)
        if shard:
            raise OSError(errno.EIO, "close")

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the system does not tell which file a descriptor is of")

    with Store(root) as store:
        size = 0
        for n in range(60):
            store.patch(KEY, {"n": n, "filler": f"{n:04d}" * 750})
            now = len(disk.shard(root, KEY).read_bytes().rstrip())
            if now > 3 * 3000 + 65536 - 3500:
                break
            size = max(size, now)
        for n in range(100, 104):
            os.close = failing
            try:
                store.patch(KEY, {"n": n, "filler": f"{n:04d}" * 750})
            finally:
                os.close = real
        assert store[KEY]["n"] == 103


def test_an_index_file_that_cannot_be_looked_at_leaks_no_descriptor(root: Path) -> None:
    """The noter left its descriptor open when fstat failed."""
    real = os.fstat

    def failing(fd: int) -> os.stat_result:
        if "/index/" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "fstat")
        return real(fd)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the system does not tell which file a descriptor is of")
    before = descriptors()
    for _ in range(5):
        store = Store(root)
        os.fstat = failing
        try:
            with contextlib.suppress(ShardStoreError):
                store.patch(KEY, {"n": 1})
        finally:
            os.fstat = real
        store.patch(KEY, {"n": 2})
        store.close()
    assert descriptors() <= before


def test_a_file_system_without_hard_links_will_do(root: Path) -> None:
    """On exFAT making a store failed with "Operation not permitted", for want of links."""
    place = root.parent / "without-links"
    with fails(os, "link", errno.EPERM, times=9) as count, Store(place) as store:
        store.create(KEY, {"n": 1})
        assert [info.key for info in store.list()] == [KEY]
    assert count[0] == 1  # the marker
    with Store(place) as store:
        assert store[KEY]["n"] == 1


def test_an_index_lock_that_cannot_be_given_back_is_closed(root: Path) -> None:
    """After a failed unlock nobody else could ever have refreshed the index as long as the process lived."""
    with Store(root) as store:
        store.list()

        def of_index(fd: Any, operation: int) -> bool:
            return operation == fcntl.LOCK_UN and "/index/" in os.readlink(f"/proc/self/fd/{fd}")

        if not os.path.isdir("/proc/self/fd"):
            pytest.skip("the system does not tell which file a descriptor is of")
        for _ in range(70):  # so many changed shards read again call for a refresh
            store.patch(KEY, {"n": _})
            with fails(fcntl, "flock", errno.EIO, of_index) as count:
                store.list()
            if count != [0]:
                break
        assert count == [1]
        (place,) = (root / "index").glob("changes.*")
        with place.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        store.patch(KEY, {"n": 2})
        assert {info.key for info in store.list()} == {KEY, OTHER}


def test_a_reader_that_meets_damage_does_not_make_the_writer_begin_at_the_first_byte(root: Path) -> None:
    """An earlier byte is changed by hand inside an update, a thread reads: the commit goes behind all others all the same."""
    with Store(root) as store:
        store.patch(KEY, {"long": "A" * 50})
        store.patch(KEY, {"later": True})  # else it would be taken for a torn tail
        path = disk.shard(root, KEY)
        before = path.read_bytes().rstrip(b"\n")
        met: list[str] = []

        def read() -> None:
            try:
                store.get(KEY)
            except CorruptShard as error:
                met.append(str(error))

        def mutate(draft: Any) -> None:
            draft["n"] = 1
            time.sleep(0.02)  # so that the clock of the file system shows it
            with path.open("r+b") as file:
                file.seek(before.index(b"AAAA"))
                file.write(b"B")
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()

        with contextlib.suppress(ShardStoreError):
            store.update(KEY, mutate)
        assert met
        after = path.read_bytes()
        assert after.replace(b"B", b"A").startswith(before.replace(b"B", b"A"))
        with path.open("r+b") as file:
            file.seek(before.index(b"AAAA"))
            file.write(b"A")
        assert store[KEY]["long"] == "A" * 50
        assert store[KEY]["n"] == 1


def test_a_damaged_journal_from_before_1970_is_not_an_absent_session(root: Path) -> None:
    """Its first byte is a newline, and its modification time negative."""
    path = disk.shard(root, KEY)
    with path.open("r+b") as file:
        file.write(b"\n")
    os.utime(path, (-100, -100))
    before = path.read_bytes()
    with Store(root) as store, pytest.raises(CorruptShard):
        store.patch(KEY, {"n": 5})
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_misplaced_copy_that_is_marked_hides_no_session(root: Path, read_only: bool) -> None:
    """Copied under another name with the same hash, then marked as changed, as verify --repair does: the list is as before."""
    with Store(root) as store:
        store.list()
        path = disk.shard(root, KEY)
        copy = path.with_name("copy" + path.name[path.name.index("~") :])
        shutil.copy(path, copy)
        store._engine.index.mark_changed(f"{copy.parent.name}/{copy.name}")
        with Store(root, read_only=True) if read_only else contextlib.nullcontext(store) as lister:
            assert {info.key for info in lister.list()} == {KEY, OTHER} == set(lister)
        assert store.verify(repair=True).problems
        assert {info.key for info in store.list()} == {KEY, OTHER}


def test_purging_does_not_follow_a_linked_archive(root: Path) -> None:
    """archive/ is a link to another store's: nothing of that is removed."""
    with Store(root) as store:
        store.compact(max_entries=1)
        assert len(store.kept()) == 1
        other = root.parent / "other"
        with Store(other) as linked:
            shutil.rmtree(other / "archive", ignore_errors=True)
            (other / "archive").symlink_to(root / "archive")
            with pytest.raises(StoreIOError):
                linked.purge_archive(0)
        assert len(store.kept()) == 1


def test_purging_by_prefix_does_not_pass_over_what_cannot_be_read(root: Path) -> None:
    """An archived file that fails with EIO is told, not "nothing to purge"; a prefix that is no text chooses nothing."""
    with Store(root) as store:
        store.compact(max_entries=1)
        (archived,) = store.kept()
        with fails(os, "pread", errno.EIO, times=99):
            report = store.purge_archive(0, prefix=archived.key[:1])
        assert [one.path for one in report.skipped] == [archived.path]
        assert not report.removed
        with pytest.raises(InvalidQuery):
            store.purge_archive(0, prefix=())  # type: ignore[arg-type]
        assert store.kept() == [archived]
