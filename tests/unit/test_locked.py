"""The files of a locked session: who may use them, what is synced and marked in which order, and what a failure leaves.

The sessions that are moved or removed are in test_locked_moves.py.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from shardstore import CommitUncertain, StoreIOError
from shardstore._files import disk
from shardstore._files.file import JournalFile, read_file
from shardstore._files.layout import TEMP_PREFIX, shard_name, stamped_name
from shardstore._files.locks.identity import PathIdentity
from shardstore._files.pool import Pool
from shardstore._files.syncs import Syncs
from shardstore._log import ITEM_OVERHEAD, NOWHERE, SETTLE_BYTES, Item, LogChange
from shardstore._model import Change
from shardstore.errors import StoreClosed
from tests.support.actions import in_child, wait_for
from tests.unit.stories import (
    DELETE,
    FIRST,
    KEY,
    MORE,
    TORN,
    Story,
    commit,
    is_free,
    journal_path,
    logs,
    tear,
    with_log,
)

# Who may use the files


def test_only_who_is_inside_reaches_the_file(pool: Pool) -> None:
    """Neither before `with` nor after it, though the descriptor is open."""
    commit(pool, FIRST)
    shard = pool.shard(KEY)
    shard.spare.clear()
    txn = pool.transaction(KEY, 1.0)
    assert shard.file is not None
    with pytest.raises(StoreClosed):
        txn.trim()
    with txn:
        txn.trim()
    assert shard.file is not None
    with pytest.raises(StoreClosed):
        txn.trim()


def test_a_child_that_was_forked_inside_changes_nothing(root: Path, pool: Pool) -> None:
    commit(pool, FIRST)
    before = journal_path(root).read_bytes()
    with pool.transaction(KEY, 1.0) as txn:

        def change() -> None:
            pool.after_fork()
            for verb in (txn.trim, txn.rewrite, txn.cover, txn.repair_tail, txn.read_whole):
                with pytest.raises(StoreClosed):
                    verb()

        assert wait_for(in_child(change)) == 0
        assert journal_path(root).read_bytes() == before
        assert not is_locked_by_nobody(root)
    assert is_free(root)


def is_locked_by_nobody(root: Path) -> bool:
    file = JournalFile.open(str(journal_path(root)), write=True)
    assert file is not None
    try:
        return file.lock.try_acquire()
    finally:
        file.close()


# Syncs that were put off


def test_a_sync_that_was_put_off_is_made_once(pool: Pool, story: Story) -> None:
    commit(pool, FIRST, durable=True)
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.sync()
        txn.sync()
        assert story == []
        txn.put_off = True
        txn.commit(MORE, "me", durable=True)
        assert story == ["mark main: rev 1"]
        txn.sync()
        txn.sync()
        assert story == ["mark main: rev 1", "sync main/journal"]


def test_a_new_transaction_has_put_off_nothing(pool: Pool, story: Story) -> None:
    commit(pool, FIRST)
    with pool.transaction_on_file(pool.shard(KEY)) as txn:
        story.clear()
        txn.sync()
        assert story == []


def test_where_a_sync_that_was_put_off_fails_the_file_is_let_go(root: Path, pool: Pool, story: Story) -> None:
    """It is reported once; whoever comes next reads the disk through another descriptor."""
    commit(pool, FIRST, durable=True)
    with pool.transaction(KEY, 1.0) as txn:
        txn.put_off = True
        txn.commit(MORE, "me", durable=True)
        file = pool.shard(KEY).file
        assert file is not None
        story.fails = "sync main/journal"
        with pytest.raises(CommitUncertain, match="syncing a commit"):
            txn.sync()
        assert pool.shard(KEY).file is None
        assert file.fd == -1
        txn.sync()
    assert is_free(root)


def test_a_removal_syncs_first_what_was_put_off(pool: Pool, story: Story) -> None:
    commit(pool, FIRST, durable=True)
    with pool.transaction(KEY, 1.0) as txn:
        txn.put_off = True
        txn.commit(MORE, "me", durable=True)
        story.clear()
        txn.remove()
    assert story == ["sync main/journal", "mark main: rev 2 again", "unlink main/journal", "sync main"]


# Rewritten

REWRITTEN = ["mark main: rev 2", "sync main/temp", "rename main/temp to main/journal"]


def test_a_rewrite_is_on_the_medium_before_it_has_the_name(root: Path, pool: Pool, story: Story) -> None:
    commit(pool, FIRST, MORE)
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.rewrite()
        assert story == [*REWRITTEN, "sync main"]
        assert txn.journal == read_file(str(journal_path(root)))[0]
        assert txn.state == txn.journal.state
        assert txn.journal.records == 1
        txn.commit(MORE, "me", durable=False)
    assert read_file(str(journal_path(root)))[0].state.rev == 3


@pytest.mark.parametrize("durable", [True, False])
def test_in_a_batch_the_name_of_a_rewrite_waits(root: Path, pool: Pool, story: Story, durable: bool) -> None:
    """Not where nothing is durable: the name of synced history is synced at once then."""
    commit(pool, FIRST, MORE)
    with pool.transaction(KEY, 1.0) as txn:
        txn.syncs = Syncs(str(root), durable=durable)
        story.clear()
        txn.rewrite()
        assert story == (REWRITTEN if durable else [*REWRITTEN, "sync main"])
        txn.syncs.sync()
        txn.syncs.close()
        assert story == [*REWRITTEN, "sync main"]


def test_where_the_name_of_a_rewrite_is_not_synced_the_outcome_is_unknown(root: Path, pool: Pool, story: Story) -> None:
    commit(pool, FIRST, MORE)
    with pool.transaction(KEY, 1.0) as txn:
        story.fails = "sync main"
        with pytest.raises(CommitUncertain, match="syncing a directory") as caught:
            txn.rewrite()
        assert caught.value.filename == str(journal_path(root))
        assert pool.shard(KEY).file is None
    assert is_free(root)


def test_a_log_moves_when_it_has_grown_beyond_the_limit(root: Path, pool: Pool) -> None:
    commit(pool, FIRST)

    def append(size: int) -> None:
        add = (Item(b'"%b"' % (b"x" * (size - ITEM_OVERHEAD - 2))),)
        commit(pool, Change({}, [], log=LogChange(add=add)))

    append(SETTLE_BYTES)
    with pool.transaction(KEY, 1.0) as txn:
        assert txn.state.log.bytes == SETTLE_BYTES
        txn.rewrite()
        assert (txn.state.log.bytes, logs(root)) == (SETTLE_BYTES, [])
    append(ITEM_OVERHEAD + 3)
    with pool.transaction(KEY, 1.0) as txn:
        if txn.state.log.bytes:  # the commit has not rewritten it
            txn.rewrite()
        assert txn.state.log.bytes == 0
        assert logs(root) == [txn.state.log.settled.file]


def test_a_log_file_stays_as_long_as_an_item_of_it_stands(root: Path, pool: Pool) -> None:
    old = with_log(pool)
    with pool.transaction(KEY, 1.0) as txn:
        for dropped, left in ((0, [b'"a"', b'"b"']), (1, [b'"b"'])):
            txn.commit(Change({}, [], log=LogChange(drop=dropped)), "me", durable=False)
            txn.rewrite()
            assert logs(root) == [old]
            log = read_file(str(journal_path(root)))[0].state.log
            assert [item.raw for item in pool.logs.read(KEY, log, log.dropped, log.kept)] == left
        txn.commit(Change({}, [], log=LogChange(drop=2)), "me", durable=False)
        txn.rewrite()
        assert logs(root) == []
        assert txn.state.log.settled == NOWHERE
    assert read_file(str(journal_path(root)))[0] == txn.journal


@pytest.mark.parametrize("batch", [False, True])
def test_a_new_log_takes_the_place_of_the_old_one(root: Path, pool: Pool, story: Story, batch: bool) -> None:
    """The old file goes when the names are on the medium, and nothing of it is remembered."""
    old = with_log(pool)
    with pool.transaction(KEY, 1.0) as txn:
        log = txn.state.log
        assert pool.logs.number_of(KEY, log, "id-b") == 1
        assert [item.raw for item in pool.logs.read(KEY, log, 0, 2)] == [b'"a"', b'"b"']
        assert remembered(pool) == {old}
        txn.syncs = Syncs(str(root), durable=True) if batch else None
        story.clear()
        txn.rewrite(new_log=True)
        assert logs(root) == [txn.state.log.settled.file] != [old]
        assert remembered(pool) == set()
        if txn.syncs is not None:
            txn.syncs.close()
    names = ["sync archive", "sync main"] if batch else ["sync main"]
    assert story == ["sync main/log", "sync main", *REWRITTEN, *names, "unlink main/log"]


def remembered(pool: Pool) -> set[str]:
    """Return the log files that the process remembers something of."""
    return {*pool.logs._ids._files, *pool.logs._newest._files}


FAILED_REWRITES = {
    "mark": ("mark main: rev 2", OSError),
    "bytes": ("sync main/temp", StoreIOError),
    "name": ("rename main/temp to main/journal", StoreIOError),
}


@pytest.mark.parametrize("new_log", [True, False])
@pytest.mark.parametrize("step", FAILED_REWRITES)
def test_a_rewrite_that_fails_leaves_the_old_log_alone(
    root: Path, pool: Pool, story: Story, step: str, new_log: bool
) -> None:
    old = with_log(pool)
    before = journal_path(root).read_bytes()
    with pool.transaction(KEY, 1.0) as txn:
        story.fails, kind = FAILED_REWRITES[step]
        with pytest.raises(kind):
            txn.rewrite(new_log=new_log)
        assert logs(root) == [old]
        assert txn.state.log.settled.file == old
    assert journal_path(root).read_bytes() == before
    assert {path.suffix for path in journal_path(root).parent.iterdir()} == {".jsonl"}
    assert not list(journal_path(root).parent.glob(f"{TEMP_PREFIX}*"))
    assert is_free(root)


@pytest.mark.parametrize("visible", [True, False])
def test_a_rewrite_that_happened_keeps_its_log_whatever_came_then(
    root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch, visible: bool
) -> None:
    """An exception from outside comes after the rename. Where nobody can tell whether it happened, the log stays."""
    old, real = with_log(pool), JournalFile.replace

    def interrupted(*args: Any) -> JournalFile:
        real(*args).close()
        if not visible:
            monkeypatch.setattr(PathIdentity, "current", not_permitted)
        raise KeyboardInterrupt

    with pool.transaction(KEY, 1.0) as txn:
        monkeypatch.setattr(JournalFile, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            txn.rewrite(new_log=True)
        monkeypatch.undo()
    state = read_file(str(journal_path(root)))[0].state
    assert sorted(logs(root)) == sorted([old, state.log.settled.file])
    assert len({old, state.log.settled.file}) == 2
    assert [item.raw for item in pool.logs.read(KEY, state.log, 0, 2)] == [b'"a"', b'"b"']


def not_permitted(*_: Any) -> Any:
    raise PermissionError(errno.EACCES, "no")


# What the index is told


def test_the_index_is_told_what_was_seen_of_the_session(pool: Pool, story: Story) -> None:
    commit(pool, FIRST, MORE)
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.mark_changed()
        txn.mark_changed(removes=True)
    commit(pool, DELETE)
    with pool.transaction(KEY, 1.0) as txn:
        txn.mark_changed()
        txn.mark_changed(removes=True)
    with pool.transaction_on_file(pool.shard(KEY), read=False) as txn:
        txn.mark_changed()
        txn.mark_changed(removes=True)
    assert [line for line in story if "mark" in line] == [
        "mark main: rev 2",
        "mark main: rev 2 again",
        "mark main: rev 2",
        "mark main: -",
        "mark main: -",
        "mark main: ?",
        "mark main: ?",
    ]


def test_the_index_is_told_the_key_that_a_file_shows(pool: Pool) -> None:
    """A file that maintenance found by its name alone has no other key."""
    told: list[tuple[Any, ...]] = []
    commit(pool, FIRST)
    pool.close_idle()
    pool.mark_changed = lambda *seen, again=False: told.append((*seen[:2], again))
    shard = pool.unnamed(shard_name(KEY))
    with pool.transaction_on_file(shard) as txn:
        txn.mark_changed()
    with pool.transaction_on_file(shard, read=False) as txn:
        txn.mark_changed()
    shard.close_if_idle()
    assert told == [(shard_name(KEY), KEY, False), (shard_name(KEY), shard_name(KEY), False)]


# Names on the medium


def test_what_a_dead_writer_left_is_synced_before_anything_stands_on_it(root: Path, pool: Pool, story: Story) -> None:
    """In a batch only a first record waits: it has nothing before it."""
    commit(pool, FIRST)
    pool.close_idle()
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.cover()
        assert story == ["sync main", "sync main/journal"]
    pool.close_idle()
    with pool.transaction(KEY, 1.0) as txn:
        txn.syncs = Syncs(str(root), durable=True)
        story.clear()
        txn.cover()
        assert story == []
        txn.syncs.sync()
        assert story == ["sync main/journal", "sync main"]
        txn.syncs.close()
    commit(pool, MORE)
    pool.close_idle()
    with pool.transaction(KEY, 1.0) as txn:
        txn.syncs = Syncs(str(root), durable=True)
        story.clear()
        txn.cover()
        assert story == ["sync main", "sync main/journal"]
        txn.syncs.close()


def test_names_wait_only_in_a_batch(root: Path, pool: Pool, story: Story) -> None:
    commit(pool, FIRST)
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.sync_waiting_names()
        assert story == []
        txn.syncs = Syncs(str(root), durable=True)
        txn.sync_waiting_names()
        assert story == ["sync archive", "sync main"]
        (root / "archive").rmdir()
        story.clear()
        txn.sync_waiting_names()
        assert story == ["sync main"]
        txn.syncs.close()


# Repaired


def test_a_copy_of_a_damaged_file_is_on_the_medium(root: Path, pool: Pool, story: Story) -> None:
    """With the directory that it is in, where that was lost."""
    commit(pool, FIRST)
    target = root / "quarantine" / stamped_name(shard_name(KEY))
    target.parent.rmdir()
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.keep_copy(str(target))
        assert story == ["sync .", "link main/journal as quarantine/journal", "sync quarantine"]
    assert target.samefile(journal_path(root))
    target.unlink()


@pytest.mark.parametrize("step", ["link main/journal as quarantine/journal", "sync quarantine"])
def test_where_a_copy_cannot_be_kept_it_is_told_where(root: Path, pool: Pool, story: Story, step: str) -> None:
    commit(pool, FIRST)
    target = root / "quarantine" / stamped_name(shard_name(KEY))
    with pool.transaction(KEY, 1.0) as txn:
        story.fails = step
        with pytest.raises(StoreIOError, match="while keeping a damaged shard in quarantine") as caught:
            txn.keep_copy(str(target))
    assert caught.value.filename == str(target)
    story.fails = ""
    target.unlink(missing_ok=True)


def test_a_torn_tail_is_kept_and_cut_off(root: Path, pool: Pool, story: Story) -> None:
    commit(pool, FIRST)
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.repair_tail()
        assert story == []
        data = tear(txn)
        txn.repair_tail()
        assert story == ["mark main: rev 1", "sync quarantine/journal", "sync quarantine"]
        assert journal_path(root).read_bytes() == data
    assert [path.read_bytes() for path in (root / "quarantine").iterdir()] == [TORN]


def test_a_damaged_file_that_cannot_be_read_is_named(root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(pool, FIRST)
    with pool.transaction_on_file(pool.shard(KEY), read=False) as txn:
        assert txn.read_whole() == journal_path(root).read_bytes()
        monkeypatch.setattr(disk, "read_all", not_permitted)
        with pytest.raises(StoreIOError, match="while reading a damaged shard") as caught:
            txn.read_whole()
        monkeypatch.undo()
    assert caught.value.filename == str(journal_path(root))
