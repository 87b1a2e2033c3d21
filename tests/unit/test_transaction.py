"""One session's transaction in files: what it holds, what it tells the index, and what it leaves when it fails."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, InvalidEntry, LockTimeout, SessionNotFound, Store, StoreIOError
from shardstore._files import disk as files_disk
from shardstore._files import synced as synced_file
from shardstore._files import transaction
from shardstore._files.file import JournalFile, Known
from shardstore._files.layout import shard_name
from shardstore._files.locks.fairness import FairLock
from shardstore._files.locks.flock import KernelLock
from shardstore._files.pool import Pool
from shardstore._files.transaction import FileTransaction
from shardstore._model import Change
from tests.support import disk
from tests.support.actions import in_background
from tests.unit.stories import FIRST, KEY, MORE


def commit(pool: Pool, change: Change, *, durable: bool = False) -> int:
    with pool.transaction(KEY, 1.0) as txn:
        txn.commit(change, "me", durable=durable)
        return txn.state.rev


def test_a_commit_leads_to_the_state_that_the_file_has(root: Path, pool: Pool) -> None:
    assert commit(pool, FIRST) == 1
    assert commit(pool, MORE, durable=True) == 2
    assert disk.state(disk.shard(root, KEY).read_bytes()) == {"n": 1}
    assert [record.get("durable", False) for record in disk.journal(root, KEY)] == [False, True]


def restore(txn: FileTransaction) -> None:
    """Put another journal of the same session in the place of this one."""
    other = Path(txn._shard.path).parents[2] / "archived"
    other.write_bytes(Path(txn._shard.path).read_bytes())
    fresh = JournalFile.open(str(other), write=True)
    assert fresh is not None
    fresh.refresh(locked=True)
    txn.take_in(fresh)


def repair_tail(txn: FileTransaction) -> None:
    """Repair a tail that somebody who died has left."""
    file = txn._shard.file
    assert file is not None
    with open(file.path, "r+b") as other:
        other.seek(txn.journal.end)
        other.write(b'{"crc":"00000000","rev":7')
    file.known = Known()
    file.refresh(locked=True)
    txn.repair_tail()


CHANGES: dict[str, Callable[[FileTransaction], None]] = {
    "commit": lambda txn: txn.commit(MORE, "me", durable=False),
    "delete": lambda txn: txn.commit(Change({}, [], delete=True), "me", durable=True),
    "rewrite": lambda txn: txn.rewrite(),
    "rewrite anew": lambda txn: txn.rewrite(new_log=True),
    "remove": lambda txn: txn.remove(),
    "archive": lambda txn: txn.archive(),
    "restore": restore,
    "repair": repair_tail,
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_index_is_told_before_each_change_of_a_file(root: Path, pool: Pool, change: str) -> None:
    """At that moment the file is as it was; where the index cannot be told, it stays so."""
    commit(pool, FIRST)
    path = disk.shard(root, KEY)
    told: list[bytes] = []

    def tell(name: str, *_: object, **_how: object) -> None:
        assert path == root / "shards" / name
        told.append(path.read_bytes())
        if len(told) == 1:
            raise StoreIOError(5, "no")

    pool.mark_changed = tell
    pool.shard(KEY).spare.clear()
    before = path.read_bytes()
    with pool.transaction(KEY, 1.0) as txn:
        with pytest.raises(StoreIOError, match="no"):
            CHANGES[change](txn)
        assert path.read_bytes() == told[0]
        assert told[0] == before or (change == "repair" and b'"rev":7' in told[0])
    with pool.transaction(KEY, 1.0) as txn:
        CHANGES[change](txn)
    assert told[1] == told[0]
    assert len(told) == 2
    assert not path.exists() or path.read_bytes() != told[1] or change == "restore"


def test_a_creation_that_did_not_happen_leaves_no_file(root: Path, pool: Pool) -> None:
    path = root / "shards" / shard_name(KEY)
    with pool.transaction(KEY, 1.0) as txn:
        assert path.exists()
        assert not txn.state.exists
    assert not path.exists()
    with pytest.raises(InvalidEntry):
        commit(pool, Change({"n": b"1" * 70_000_000}, [], whole=True))
    assert not path.exists()


def test_an_absent_session_is_refused_without_a_file(root: Path, pool: Pool) -> None:
    with pytest.raises(SessionNotFound), pool.transaction(KEY, 1.0, create=False):
        pass
    assert not (root / "shards" / shard_name(KEY)).exists()
    commit(pool, FIRST)
    commit(pool, Change({}, [], delete=True))
    with pytest.raises(SessionNotFound), pool.transaction(KEY, 1.0, create=False):
        pass
    assert commit(pool, FIRST) == 1


def test_a_timeout_counts_from_the_call_and_leaves_nothing(pool: Pool) -> None:
    commit(pool, FIRST)
    with pool.transaction(KEY, 1.0):

        def wait() -> float:
            began = time.monotonic()
            with pytest.raises(LockTimeout), pool.transaction(KEY, 0.2):
                pass
            return time.monotonic() - began

        assert 0.15 < in_background(wait)() < 1.5
    assert commit(pool, MORE) == 2


def test_what_was_not_committed_never_happened(pool: Pool) -> None:
    commit(pool, FIRST)
    with pytest.raises(ZeroDivisionError), pool.transaction(KEY, 1.0):
        raise ZeroDivisionError
    with pool.transaction(KEY, 1.0) as txn:
        assert txn.state.rev == 1


def test_a_file_with_a_second_name_is_copied_and_never_written_through(root: Path, pool: Pool) -> None:
    commit(pool, FIRST)
    backup = root / "backup"
    os.link(disk.shard(root, KEY), backup)
    before = backup.read_bytes()
    commit(pool, MORE)
    assert backup.read_bytes() == before
    os.link(disk.shard(root, KEY), root / "backup2")
    commit(pool, Change({}, [], delete=True))
    assert not (root / "shards" / shard_name(KEY)).exists()
    backup.unlink()
    (root / "backup2").unlink()


def test_a_grown_journal_is_rewritten_by_the_commit_that_finds_it(root: Path, pool: Pool) -> None:
    rev = commit(pool, Change({"blob": b'"%b"' % (b"x" * 3000)}, [], whole=True))
    sizes = []
    for n in range(60):
        rev = commit(pool, Change({"blob": b'"%04d%b"' % (n, b"x" * 3000)}, []))
        sizes.append(disk.end(disk.shard(root, KEY).read_bytes()))
    assert rev == 61
    assert max(sizes) < 65536 + 4 * 3100
    assert sizes != sorted(sizes)


def test_the_next_transaction_uses_the_spare_and_nothing_of_the_last_one(pool: Pool) -> None:
    """Timeout and `create` are those of the call, not of whoever had the object before."""
    commit(pool, FIRST)
    first = pool.transaction(KEY, 7.0, create=False)
    with first:
        pass
    again = pool.transaction(KEY, None)
    assert again is first
    assert (again.timeout, again.create, again.present) == (None, True, False)


def test_a_retired_shard_keeps_no_descriptor_open(pool: Pool) -> None:
    """Somebody had it in hand when the pool let go of it: the descriptor closes with the last transaction."""
    commit(pool, FIRST)
    shard = pool.shard(KEY)
    assert pool.close_idle() == 1
    with pool.transaction_on_file(shard, 1.0) as txn:
        file = shard.file
        assert file is not None
        fd = file.fd
        assert txn.state.rev == 1
    del txn, file, shard
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_transaction_whose_traceback_is_kept_is_not_used_again(pool: Pool) -> None:
    """Else, dropped inside the next `with`, it would be alive in that traceback, and would not unlock."""
    commit(pool, FIRST)
    txn = pool.transaction(KEY, 1.0)
    with txn:
        pass
    txn.abandon()
    assert pool.transaction(KEY, 1.0) is not txn


def is_unlocked(root: Path) -> bool:
    """Return whether another open file could be locked, as another process' is."""
    other = KernelLock(os.open(disk.shard(root, KEY), os.O_RDWR))
    try:
        return other.try_acquire()
    finally:
        other.close()


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_a_transaction_for_maintenance_asks_for_nothing_that_an_event_loop_does(pool: Pool) -> None:
    """Its commits are synced before they return, and journals are rewritten at once."""
    txn = FileTransaction(pool.shard(KEY), pool.mark_changed)
    assert (txn.timeout, txn.create, txn.present, txn.apart) == (None, True, False, True)
    assert (txn.put_off, txn.append_only, txn.rewrite_due, txn.read) == (False, False, False, True)


