"""A commit in files: what is written and synced, and when another file takes the journal's place instead."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from shardstore import CommitUncertain, CorruptShard, InvalidEntry, Store, StoreClosed, StoreFull, StoreIOError
from shardstore._files import disk as files_disk
from shardstore._files import locked, transaction
from shardstore._files.file import JournalFile, read_file
from shardstore._files.pool import Pool
from shardstore._files.transaction import FileTransaction
from shardstore._model import Change
from tests.support import disk, settling
from tests.unit.stories import DELETE, FIRST, KEY, MORE

ALWAYS = -(1 << 40)  # bytes: every journal has grown past that


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what was in each file at the moment of its sync."""
    found: list[bytes] = []
    monkeypatch.setattr(files_disk, "sync", lambda fd: found.append(os.pread(fd, 1 << 20, 0).rstrip(b"\n")))
    return found


def commit(pool: Pool, change: Change = MORE, *, durable: bool = False) -> None:
    with pool.transaction(KEY, 1.0) as txn:
        txn.commit(change, "me", durable=durable)


def inode(root: Path) -> int:
    return disk.shard(root, KEY).stat().st_ino


def end(root: Path) -> int:
    return disk.end(disk.shard(root, KEY).read_bytes())


def revision(root: Path) -> int:
    return read_file(str(disk.shard(root, KEY)))[0].state.rev


def durable_marks(root: Path) -> list[bool]:
    return [record.get("durable", False) for record in disk.journal(root, KEY)]


def tear(root: Path) -> None:
    """Leave a torn tail, as a crash does."""
    place = end(root)
    with disk.shard(root, KEY).open("r+b") as file:
        file.seek(place)
        file.write(b'{"crc":"00000000","rev":7')


def kept_tails(root: Path) -> int:
    return sum(path.is_file() for path in root.glob("quarantine/**/*"))


def test_a_writer_remembers_what_a_reader_finds(root: Path, pool: Pool) -> None:
    for change in (FIRST, MORE, MORE):
        with pool.transaction(KEY, 1.0) as txn:
            txn.commit(change, "me", durable=False)
            assert txn.journal == read_file(str(disk.shard(root, KEY)))[0]
            assert txn.state is txn.journal.state


def test_whoever_does_not_hold_the_lock_any_more_commits_nothing(root: Path, pool: Pool) -> None:
    """As in a child that was forked inside, also where that has read the session since."""
    commit(pool, FIRST)
    shard = pool.shard(KEY)
    with pool.transaction(KEY, 1.0) as txn:
        shard.mutex.after_fork()
        with pytest.raises(StoreClosed):
            txn.commit(MORE, "me", durable=False)
    shard.drop_file()
    with pool.transaction(KEY, 1.0) as txn:
        shard.drop_file()
        with pytest.raises(StoreClosed):
            txn.commit(MORE, "me", durable=False)
    assert revision(root) == 1


def test_an_entry_may_have_as_many_bytes_as_are_allowed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(pool, FIRST)
    size = pool.shard(KEY).read().state.entry_bytes
    monkeypatch.setattr(transaction, "ENTRY_BYTES_MAX", size)
    commit(pool)
    with pytest.raises(InvalidEntry):
        commit(pool, Change({"n": b"10"}, []))


# Syncs


def test_a_relaxed_commit_syncs_nothing_and_a_durable_one_all_before_it(
    root: Path, pool: Pool, synced: list[bytes]
) -> None:
    """The second of these says that it is durable: all before it was synced, before it was written."""
    commit(pool, FIRST)
    commit(pool)
    assert synced == []
    before = disk.shard(root, KEY).read_bytes().rstrip(b"\n")
    commit(pool, durable=True)
    after = disk.shard(root, KEY).read_bytes().rstrip(b"\n")
    assert synced == [before, after]
    commit(pool, durable=True)
    assert durable_marks(root) == [False, False, True, True]
    assert len(synced) == 3


def test_commits_whose_sync_is_put_off_share_one(root: Path, pool: Pool, synced: list[bytes]) -> None:
    """Those behind the first of a group do not say that what is before them is on the medium."""
    commit(pool, FIRST, durable=True)
    synced.clear()
    with pool.transaction(KEY, 1.0) as txn:
        txn.put_off = True
        for _ in range(3):
            txn.commit(MORE, "me", durable=True)
        assert synced == []
        txn.sync()
        assert len(synced) == 1
        txn.commit(MORE, "me", durable=True)
        txn.sync()
        assert len(synced) == 2
        txn.apart = True
        txn.commit(MORE, "me", durable=True)
        assert len(synced) == 3, "where it is to be synced before it returns, it is"
    assert durable_marks(root) == [True, True, False, False, True, True]


