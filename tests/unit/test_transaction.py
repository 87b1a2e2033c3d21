"""One session's transaction in files: what it holds, what it tells the index, and what it leaves when it fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardstore import InvalidEntry, LockTimeout, SessionNotFound, Store, StoreIOError
from shardstore._files.file import JournalFile, Known
from shardstore._files.layout import Layout, shard_name
from shardstore._files.pool import Pool
from shardstore._files.transaction import FileTransaction
from shardstore._model import Change
from tests.support import disk
from tests.support.actions import in_background

KEY = "agent:main:main"
FIRST = Change({"n": b"0"}, [], whole=True)
MORE = Change({"n": b"1"}, [])


@pytest.fixture
def pool(root: Path) -> Iterator[Pool]:
    """Yield the shards of a store, and no index."""
    Store(root).close()
    made = Pool(Layout(root))
    yield made
    made.close()


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
