"""Each fault that the proof harness found, in a test of its own."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, InvalidQuery, ShardStoreError, Store, StoreIOError, UnsafeStore
from shardstore._files import disk as store_disk
from shardstore._files.locks import identity
from shardstore._files.locks.flock import KernelLock
from shardstore._files.maintenance import archive
from shardstore._inside import FifoMutex, new_token
from shardstore._journal import replay as journal
from tests.support import actions, disk
from tests.support.peer import one_peer

from .arena import descriptors, scratch

KEY, OTHER = "agent:main:main", "agent:main:other"


@pytest.fixture
def root() -> Iterator[Path]:
    """Yield a store of two sessions that nobody has open."""
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
    """Replace a function by one that fails `times` times where `when(its arguments)`; yield how often it did."""
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
        shard = store._engine.pool.shard("k")
        ask, readers = shard.named.ask, shard._read_name.answer
        if ask() != 0 or shard._read_name.ask() != 0:
            pytest.skip("this system has no statx")
        old = bytes(shard.named.answer)
        os.link(shard.path, root / "backup")  # makes the next commit, by another process, a rewrite
        with one_peer() as peer:
            peer.run(actions.call, root, "patch", "k", {"m": 1})

        def asked_while_a_reader_is_late() -> int:
            done = ask()
            ctypes.memmove(readers, old, len(old))  # type: ignore[arg-type]  # the kernel, for the reader
            return done

        shard.named.ask = asked_while_a_reader_is_late
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
        monkeypatch.setattr(identity, "_OFTEN", 1 << 62)
        store._engine.pool.shard(KEY).named.ask = (lambda: -1) if statx else identity._no_statx
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
    """With EMFILE the pool dropped the very shard that was being opened: a second mutex, and a descriptor for ever."""
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
        for call in (lambda: store.patch(KEY, {"n": 1}), lambda: store.prune(max_entries=1), store.list):
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
    """The tracker left its descriptor open when fstat failed."""
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
        store.prune(max_entries=1)
        assert len(store.archive.list()) == 1
        other = root.parent / "other"
        with Store(other) as linked:
            shutil.rmtree(other / "archive", ignore_errors=True)
            (other / "archive").symlink_to(root / "archive")
            with pytest.raises(StoreIOError):
                linked.archive.purge(0)
        assert len(store.archive.list()) == 1


def test_purging_by_prefix_does_not_pass_over_what_cannot_be_read(root: Path) -> None:
    """An archived file that fails with EIO is told, not "nothing to purge"; a prefix that is no text chooses nothing."""
    with Store(root) as store:
        store.prune(max_entries=1)
        (archived,) = store.archive.list()
        with fails(os, "pread", errno.EIO, times=99):
            report = store.archive.purge(0, prefix=archived.key[:1])
        assert [one.path for one in report.skipped] == [archived.path]
        assert not report.removed
        with pytest.raises(InvalidQuery):
            store.archive.purge(0, prefix=())  # type: ignore[arg-type]
        assert store.archive.list() == [archived]


def test_a_reader_that_saw_half_a_commit_does_not_make_a_writer_cut_it_off(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader read the newest commit half written, and noted that late: the next writer took it for a torn tail.

    It cut off the acknowledged commit, and wrote its own behind a hole.
    """
    store = Store(root, durability="relaxed")
    store.create("k", {"pad": "x" * 3700})
    shard = store._engine.pool.shard("k")  # type: ignore[attr-defined]
    os.utime(shard.path, ns=(time.time_ns(), time.time_ns() + 10**9))  # so that a reader reads it all again
    reads, written, noted, go_on = (threading.Event() for _ in range(4))
    read_all, replay = store_disk.read_all, journal.replay

    def read_when_it_is_written(fd: int, offset: int, size: int) -> bytes:
        if threading.current_thread() is reader:
            reads.set()
            written.wait(10)
        return read_all(fd, offset, size)

    def note_late(*args: Any) -> Any:
        found = replay(*args)
        if threading.current_thread() is reader:
            noted.set()
            go_on.wait(10)
        return found

    def while_the_reader_notes(draft: Any) -> None:
        go_on.set()
        reader.join()
        assert shard.file.known.torn  # what this is about
        draft["third"] = True

    monkeypatch.setattr(store_disk, "read_all", read_when_it_is_written)
    monkeypatch.setattr("shardstore._files.file.replay", note_late)
    reader = threading.Thread(target=store.get, args=("k",))
    reader.start()
    assert reads.wait(10)
    store.patch("k", {"second": "y" * 600})  # ends behind the end of the file that the reader has looked at
    written.set()
    assert noted.wait(10)
    store.update("k", while_the_reader_notes)
    store.close()
    with Store(root) as again:
        assert again["k"].rev == 3
        assert again["k"].keys() == {"pad", "second", "third"}