def test_what_was_asked_of_one_transaction_is_not_of_the_next(pool: Pool) -> None:
    """Each counts once, for the time slices."""
    commit(pool, FIRST)
    shard, before = pool.shard(KEY), pool.shard(KEY).turn
    txn = pool.transaction(KEY, 1.0)
    with txn:
        txn._unsynced, txn.put_off, txn.append_only, txn.rewrite_due = 5, True, True, True
    assert shard.turn == before + 1
    assert pool.transaction(KEY, 1.0) is txn
    assert (txn._unsynced, txn.put_off, txn.append_only, txn.rewrite_due) == (0, False, False, False)


def test_one_spare_is_kept_and_it_reads(pool: Pool) -> None:
    commit(pool, FIRST)
    shard = pool.shard(KEY)
    first, second = pool.transaction(KEY, 1.0), pool.transaction(KEY, 1.0)
    for txn in (first, second):
        with txn:
            pass
    assert shard.spare == [first]
    shard.spare.clear()
    with pool.transaction_on_file(shard, 1.0, read=False):
        pass
    assert shard.spare == []
    shard.retired = True
    shard.spare.append(first)
    with second:
        pass
    assert shard.spare == []
    shard.retired = False


@pytest.mark.damages("a copy of one shard in the place of another")
def test_the_file_of_another_key_is_not_written_to(root: Path, pool: Pool) -> None:
    with Store(root) as store:
        store.create("other", {"n": 1})
        shutil.copy(disk.shard(root, "other"), root / "shards" / shard_name(KEY))
    with pytest.raises(CorruptShard, match="belongs to"):
        commit(pool, MORE)
    assert is_unlocked(root)