def test_what_was_put_off_is_synced_before_its_file_goes(
    pool: Pool, synced: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(pool, FIRST, durable=True)
    synced.clear()
    with pool.transaction(KEY, 1.0) as txn:
        txn.put_off = True
        txn.commit(MORE, "me", durable=True)
        monkeypatch.setattr(transaction, "REWRITE_BYTES", ALWAYS)
        txn.commit(MORE, "me", durable=True)
        assert [data.count(b"\n") + 1 for data in synced] == [2, 1]
        txn.sync()
        assert len(synced) == 2


def test_a_name_is_synced_though_no_descriptor_is_left(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(pool, FIRST)
    errors = [errno.EMFILE]

    def sync(_path: str) -> None:
        if errors:
            raise OSError(errors.pop(), "no")

    monkeypatch.setattr(files_disk, "sync_directory", sync)
    monkeypatch.setattr(pool.shard(KEY), "_free_descriptors", lambda: 1)
    commit(pool, durable=True)
    assert errors == []


def test_the_first_record_of_a_batch_waits_for_the_sync_of_the_batch(pool: Pool, synced: list[bytes]) -> None:
    added: list[int] = []

    class Group:
        durable = True

        def add_file(self, _file: JournalFile, place: int) -> None:
            added.append(place)

    with pool.transaction(KEY, 1.0) as txn:
        txn.syncs = Group()  # type: ignore[assignment]
        txn.commit(FIRST, "me", durable=True)
        assert added == [txn.journal.end]
        assert synced == []
        txn.commit(MORE, "me", durable=True)
        assert len(added) == 1
        assert len(synced) == 2


def test_after_a_failed_sync_the_file_is_closed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(pool, FIRST)

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "no")

    with pool.transaction(KEY, 1.0) as txn:
        monkeypatch.setattr(files_disk, "sync", fail)
        with pytest.raises(CommitUncertain):
            txn.commit(MORE, "me", durable=True)
        assert pool.shard(KEY).file is None


# Another file instead


def test_from_which_size_on_a_journal_is_rewritten(root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bytes of its entry and of the items in it; at the very limit it is not yet."""
    with Store(root, durability="relaxed") as store:
        store.append(KEY, ["x" * 100])
    commit(pool)
    start = end(root)
    commit(pool)
    length = end(root) - start
    state = pool.shard(KEY).read().state
    assert state.log.bytes > 0
    allowance = transaction.REWRITE_FACTOR * (state.entry_bytes + state.log.bytes)
    before = inode(root)
    monkeypatch.setattr(transaction, "REWRITE_BYTES", end(root) + length - allowance)
    commit(pool)
    assert inode(root) == before
    commit(pool)
    assert inode(root) != before
    assert revision(root) == 5
    monkeypatch.undo()
    before, limit = inode(root), settling.limit()
    try:
        settling.settle_at(state.log.bytes)
        commit(pool)
        assert inode(root) == before
        settling.settle_at(state.log.bytes - 1)
        commit(pool)
        assert inode(root) != before
    finally:
        settling.settle_at(limit)


def test_what_is_left_for_later_has_the_same_limits(root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(root, durability="relaxed") as store:
        store.append(KEY, ["x" * 100])
    state = pool.shard(KEY).read().state
    allowance = transaction.REWRITE_FACTOR * (state.entry_bytes + state.log.bytes)
    most = transaction.REWRITE_BYTES + allowance
    assert not transaction._has_grown(most, state)
    assert transaction._has_grown(most + 1, state)
    monkeypatch.setattr(transaction, "SETTLE_BYTES", state.log.bytes)
    assert not transaction._has_grown(0, state)
    monkeypatch.setattr(transaction, "SETTLE_BYTES", state.log.bytes - 1)
    assert transaction._has_grown(0, state)


def test_a_journal_is_tended_where_that_is_due(root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its torn tail is kept; not one with a second name, nor that of an absent session."""

    def tend() -> bool:
        before = inode(root)
        with pool.transaction(KEY, 1.0) as txn:
            txn.tend()
        return inode(root) != before

    commit(pool, FIRST)
    assert not tend()
    monkeypatch.setattr(transaction, "REWRITE_BYTES", ALWAYS)
    tear(root)
    assert tend()
    assert kept_tails(root) == 1
    os.link(disk.shard(root, KEY), root / "backup")
    assert not tend()
    (root / "backup").unlink()
    commit(pool, DELETE)
    assert not tend()


def test_one_that_only_appends_notes_what_is_due(root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(pool, FIRST)
    before = inode(root)
    with pool.transaction(KEY, 1.0) as txn:
        txn.append_only = True
        txn.commit(MORE, "me", durable=False)
        assert not txn.rewrite_due
        monkeypatch.setattr(transaction, "REWRITE_BYTES", ALWAYS)
        txn.commit(MORE, "me", durable=False)
        assert txn.rewrite_due
    assert (inode(root), revision(root)) == (before, 3)


def test_a_torn_tail_is_kept_and_the_commit_appended(root: Path, pool: Pool) -> None:
    commit(pool, FIRST)
    before = inode(root)
    tear(root)
    commit(pool)
    assert (inode(root), revision(root), kept_tails(root)) == (before, 2, 1)


def test_a_grown_journal_is_not_rewritten_for_its_first_record_or_its_last(
    root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither would make it smaller."""
    monkeypatch.setattr(transaction, "REWRITE_BYTES", ALWAYS)
    rewritten: list[int] = []
    monkeypatch.setattr(FileTransaction, "rewrite", lambda *_: rewritten.append(1))
    commit(pool, FIRST)
    commit(pool, DELETE)
    assert rewritten == []
    assert len(disk.journal(root, KEY)) == 2


def test_a_log_that_is_long_from_the_first_record_on_is_settled(root: Path, pool: Pool) -> None:
    with Store(root, durability="relaxed") as store:
        store.append(KEY, ["x" * 10_000 for _ in range(settling.limit() // 10_000 + 1)])
    assert pool.shard(KEY).read().state.log.settled.file


@pytest.mark.parametrize("change", [MORE, DELETE], ids=["change", "delete"])
def test_somebodys_second_name_keeps_what_it_had(
    root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """Also where the journal has grown."""
    for limit in (transaction.REWRITE_BYTES, ALWAYS):
        commit(pool, FIRST)
        backup = root / f"backup{limit}"
        os.link(disk.shard(root, KEY), backup)
        before = backup.read_bytes()
        monkeypatch.setattr(transaction, "REWRITE_BYTES", limit)
        with pool.transaction(KEY, 1.0) as txn:
            txn.commit(change, "me", durable=False)
            assert txn.state.exists is not change.delete
        assert backup.read_bytes() == before
        assert change.delete or disk.state(disk.shard(root, KEY).read_bytes()) == {"n": 1}
        backup.unlink()


FAILURES: dict[str, tuple[type[Exception], tuple[Any, ...]]] = {
    "no space": (StoreFull, (errno.ENOSPC, "no")),
    "no descriptor": (StoreIOError, (errno.EMFILE, "no")),
    "damaged log": (CorruptShard, ("log", 0, "no")),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_grown_journal_grows_on_where_it_cannot_be_rewritten(
    root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """Up to half of the size that a file may have; and where it has no second name."""
    kind, arguments = FAILURES[failure]

    def fail(*_: object) -> None:
        raise kind(*arguments)

    commit(pool, FIRST)
    monkeypatch.setattr(transaction, "REWRITE_BYTES", ALWAYS)
    monkeypatch.setattr(FileTransaction, "rewrite", fail)
    commit(pool)
    assert revision(root) == 2
    monkeypatch.setattr(transaction, "FILE_BYTES_MAX", 2 * end(root))
    commit(pool)
    assert revision(root) == 3
    monkeypatch.setattr(transaction, "FILE_BYTES_MAX", 2 * end(root) - 2)
    with pytest.raises(kind):
        commit(pool)
    monkeypatch.setattr(transaction, "FILE_BYTES_MAX", 1 << 30)
    os.link(disk.shard(root, KEY), root / "backup")
    with pytest.raises(kind):
        commit(pool)
    (root / "backup").unlink()
    assert revision(root) == 3


def test_another_error_of_a_rewrite_is_that_of_the_commit(
    root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreIOError(errno.EIO, "no")

    commit(pool, FIRST)
    monkeypatch.setattr(transaction, "REWRITE_BYTES", ALWAYS)
    monkeypatch.setattr(FileTransaction, "rewrite", fail)
    with pytest.raises(StoreIOError):
        commit(pool)
    assert revision(root) == 1


def test_on_a_full_disk_a_session_can_be_deleted(root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By removing its file, which takes no space; any other change is refused."""

    def full(*_: object, **__: object) -> None:
        raise StoreFull(errno.ENOSPC, "no")

    commit(pool, FIRST)
    path = disk.shard(root, KEY)
    monkeypatch.setattr(JournalFile, "append", full)
    with pytest.raises(StoreFull):
        commit(pool)
    assert revision(root) == 1
    commit(pool, DELETE)
    assert not path.exists()


def test_a_log_is_discarded_when_the_delete_of_its_session_is_on_the_medium(
    root: Path, pool: Pool, synced: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was asked for, and though others' syncs are put off."""
    with Store(root, durability="relaxed") as store:
        store.append(KEY, ["x" * 10_000 for _ in range(settling.limit() // 10_000 + 1)])
    path = disk.shard(root, KEY)
    discarded: list[bytes] = []
    monkeypatch.setattr(locked, "discard", lambda _path: discarded.append(synced[-1]))
    with pool.transaction(KEY, 1.0) as txn:
        assert txn.state.log.settled.file
        txn.put_off = True
        synced[:] = [b""]
        txn.commit(DELETE, "me", durable=False)
        assert not txn.apart
        assert not txn.state.exists
    assert discarded == [path.read_bytes().rstrip(b"\n")]