class _Stopped(deque[Any]):
    """A queue of waiters where a thread, on its way into `remove`, does first what is asked of it."""

    def __init__(self, before: Callable[[], None]) -> None:
        super().__init__()
        self.before = before

    def remove(self, value: Any) -> None:
        self.before()
        super().remove(value)


def test_a_waiter_that_gives_up_while_it_is_granted_lets_one_in_and_not_two() -> None:
    """The thread that granted came late, and took the mutex from whoever had entered meanwhile."""
    mutex = FifoMutex("k", "k")
    tokens = [new_token(mutex) for _ in range(4)]
    giving_up, granting, given_up = threading.Event(), threading.Event(), threading.Event()

    def before() -> None:
        if threading.current_thread() is waiter:
            giving_up.set()
            granting.wait(10)
        elif not granting.is_set():
            granting.set()
            given_up.wait(10)

    def wait() -> None:
        entered.append(mutex.enter(tokens[1], 0.05))
        mutex.leave(tokens[1])
        entered.append(mutex.try_enter(tokens[2]))
        given_up.set()

    entered: list[bool] = []
    mutex.queue = _Stopped(before)
    waiter = threading.Thread(target=wait)
    assert mutex.try_enter(tokens[0])
    waiter.start()
    assert giving_up.wait(10)
    mutex.leave(tokens[0])  # grants the waiter, which gives up
    waiter.join()
    assert entered == [False, True]
    assert mutex.holds(tokens[2])
    assert not mutex.try_enter(tokens[3])