def test_an_empty_file_that_was_there_before_stays(root: Path, pool: Pool) -> None:
    """It is an absent session, and nobody's creation that did not happen."""
    commit(pool, FIRST)
    path = disk.shard(root, KEY)
    path.write_bytes(b"")
    with pool.transaction(KEY, 1.0) as txn:
        assert not txn.state.exists
    assert path.exists()


def test_a_lock_that_cannot_be_given_back_is_closed(root: Path, pool: Pool) -> None:
    """After a commit that is no error; an exception from outside passes through."""
    commit(pool, FIRST)
    shard = pool.shard(KEY)
    with pool.transaction(KEY, 1.0) as txn:
        txn.commit(MORE, "me", durable=False)
        file: Any = shard.file
        file.lock.give = failing(OSError(errno.EIO, "no"))
    assert shard.file is None
    assert is_unlocked(root)
    with pytest.raises(KeyboardInterrupt), pool.transaction(KEY, 1.0):
        file = shard.file
        give, once = file.lock.give, [KeyboardInterrupt()]
        file.lock.give = lambda: failing(once.pop())() if once else give()
    assert shard.file is None
    assert file.fd == -1
    assert is_unlocked(root)
    assert commit(pool, MORE) == 3


def test_a_file_that_was_closed_inside_is_no_error(pool: Pool) -> None:
    """As after a failed sync."""
    commit(pool, FIRST)
    with pool.transaction(KEY, 1.0):
        pool.shard(KEY).drop_file()
    assert commit(pool, MORE) == 2


def test_a_child_that_was_forked_inside_does_not_unlock(root: Path, pool: Pool) -> None:
    commit(pool, FIRST)
    shard = pool.shard(KEY)
    with pool.transaction(KEY, 1.0):
        shard.mutex.after_fork()
    assert not is_unlocked(root)
    shard.drop_file()


def test_a_lock_that_was_handed_over_is_given_back(root: Path, pool: Pool) -> None:
    """By whoever waited for the thread before it."""
    commit(pool, FIRST)
    with pool.transaction(KEY, 1.0):
        wait = in_background(commit, pool, MORE)
        until(lambda: bool(pool.shard(KEY).mutex.queue))
    assert wait() == 2
    assert is_unlocked(root)


