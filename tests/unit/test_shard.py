"""One shard as a process has it open: reading it without its lock, whatever happens to the file meanwhile."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, LockTimeout, Store, StoreIncomplete, StoreIOError, StoreNotFound
from shardstore._files import disk as files_disk
from shardstore._files import shard as shards
from shardstore._files.file import HOT_NS, JournalFile
from shardstore._files.layout import shard_name
from shardstore._files.locks import fairness
from shardstore._files.locks.flock import KernelLock
from shardstore._files.locks.identity import NO_FILE, PathIdentity
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


def test_a_file_that_was_replaced_is_closed_before_the_next_one_is_opened(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a process without a free descriptor could not read it, and a commit that waits would keep both open."""
    shard.read()
    old = shard.file
    assert old is not None
    opened: list[int] = []
    real = shard._open

    def note(**how: bool) -> JournalFile | None:
        opened.append(old.fd)
        return real(**how)

    other = Path(shard.path).with_name("other")
    shutil.copy(shard.path, other)
    other.rename(shard.path)
    monkeypatch.setattr(Shard, "_open", lambda _shard, **how: note(**how))
    assert shard.read().state.rev == 1
    assert opened == [-1]


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


def test_a_file_is_unlocked_before_it_is_opened_again(
    store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the lock would live on in the descriptor of a commit that waits, and this process would wait for itself."""
    monkeypatch.setattr(files_disk, "sync", lambda _fd: None)
    store.patch(KEY, {"n": 1})
    file = shard.file
    assert file is not None
    place = file.share(file.journal.end, behind=True)
    assert place is not None
    file.failed = True
    with inside(shard):
        again = shard.lock_in_turn(time.monotonic(), 5.0, create=False)
        assert again is not None
        assert again is shard.file is not file
        again.lock.release()
    place.close()


@pytest.mark.damages("a directory that is lost")
def test_a_lost_directory_and_a_lost_store_are_not_absent_sessions(root: Path, store: Store, shard: Shard) -> None:
    directory = Path(shard.path).parent
    away = root.parent / "away"
    directory.rename(away)
    with pytest.raises(StoreIncomplete):
        shard.read()
    with inside(shard), pytest.raises(StoreIncomplete):
        shard.lock_in_turn(time.monotonic(), None, create=False)
    away.rename(directory)
    assert shard.read().state.rev == 1
    root.rename(away)
    with pytest.raises(StoreNotFound):
        shard.read()
    with inside(shard), pytest.raises(StoreNotFound):
        shard.lock_in_turn(time.monotonic(), None, create=False)
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
def test_a_shard_that_was_bound_refuses_the_file_of_another_key(store: Store, shard: Shard) -> None:
    """Before that it reads whatever is there, to learn whose it is."""
    store.create("other", {"n": 1})
    pool = store.engine.pool  # type: ignore[attr-defined]
    unnamed = pool.unnamed(shard_name(KEY))
    shutil.copy(pool.shard("other").path, shard.path)
    assert unnamed.read().state.key == "other"
    assert unnamed.bind_key(KEY)
    with pytest.raises(CorruptShard, match="belongs to"):
        unnamed.read()
    unnamed.close_if_idle()


@pytest.mark.damages("a copy of one shard in the place of another")
def test_the_file_of_another_key_is_refused_by_reader_and_history(store: Store, shard: Shard) -> None:
    store.create("other", {"n": 1})
    other = store.engine.pool.shard("other")  # type: ignore[attr-defined]
    shutil.copy(shard.path, other.path)
    for read in (other.read, other.history):
        with pytest.raises(CorruptShard, match="belongs to") as caught:
            read()
        assert caught.value.offset == 0


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


def failing(number: int = errno.EIO) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@contextmanager
def inside(shard: Shard) -> Iterator[None]:
    """Stay in a shard's mutex, as a transaction does."""
    visit = Visit(shard.mutex)
    assert visit.try_enter()
    try:
        yield
    finally:
        visit.leave()


@contextmanager
def locked_by_another(shard: Shard) -> Iterator[None]:
    """Hold the kernel's lock through a descriptor of its own, as another process does."""
    other = KernelLock(os.open(shard.path, os.O_RDWR))
    assert other.try_acquire()
    try:
        yield
    finally:
        other.close()


def is_unlocked(shard: Shard) -> bool:
    other = KernelLock(os.open(shard.path, os.O_RDWR))
    try:
        return other.try_acquire()
    finally:
        other.close()


def open_descriptors(shard: Shard) -> int:
    """Count the descriptors of this process that lead to the shard's file."""
    status = os.stat(shard.path)
    found = 0
    for fd in os.listdir("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"):
        try:
            one = os.fstat(int(fd))
        except OSError:
            continue
        found += (one.st_ino, one.st_dev) == (status.st_ino, status.st_dev)
    return found


def test_a_reader_that_a_signal_handler_interrupts_keeps_its_file(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler reads through a file of its own, and closes none that is in use beneath it."""
    refresh = JournalFile.refresh
    used: list[tuple[JournalFile, bool]] = []

    def interrupted(file: JournalFile, *, locked: bool) -> Any:
        used.append((file, locked))
        if len(used) == 1:
            assert shard.read().state.rev == 1
            assert not shard.close_if_idle()
            with inside(shard):
                shard.drop_file()
            os.fstat(file.fd)
        return refresh(file, locked=locked)

    shard.read()
    mine = shard.file
    monkeypatch.setattr(JournalFile, "refresh", interrupted)
    assert shard.read().state.rev == 1
    assert [(file is mine, locked) for file, locked in used] == [(True, False), (False, False)]
    monkeypatch.undo()
    assert shard.read().state.rev == 1
    assert shard.is_open, "it is used again afterwards"
    assert shard.read() is shard.read()
    assert shard.mutex.is_free()


def test_reading_afresh_asks_for_no_right_to_write(store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a lock nor the file's write permission, and it leaves the mutex."""
    real, asked = os.open, list[bool]()
    refresh = JournalFile.refresh

    def refuse(path: Any, flags: int, *args: Any) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY and str(path) == shard.path:
            raise PermissionError(errno.EACCES, "not yours", path)
        return real(path, flags, *args)

    def note(file: JournalFile, *, locked: bool) -> Any:
        asked.append(locked)
        return refresh(file, locked=locked)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(JournalFile, "refresh", note)
    shard.close_if_idle()
    assert shard.read().state.rev == 1
    assert asked == [False]
    assert shard.mutex.is_free()
    with inside(shard), pytest.raises(StoreIOError):
        shard.lock_in_turn(time.monotonic(), None, create=False)


def test_a_path_that_cannot_be_looked_at_is_an_error(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an absent session; a lock that was taken before the look is given back."""
    shard.read()
    with inside(shard):
        assert shard.lock_in_turn(time.monotonic(), None, create=False) is not None
        shard.file.lock.release()  # type: ignore[union-attr]
    monkeypatch.setattr(PathIdentity, "current", failing())
    with pytest.raises(StoreIOError):
        shard.read()
    with inside(shard):
        for timeout in (None, shards.AT_HAND):
            with pytest.raises(StoreIOError):
                shard.lock_in_turn(time.monotonic(), timeout, create=False)
            assert is_unlocked(shard)


@pytest.mark.parametrize("call", ["read", "read_if_free", "close_if_idle"])
def test_an_exception_from_outside_leaves_nobody_inside(
    store: Store, shard: Shard, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutex is free while the exception is still handled, and the descriptor is closed with its lock."""

    def interrupt(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    store.patch(KEY, {"n": 1})
    if call == "read":
        shard.close_if_idle()
    if call == "close_if_idle":
        drop = Shard.drop_file
        monkeypatch.setattr(Shard, "drop_file", lambda self: (drop(self), interrupt()) if self.file else drop(self))
    else:
        monkeypatch.setattr(JournalFile, "refresh", interrupt)
    gc.disable()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            getattr(shard, call)()
        assert shard.mutex.is_free()
        assert shard.file is None
        assert open_descriptors(shard) == 0
        assert is_unlocked(shard)
        assert caught.value is not None
    finally:
        gc.enable()
    monkeypatch.undo()
    assert store.patch(KEY, {"n": 2}).rev == 3


def test_the_index_reads_what_is_free_and_waits_for_nobody(store: Store, shard: Shard) -> None:
    """The lock and the mutex are free afterwards, whatever was found."""
    store.patch(KEY, {"n": 1})
    found = shard.read_if_free()
    assert found is not None
    assert found.state.rev == 2
    with inside(shard):
        assert shard.read_if_free() is None
    with locked_by_another(shard):
        assert shard.read_if_free() is None
        assert shard.is_open
    assert is_unlocked(shard)
    assert shard.mutex.is_free()
    other = Path(shard.path).with_name("other")
    shutil.copy(shard.path, other)
    other.rename(shard.path)
    assert shard.read_if_free() is None, "what is open has no name any more"
    assert shard.mutex.is_free()
    shard.close_if_idle()
    assert shard.read_if_free() is None
    assert shard.mutex.is_free()
    shard.read()
    assert not shard.file.writable or shard.read_if_free() is not None  # type: ignore[union-attr]
    store.patch(KEY, {"n": 2})
    os.unlink(shard.path)
    assert shard.read_if_free() is None
    assert shard.mutex.is_free()
    assert shard.file is None


@pytest.mark.damages("one shard")
def test_the_index_looks_under_the_lock_at_what_a_reader_has_just_looked_at(store: Store, shard: Shard) -> None:
    """A reader spares itself a second look for a while; whoever has the lock does not."""
    for number in range(20):
        store.patch(KEY, {"text": f"{number} {'x' * 100}"})
    file = shard.file
    assert file is not None
    seen = shard.read().state.rev
    file._check_due = time.monotonic() + 3600.0
    with open(shard.path, "r+b") as other:
        other.write(b"X")
    now = time.time()
    os.utime(shard.path, (now, now + 60))
    assert shard.read().state.rev == seen
    time.sleep(2 * HOT_NS / 1e9)
    with pytest.raises(CorruptShard):
        shard.read_if_free()
    assert shard.mutex.is_free()


@pytest.mark.parametrize("how", ["at once", "at hand"])
def test_a_lock_that_takes_no_waiting(store: Store, shard: Shard, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken where the file is open, writable, named and whole, and nothing is left locked elsewhere."""
    monkeypatch.setattr(fairness, "_CHECK_S", 1e9)

    def lock() -> JournalFile | None:
        shard._queue_file.check_at = 1e18
        if how == "at once":
            return shard.lock_at_once()
        return shard.lock_in_turn(time.monotonic(), shards.AT_HAND, create=False)

    store.patch(KEY, {"n": 1})
    file: Any = shard.file
    with inside(shard):
        assert lock() is file
        assert not is_unlocked(shard)
        assert (file.links, file.size) == (1, os.path.getsize(shard.path))
        file.lock.release()
        for name, value in (("writable", False), ("failed", True), ("inode", 1), ("device", b"elsewhere")):
            before = getattr(file, name)
            setattr(file, name, value)
            assert lock() is None, name
            assert is_unlocked(shard), name
            setattr(file, name, before)
        with locked_by_another(shard):
            assert lock() is None
        file.lock.abandoned = object()
        assert lock() is None
        file.lock.abandoned = None
        with monkeypatch.context() as patch:
            patch.setattr(file.lock, "take", failing())
            with pytest.raises(StoreIOError):
                lock()
        assert lock() is file
        file.lock.release()
        shard.file = None
        assert lock() is None
        shard.file = file
        if how == "at once":
            now = time.monotonic()
            monkeypatch.setattr(shards.time, "monotonic", lambda: now)
            for holder, name in ((shard.fair, "ends"), (shard._queue_file, "check_at")):
                shard.fair.ends = shard._queue_file.check_at = fairness.NEVER
                setattr(holder, name, now)
                assert shard.lock_at_once() is None
                assert is_unlocked(shard)


def test_a_file_that_is_always_replaced_is_waited_for_until_the_timeout(
    store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pause after each try, once there were many."""
    slept: list[float] = []
    sleep, began = time.sleep, time.monotonic()
    monkeypatch.setattr(shards.time, "sleep", lambda seconds: (slept.append(seconds), sleep(seconds)))

    def elsewhere(_shard: Shard, file: JournalFile) -> Any:
        file.lock.release()
        return NO_FILE

    monkeypatch.setattr(Shard, "_look", elsewhere)
    with inside(shard), pytest.raises(LockTimeout) as caught:
        shard.lock_in_turn(began, 2.0, create=False)
    assert time.monotonic() - began >= 2.0
    assert 2.0 <= caught.value.waited < 60.0
    assert set(slept) == {0.001}
    tries = iter([False] * 12 + [True])
    named = PathIdentity(shard.path)
    monkeypatch.setattr(Shard, "_look", lambda one, file: named.current() if next(tries) else elsewhere(one, file))
    with inside(shard):
        assert shard.lock_in_turn(time.monotonic(), None, create=False) is shard.file
        shard.file.lock.release()  # type: ignore[union-attr]


def test_a_lock_that_was_waited_for_is_noted_where_it_took_long(
    store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the place in the queue is left in any case."""
    noted: list[object] = []
    left: list[bool] = []
    monkeypatch.setattr(shards.events, "note", lambda *args: noted.append(args))
    monkeypatch.setattr(shard.fair.__class__, "leave", lambda _self: left.append(True))
    for slow, count in ((3600.0, 0), (0.0, 1)):
        monkeypatch.setattr(shards.events, "SLOW_S", slow)
        with inside(shard):
            assert shard.lock_in_turn(time.monotonic(), None, create=False) is not None
            shard.file.lock.release()  # type: ignore[union-attr]
        assert len(noted) == count
    assert len(left) == 2


def test_idle_descriptors_are_closed_where_none_is_left(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is tried once more; another error, and one that nothing helps against, pass through."""
    calls: list[int] = []
    freed = [1]
    monkeypatch.setattr(shard, "_free_descriptors", lambda: freed[0])

    def action(*numbers: int) -> Callable[[], str]:
        left = list(numbers)
        calls.clear()

        def act() -> str:
            calls.append(1)
            if left:
                raise OSError(left.pop(0), "no")
            return "done"

        return act

    for number in (errno.EMFILE, errno.ENFILE):
        assert shard.with_descriptor(action(number)) == "done"
        with pytest.raises(OSError, match="no"):
            shard.with_descriptor(action(number, number))
        assert len(calls) == 2
    with pytest.raises(OSError, match="no"):
        shard.with_descriptor(action(errno.EIO))
    assert len(calls) == 1
    freed[0] = 0
    with pytest.raises(OSError, match="no"):
        shard.with_descriptor(action(errno.EMFILE))
    assert len(calls) == 1


def test_a_creation_that_does_not_happen_leaves_no_file(root: Path, store: Store) -> None:
    """Only where the file is still empty and has its name; whatever keeps it from going harms nobody."""
    pool = store.engine.pool  # type: ignore[attr-defined]
    for number, wanted in enumerate(("gone", "written to", "replaced", "no file", "kept")):
        shard = pool.shard(f"new {number}")
        path = Path(shard.path)
        with inside(shard):
            assert shard.lock_in_turn(time.monotonic(), None, create=False) is None
            assert not shard.created
            assert not path.exists()
            file = shard.lock_in_turn(time.monotonic(), None, create=True)
            assert file is shard.file
            assert file.writable
            assert shard.created
            if wanted == "written to":
                os.pwrite(file.fd, b"\n", 0)
            elif wanted == "replaced":
                path.unlink()
                path.write_bytes(b"")
            elif wanted == "no file":
                shard.file = None
            with pytest.MonkeyPatch.context() as patch:
                if wanted == "kept":
                    patch.setattr(os, "unlink", failing())
                shard.remove_if_empty()
            assert path.exists() is (wanted != "gone")
            assert not shard.created
            shard.file = file
            file.lock.release()
            shard.drop_file()
        if path.exists():
            path.unlink()


def test_a_creation_needs_its_store_and_its_directory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is gone is not made again by a commit; an error is a typed one."""
    shard: Shard = store.engine.pool.shard("new")  # type: ignore[attr-defined]
    with inside(shard):
        with monkeypatch.context() as patch:
            patch.setattr(shards.disk, "exists", lambda _path: False)
            with pytest.raises(StoreNotFound):
                shard.lock_in_turn(time.monotonic(), None, create=True)
            assert not shard.created
        made: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(shards, "make_prefix", lambda _layout, prefix: made.append(prefix))
            patch.setattr(shards.JournalFile, "open", lambda *_, create=False, **__: failing()() if create else None)
            with pytest.raises(StoreIOError):
                shard.lock_in_turn(time.monotonic(), None, create=True)
        assert made == [shard.name.partition("/")[0]]
        shard.created = False


def test_a_file_that_is_in_use_is_unlocked_and_stays_open(store: Store, shard: Shard) -> None:
    """A frame beneath, which a signal handler interrupted, goes on reading it."""
    store.patch(KEY, {"n": 1})
    file: Any = shard.file
    with inside(shard):
        file.lock.take()
        shard._using = True
        shard.drop_file()
        assert shard.file is None
        os.fstat(file.fd)
        assert is_unlocked(shard)
        shard._using = False
        shard.file = file
    assert shard.cached_bytes == file.journal.state.entry_bytes
    assert shard.cached_bytes > 0
    with inside(shard):
        shard.drop_file()
        shard.drop_file()
    assert file.fd == -1
    assert (shard.is_open, shard.cached_bytes) == (False, 0)


def test_the_bytes_of_a_log_count_as_remembered(store: Store, shard: Shard) -> None:
    store.append(KEY, ["x" * 1_000])
    assert shard.is_open
    state = shard.read().state
    assert state.log.bytes > 1_000
    assert shard.cached_bytes == state.entry_bytes + state.log.bytes


def test_another_open_file_is_gone_on_with(store: Store, shard: Shard) -> None:
    store.patch(KEY, {"n": 1})
    old, fresh = shard.file, JournalFile.open(shard.path, write=True)
    assert old is not None
    assert fresh is not None
    with inside(shard):
        shard.swap(fresh)
    assert (shard.file, old.fd) == (fresh, -1)


def test_a_new_shard_knows_nothing(store: Store) -> None:
    """No transaction was inside, nothing is bound to it that its name does not say."""
    shard: Shard = store.engine.pool.shard("new")  # type: ignore[attr-defined]
    assert (shard.retired, shard.created, shard.turn, shard.spare, shard.file) == (False, False, 0, [], None)
    assert shard.key == "new"
    turn = shard.turn
    shard.created, shard._using = True, True
    shard.spare.append(object())
    with inside(shard):
        shard.after_fork()
        assert shard.mutex.is_free()
    assert (shard.created, shard._using, shard.turn, shard.spare) == (False, False, turn + 1, [])