@pytest.mark.parametrize("memory", [False, True])
def test_an_edit_that_is_used_twice_leaves_the_session_to_others(root: Path, memory: bool) -> None:
    """A second `with` on the same object, or a second exit, meddled with whoever used its transaction by then.

    That thread's update failed, and the session stayed locked in this process.
    """
    with Store.memory() if memory else Store(root) as store:
        edit = store.edit(KEY)
        with edit as draft:
            draft["first"] = 1

        def meanwhile(draft: Any) -> None:
            with pytest.raises(RuntimeError):
                edit.__enter__()
            with pytest.raises(RuntimeError):
                edit.__exit__(None, None, None)
            draft["second"] = 2

        threads = [threading.Thread(target=store.update, args=(KEY, meanwhile)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.patch(KEY, {"third": 3}).data.items() >= {"first": 1, "second": 2, "third": 3}.items()


def test_a_child_of_a_store_that_was_moved_and_moved_back_is_not_locked_out(root: Path) -> None:
    """The first Store's engine was known no longer when the child was made: the parent's threads stayed inside."""
    away = root.with_name("away")
    inside, go_on = threading.Event(), threading.Event()

    def hold(_draft: Any) -> None:
        inside.set()
        go_on.wait(10)

    with contextlib.ExitStack() as stores:
        first = stores.enter_context(Store(root, lock_timeout=3.0))
        root.rename(away)
        stores.enter_context(Store(away))
        away.rename(root)
        stores.enter_context(Store(root))
        thread = threading.Thread(target=first.update, args=(KEY, hold))
        thread.start()
        assert inside.wait(10)
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                os._exit(0 if first.patch(OTHER, {"n": 1}) and first.patch(KEY, {"n": 1}) else 1)
            os._exit(2)
        go_on.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert first[KEY]["n"] == 1


def test_a_file_that_another_process_has_committed_to_is_not_removed_by_its_creator(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creator that could not give its new file the group of the store removed it by its name, whatever was in it."""

    def refuse(*_: Any) -> None:
        with one_peer() as peer:
            peer.run(actions.call, root, "patch", "k", {"n": 1})
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with Store(root) as store:
        monkeypatch.setattr(store_disk, "_inherit", refuse)
        with pytest.raises(StoreIOError):
            store.patch("k", {"m": 2})
        monkeypatch.undo()
        assert store["k"].data == {"n": 1}


def test_an_unlock_that_fails_where_no_session_is_found_does_not_keep_the_lock(root: Path) -> None:
    """Deleting what was deleted already raised, and left the file locked for every other process."""
    with Store(root) as store:
        store.delete(KEY)
    with Store(root) as store:
        with fails(fcntl, "flock", errno.EIO, lambda _fd, how: how == fcntl.LOCK_UN) as count:
            assert not store.delete(KEY)
        assert count == [1]
        assert lock_is_free(root)


def test_a_repair_of_a_session_in_use_does_not_make_it_absent_for_the_next_writer(root: Path) -> None:
    """A transaction that reads nothing was kept for the next writer, who took the session for absent."""
    with Store(root) as store:
        pool = store._engine.pool  # type: ignore[attr-defined]
        with pool.transaction_on_file(pool.shard(KEY), read=False):
            pass
        assert store.patch(KEY, {"m": 1}).data == {"n": 0, "m": 1}


def test_a_torn_tail_is_not_cut_off_a_backup(root: Path) -> None:
    """A backup made by hard links lost the bytes of a torn commit when the next writer repaired the session."""
    path, backup = disk.shard(root, KEY), root.with_name("backup")
    with path.open("r+b") as shard:
        shard.truncate(len(path.read_bytes().rstrip(b"\n")) + 1)
        shard.seek(0, os.SEEK_END)
        shard.write(b'{"crc":"123')
    os.link(path, backup)
    before = backup.read_bytes()
    with Store(root) as store:
        assert store.patch(KEY, {"m": 1}).data == {"n": 0, "m": 1}
    assert backup.read_bytes() == before
    assert [one.read_bytes() for one in (root / "quarantine").iterdir()] == [b'{"crc":"123']


def test_a_changed_newline_behind_the_only_record_is_not_an_absent_session(root: Path) -> None:
    """Where the space behind a journal had been given back, one changed byte made the session absent."""
    path = disk.shard(root, KEY)
    path.write_bytes(path.read_bytes().rstrip(b"\n") + b"\x0b")
    with Store(root) as store, pytest.raises(CorruptShard, match="newline"):
        store.get(KEY)


def test_an_imported_time_does_not_keep_a_session_in_the_future(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """create(at=) behind a deletion under a clock far ahead took the deletion's time, days in the future."""
    clock, moment = time.time_ns, datetime(2020, 1, 1, tzinfo=UTC)
    with Store(root) as store:
        monkeypatch.setattr(time, "time_ns", lambda: clock() + 10 * 86_400 * 10**9)
        store.delete(KEY)
        monkeypatch.undo()
        assert store.create(KEY, {}, at=moment).updated_at < datetime.now(UTC) + timedelta(days=1)


def test_restoring_brings_back_what_is_the_last_one_once_the_lock_is_held(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archived file was chosen before the lock: another process could archive a newer one, or restore this one."""
    chosen = archive.archived_files

    def look_before_others_come(engine: Any, key: str) -> list[str]:
        monkeypatch.undo()
        files = chosen(engine, key)
        store.create(KEY, {"n": 2})
        store.prune(where={"n": 2})
        return files

    with Store(root) as store:
        store.prune(older_than=0, keep=[OTHER])
        monkeypatch.setattr(archive, "archived_files", look_before_others_come)
        assert store.archive.restore(KEY).data == {"n": 2}


def test_an_exception_from_outside_does_not_lose_the_descriptor_that_is_being_closed(root: Path) -> None:
    """It came in with a call between "closed" and the closing: the lock stayed taken for as long as the process lived.

    A function's start is where CPython lets such an exception in.
    """
    before = sys.gettrace()
    for nth in range(1, 9):
        lock = KernelLock(os.open(disk.shard(root, KEY), os.O_RDWR))
        lock.take()
        starts = 0

        def interrupt(frame: Any, event: str, _arg: object, nth: int = nth) -> None:
            nonlocal starts
            starts += event == "call" and frame.f_code is not KernelLock.close.__code__
            if starts == nth:
                sys.settrace(None)
                raise KeyboardInterrupt

        sys.settrace(interrupt)
        try:
            lock.close()
        except KeyboardInterrupt:
            lock.close()
        finally:
            sys.settrace(before)
        assert lock_is_free(root)


def test_idle_descriptors_are_given_up_to_put_a_name_on_the_medium(root: Path) -> None:
    """With one descriptor left a new session's commit was said to be uncertain, while idle ones were open."""
    with Store(root) as store:
        assert store.get(KEY) is not None
        assert store.get(OTHER) is not None
        taken = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(root, os.O_RDONLY))
            os.close(taken.pop())
            assert store.create("new", {"n": 1}).rev == 1
        finally:
            for descriptor in taken:
                os.close(descriptor)