def test_a_commit_that_shares_its_sync_waits_for_it(root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the one behind it has synced, or is gone without a sync: then it is woken, and syncs itself."""
    synced: list[int] = []
    monkeypatch.setattr(files_disk, "sync", synced.append)
    monkeypatch.setattr(synced_file, "WAIT_S", 60.0)
    commit(pool, FIRST, durable=True)
    synced.clear()
    began = time.monotonic()

    def look() -> None:
        with pool.transaction(KEY, 10.0):
            assert synced == []

    with pool.transaction(KEY, 1.0) as txn:
        wait = in_background(look)
        until(lambda: bool(pool.shard(KEY).mutex.queue))
        txn.commit(MORE, "me", durable=True)
        assert synced == []
    assert len(synced) == 1
    wait()
    assert time.monotonic() - began < 30.0


def test_nobody_is_woken_while_others_come_or_where_nobody_waits(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[bool] = []
    monkeypatch.setattr(JournalFile, "wake_one", lambda _file: woken.append(True))
    commit(pool, FIRST)
    file: Any = pool.shard(KEY).file
    assert woken == []
    file.waiting.append(object())
    go = threading.Event()

    def look() -> None:
        with pool.transaction(KEY, 10.0):
            go.wait(10.0)

    with pool.transaction(KEY, 1.0):
        waits = [in_background(look) for _ in range(2)]
        until(lambda: len(pool.shard(KEY).mutex.queue) == 2)
    assert woken == []
    go.set()
    for wait in waits:
        wait()
    assert len(woken) == 2, "by those behind whom nobody stood"
    file.waiting.clear()


def test_statx_is_loaded_outside_of_the_lock(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    free: list[bool] = []
    monkeypatch.setattr(transaction, "statx_wanted", [True])
    monkeypatch.setattr(transaction, "load_statx", lambda: free.append(pool.shard(KEY).mutex.is_free()))
    commit(pool, FIRST)
    assert free == [True]


# Interrupted


def test_a_transaction_that_is_abandoned_or_dropped_unlocks(root: Path, pool: Pool) -> None:
    """Not that of another thread, and not one that was left."""
    commit(pool, FIRST)
    shard = pool.shard(KEY)
    for dropped in (False, True):
        txn = pool.transaction(KEY, 1.0)
        turn = shard.turn
        txn.__enter__()
        in_background(txn.abandon)()
        assert not shard.mutex.is_free()
        if not dropped:
            txn.abandon()
            assert shard.mutex.is_free()
        del txn
        assert shard.mutex.is_free()
        assert is_unlocked(root)
        assert shard.turn == turn + 1
    never = pool.transaction(KEY, 1.0)
    never.abandon()
    del never
    left = pool.transaction(KEY, 1.0)
    with left:
        pass
    left.abandon()
    assert commit(pool, MORE) == 2


def test_an_interrupted_start_closes_the_file_and_leaves_the_queue(
    root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(pool, FIRST)
    shard = pool.shard(KEY)
    forgotten: list[bool] = []
    monkeypatch.setattr(JournalFile, "refresh", failing(KeyboardInterrupt()))
    monkeypatch.setattr(FairLock, "forget", lambda _lock: forgotten.append(True))
    txn = pool.transaction(KEY, 1.0)
    with pytest.raises(KeyboardInterrupt) as caught:
        txn.__enter__()
    assert caught.value is not None
    assert shard.file is None
    assert shard.mutex.is_free()
    assert is_unlocked(root)
    assert forgotten == [True]


def test_an_absent_session_and_a_lock_in_use_leave_the_file_open(root: Path, pool: Pool) -> None:
    """It is whole, so the next one need not read it again; a lock that cannot be given back is closed."""
    commit(pool, FIRST)
    shard = pool.shard(KEY)
    file: Any = shard.file
    other = KernelLock(os.open(disk.shard(root, KEY), os.O_RDWR))
    assert other.try_acquire()
    with pytest.raises(LockTimeout), pool.transaction(KEY, 0.0):
        pass
    other.close()
    assert shard.file is file
    commit(pool, Change({}, [], delete=True))
    with pytest.raises(SessionNotFound), pool.transaction(KEY, 1.0, create=False):
        pass
    assert shard.file is file
    assert is_unlocked(root)
    file.lock.give = failing(OSError(errno.EIO, "no"))
    with pytest.raises(SessionNotFound), pool.transaction(KEY, 1.0, create=False):
        pass
    assert shard.file is None
    assert is_unlocked(root)
    disk.shard(root, KEY).unlink()
    with pytest.raises(SessionNotFound), pool.transaction(KEY, 1.0, create=False):
        pass
    assert shard.mutex.is_free()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
