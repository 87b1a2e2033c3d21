"""The files of a locked session: what is synced and marked in which order, and what a failure leaves.

A story lists the steps that reach the disk, in their order. A test names the step that is to fail.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import CommitUncertain, Store, StoreIOError
from shardstore._files import disk
from shardstore._files.file import JournalFile, Known, read_file
from shardstore._files.layout import LOG_SUFFIX, TEMP_PREFIX, Layout, log_path, shard_name, stamped_name, temp_name
from shardstore._files.locks.identity import PathIdentity
from shardstore._files.pool import Pool
from shardstore._files.syncs import Syncs
from shardstore._files.transaction import FileTransaction
from shardstore._journal.replay import EMPTY, with_key
from shardstore._log import ITEM_OVERHEAD, NOWHERE, SETTLE_BYTES, Item, LogChange
from shardstore._model import ABSENT, Change, State
from shardstore.errors import StoreClosed
from tests.support.actions import in_child, wait_for

KEY, OTHER = "agent:main:main", "agent:main:other"
FIRST = Change({"n": b"0"}, [], whole=True)
MORE = Change({"n": b"1"}, [])
DELETE = Change({}, [], delete=True)
ITEMS = Change({}, [], log=LogChange(add=(Item(b'"a"', "id-a"), Item(b'"b"', "id-b"))))
TORN = b'{"crc":"00000000","rev":7'


@pytest.fixture
def pool(root: Path) -> Iterator[Pool]:
    """Yield the shards of a store, and no index."""
    Store(root).close()
    made = Pool(Layout(root))
    yield made
    made.close()


class Story(list[str]):
    """What reaches the disk, step by step. `fails` is the step that fails with EIO, before it happens."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.fails = ""
        places = {shard_name(KEY): "main", shard_name(OTHER): "other"}
        self._places = {f"shards/{name.partition('/')[0]}": place for name, place in places.items()}
        assert len(self._places) == len(places)

    def step(self, text: str) -> None:
        self.append(text)
        if text == self.fails:
            raise OSError(errno.EIO, "no")

    def place(self, directory: str | os.PathLike[str]) -> str:
        relative = os.path.relpath(directory, self.root)
        return self._places.get(relative, relative)

    def what(self, path: str | os.PathLike[str]) -> str:
        directory, name = os.path.split(path)
        kind = "log" if name.endswith(LOG_SUFFIX) else "temp" if name.startswith(TEMP_PREFIX) else "journal"
        return f"{self.place(directory)}/{kind}"

    def open_at(self, fd: int) -> str:
        """Return what a descriptor is, by the names that are there."""
        status = os.fstat(fd)
        for directory in (*self._places, "archive", "quarantine"):
            for path in (self.root / directory).glob("*"):
                if os.path.samestat(path.stat(), status):
                    return self.what(path)
        return "a nameless file"

    def mark(self, name: str, key: str, seen: State | str, *, again: bool = False) -> None:
        """Take the place of the index."""
        assert name == shard_name(key)
        text = seen if isinstance(seen, str) else f"rev {seen.rev}" if seen.exists else "absent"
        self.step(f"mark {self.what(self.root / 'shards' / name).partition('/')[0]}: {text}{' again' if again else ''}")


@pytest.fixture
def story(root: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Return the story of the test, which begins when the test clears it."""
    told = Story(root)

    def tell(owner: Any, name: str, words: Callable[..., str]) -> None:
        real = getattr(owner, name)

        def told_first(*args: Any) -> Any:
            told.step(words(*args))
            return real(*args)

        monkeypatch.setattr(owner, name, told_first)

    tell(disk, "sync", lambda fd: f"sync {told.open_at(fd)}")
    tell(disk, "sync_directory", lambda path: f"sync {told.place(path)}")
    tell(os, "rename", lambda old, new: f"rename {told.what(old)} to {told.what(new)}")
    tell(os, "link", lambda old, new: f"link {told.what(old)} as {told.what(new)}")
    tell(os, "unlink", lambda path: f"unlink {told.what(path)}")
    pool.mark_changed = told.mark
    return told


def commit(pool: Pool, *changes: Change, key: str = KEY, durable: bool = False) -> None:
    with pool.transaction(key, 1.0) as txn:
        for change in changes:
            txn.commit(change, "me", durable=durable)


def with_log(pool: Pool) -> str:
    """Have a session whose log is in a file; return that file's id."""
    commit(pool, FIRST, ITEMS)
    with pool.transaction(KEY, 1.0) as txn:
        txn.rewrite(new_log=True)
        return txn.state.log.settled.file


def tear(txn: FileTransaction) -> bytes:
    """Leave a torn tail, as somebody who died does; return the bytes of the file up to there."""
    file = txn._shard.file
    assert file is not None
    data = Path(file.path).read_bytes()[: txn.journal.end]
    Path(file.path).write_bytes(data + TORN)
    file.known = Known()
    file.refresh(locked=True)
    assert file.torn == TORN
    return data


def logs(root: Path) -> list[str]:
    """List the ids of the log files beside the shards."""
    return [path.name.split(".")[-3] for path in root.glob(f"shards/*/*{LOG_SUFFIX}")]


def journal_path(root: Path, key: str = KEY) -> Path:
    return root / "shards" / shard_name(key)


def is_free(root: Path, key: str = KEY) -> bool:
    """Return whether another process' worth of the store gets the lock at once."""
    other = Pool(Layout(root))
    try:
        with other.transaction(key, 0.0):
            return True
    finally:
        other.close()


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


# Another journal in its place


def archived(root: Path) -> JournalFile:
    """Return a locked journal in archive/ that was the session's, whose own file is gone."""
    target = root / "archive" / stamped_name(shard_name(KEY))
    target.write_bytes(journal_path(root).read_bytes())
    fresh = JournalFile.open(str(target), write=True)
    assert fresh is not None
    assert fresh.lock.try_acquire()
    fresh.refresh(locked=True)
    return fresh


def test_a_restored_journal_is_gone_on_with(root: Path, pool: Pool, story: Story) -> None:
    commit(pool, FIRST, MORE)
    fresh = archived(root)
    with pool.transaction(KEY, 1.0) as txn:
        txn.remove()
        story.clear()
        txn.take_in(fresh)
        assert story == ["mark main: absent", "rename archive/journal to main/journal", "sync main"]
        assert pool.shard(KEY).file is fresh
        assert txn.journal == read_file(str(journal_path(root)))[0]
        txn.commit(MORE, "me", durable=True)
    assert read_file(str(journal_path(root)))[0].state.rev == 3


@pytest.mark.parametrize("step", ["mark main: absent", "rename archive/journal to main/journal"])
def test_a_restore_that_fails_leaves_the_archive_as_it_was(root: Path, pool: Pool, story: Story, step: str) -> None:
    commit(pool, FIRST)
    fresh = archived(root)
    path = fresh.path
    with pool.transaction(KEY, 1.0) as txn:
        txn.remove()
        story.fails = step
        with pytest.raises(StoreIOError, match="while restoring a session") as caught:
            txn.take_in(fresh)
        assert caught.value.filename == path
        assert fresh.fd == -1
        assert txn.state == ABSENT
    assert Path(path).exists()
    assert not journal_path(root).exists()
    Path(path).unlink()


def test_a_whole_journal_takes_the_place_of_another_one(root: Path, pool: Pool, story: Story) -> None:
    """A torn tail of the old one is kept first."""
    commit(pool, FIRST, MORE)
    text, journal = with_key(journal_path(root).read_bytes().rstrip(b"\n") + b"\n", KEY)
    temp = pool.layout.shard_path(temp_name(shard_name(KEY)))
    with pool.transaction(KEY, 1.0) as txn:
        tear(txn)
        story.clear()
        txn.replace_by(text, journal, temp)
        assert story == [
            "mark main: rev 2",
            "sync quarantine/journal",
            "sync quarantine",
            "mark main: rev 2",
            "sync main/temp",
            "rename main/temp to main/journal",
            "sync main",
        ]
        assert txn.journal == read_file(str(journal_path(root)))[0]
    assert [path.read_bytes() for path in (root / "quarantine").iterdir()] == [TORN]


def test_a_journal_is_not_replaced_unless_it_is_marked(root: Path, pool: Pool, story: Story) -> None:
    commit(pool, FIRST)
    before = journal_path(root).read_bytes()
    text, journal = with_key(before.rstrip(b"\n") + b"\n", KEY)
    with pool.transaction(KEY, 1.0) as txn:
        story.fails = "mark main: rev 1"
        with pytest.raises(OSError, match="no"):
            txn.replace_by(text, journal, pool.layout.shard_path(temp_name(shard_name(KEY))))
    assert journal_path(root).read_bytes() == before


# Removed


REMOVALS: dict[str, tuple[dict[str, bool], bool, list[str]]] = {
    "by itself": ({}, False, ["sync main"]),
    "durable": ({"durable": True}, False, ["sync main"]),
    "relaxed": ({"durable": False}, False, []),
    "with a log": ({}, True, ["sync main", "unlink main/log"]),
    "relaxed with a log": ({"durable": False}, True, ["sync main", "unlink main/log"]),
}


@pytest.mark.parametrize("how", REMOVALS)
def test_a_removal_is_synced_where_it_is_durable_or_a_log_goes_with_it(
    root: Path, pool: Pool, story: Story, how: str
) -> None:
    durable, log, behind = REMOVALS[how]
    commit(pool, FIRST, MORE)
    if log:
        with pool.transaction(KEY, 1.0) as txn:
            txn.commit(ITEMS, "me", durable=False)
            txn.rewrite(new_log=True)
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.remove(**durable)
        assert story == [f"mark main: rev {3 if log else 2} again", "unlink main/journal", *behind]
        assert (txn.journal, txn.state) == (EMPTY, ABSENT)
        story.clear()
    assert not journal_path(root).exists()
    assert logs(root) == []


def test_in_a_batch_a_removal_waits_unless_a_log_goes_with_it(root: Path, pool: Pool, story: Story) -> None:
    commit(pool, FIRST)
    with pool.transaction(KEY, 1.0) as txn:
        txn.syncs = syncs = Syncs(str(root), durable=True)
        story.clear()
        txn.remove()
        assert story == ["mark main: rev 1 again", "unlink main/journal"]
    syncs.sync()
    assert story[2:] == ["sync main"]
    with_log(pool)
    with pool.transaction(KEY, 1.0) as txn:
        txn.syncs = syncs
        story.clear()
        txn.remove()
        assert story[1:] == ["unlink main/journal", "sync archive", "sync main", "unlink main/log"]
    syncs.close()


def test_a_file_that_cannot_be_removed_stays_the_sessions(root: Path, pool: Pool, story: Story) -> None:
    commit(pool, FIRST)
    with pool.transaction(KEY, 1.0) as txn:
        story.fails = "unlink main/journal"
        with pytest.raises(StoreIOError, match="while removing a shard") as caught:
            txn.remove()
        assert caught.value.filename == str(journal_path(root))
        assert txn.state.rev == 1
        story.fails = "sync main"
        with pytest.raises(CommitUncertain, match="while removing a shard") as uncertain:
            txn.remove()
        assert uncertain.value.filename == str(journal_path(root))
        assert txn.state == ABSENT
    assert is_free(root)


def test_a_log_stays_until_the_names_are_on_the_medium(root: Path, pool: Pool, story: Story) -> None:
    log = with_log(pool)
    with pool.transaction(KEY, 1.0) as txn:
        txn.syncs = Syncs(str(root), durable=True)
        story.fails = "sync main"
        with pytest.raises(CommitUncertain, match="while syncing a batch") as caught:
            txn.remove()
        assert caught.value.filename == str(journal_path(root))
        txn.syncs.close()
    assert logs(root) == [log]
    os.unlink(log_path(pool.layout, shard_name(KEY), log))


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


# Moved


@pytest.mark.parametrize("batch", [False, True])
def test_an_archived_session_has_its_new_name_before_it_loses_the_old_one(
    root: Path, pool: Pool, story: Story, batch: bool
) -> None:
    commit(pool, FIRST)
    (root / "archive").rmdir()  # by somebody who tidied up
    with pool.transaction(KEY, 1.0) as txn:
        txn.syncs = syncs = Syncs(str(root), durable=True) if batch else None
        story.clear()
        txn.archive()
        assert (txn.journal, txn.state) == (EMPTY, ABSENT)
    moved = ["mark main: rev 1 again", "rename main/journal to archive/journal"]
    if syncs is not None:
        assert story == moved
        syncs.sync()
        syncs.close()
    assert story == [*moved, "sync archive", "sync main"]


def test_a_log_is_in_the_archive_before_its_journal(root: Path, pool: Pool, story: Story) -> None:
    log = with_log(pool)
    (root / "archive").rmdir()
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.archive()
    assert story == [
        "link main/log as archive/log",
        "sync archive",
        "mark main: rev 2 again",
        "rename main/journal to archive/journal",
        "sync archive",
        "sync main",
        "unlink main/log",
    ]
    assert [path.name.split(".")[-3] for path in (root / "archive").glob(f"*{LOG_SUFFIX}")] == [log]


def test_where_the_archive_cannot_be_made_the_session_stays(root: Path, pool: Pool) -> None:
    with_log(pool)
    (root / "archive").rmdir()
    (root / "archive").write_bytes(b"")
    with pool.transaction(KEY, 1.0) as txn, pytest.raises(StoreIOError, match="while archiving a session") as caught:
        txn.archive()
    assert caught.value.filename == str(root / "archive")
    (root / "archive").unlink()
    assert journal_path(root).exists()
    assert is_free(root)


FAILED_ARCHIVINGS: dict[str, tuple[type[OSError], str, str]] = {
    "link main/log as archive/log": (StoreIOError, "moving a log", "archive"),
    "rename main/journal to archive/journal": (StoreIOError, "archiving a session", "main"),
    "sync main": (CommitUncertain, "archiving a session", "main"),
}


@pytest.mark.parametrize("step", FAILED_ARCHIVINGS)
def test_an_archiving_that_fails_says_where(root: Path, pool: Pool, story: Story, step: str) -> None:
    kind, doing, place = FAILED_ARCHIVINGS[step]
    log = with_log(pool)
    with pool.transaction(KEY, 1.0) as txn:
        story.fails = step
        with pytest.raises(kind, match=f"while {doing}") as caught:
            txn.archive()
        assert txn.state.exists == (kind is StoreIOError)
    assert story.place(os.path.dirname(caught.value.filename)) == place
    assert logs(root) == [log]
    assert is_free(root)
    if kind is CommitUncertain:  # nobody removed the log, which compact would
        os.unlink(log_path(pool.layout, shard_name(KEY), log))


@pytest.mark.parametrize("log", [False, True])
def test_a_renamed_session_is_complete_before_the_old_one_goes(root: Path, pool: Pool, story: Story, log: bool) -> None:
    """Also a torn tail that the target had is kept first."""
    if log:
        with_log(pool)
    else:
        commit(pool, FIRST, MORE)
    with pool.transaction(KEY, 1.0) as one, pool.transaction(OTHER, 1.0) as other:
        tear(other)
        before = one.state
        story.clear()
        one.rename(other)
        given = ["link main/log as other/log", "sync other"] if log else []
        assert story == [
            "mark other: -",
            "sync quarantine/journal",
            "sync quarantine",
            "mark other: absent",
            *given,
            "sync other/temp",
            "rename other/temp to other/journal",
            "sync other",
            "mark main: rev 2 again",
            "unlink main/journal",
            "sync main",
            *(["unlink main/log"] if log else []),
        ]
        assert one.state == ABSENT
        assert other.state.version == before.version
        assert other.journal == read_file(str(journal_path(root, OTHER)))[0]
    assert [path.read_bytes() for path in (root / "quarantine").iterdir()] == [TORN]


def test_a_rename_that_goes_on_syncs_what_the_interrupted_one_wrote(root: Path, pool: Pool, story: Story) -> None:
    """Whoever died may not have synced the new name. Else a power cut could leave neither."""
    commit(pool, FIRST, MORE)
    with pool.transaction(KEY, 1.0) as one, pool.transaction(OTHER, 1.0) as other:
        story.fails = "sync other"
        with pytest.raises(CommitUncertain):
            one.rename(other)
    story.fails = ""
    assert journal_path(root).exists()
    with pool.transaction(KEY, 1.0) as one, pool.transaction(OTHER, 1.0) as other:
        story.clear()
        one.rename(other)
    assert story == [
        "sync other",
        "sync other/journal",
        "mark main: rev 2 again",
        "unlink main/journal",
        "sync main",
    ]


def test_a_log_that_cannot_be_moved_stops_a_rename(root: Path, pool: Pool, story: Story) -> None:
    log = with_log(pool)
    with pool.transaction(KEY, 1.0) as one, pool.transaction(OTHER, 1.0) as other:
        story.fails = "link main/log as other/log"
        with pytest.raises(StoreIOError, match="while moving a log") as caught:
            one.rename(other)
        assert one.state.exists
        assert not other.state.exists
    assert Path(caught.value.filename).parent == journal_path(root, OTHER).parent
    assert logs(root) == [log]
    assert is_free(root)
    assert is_free(root, OTHER)


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
    commit(pool, FIRST)
    target = root / "quarantine" / stamped_name(shard_name(KEY))
    target.parent.rmdir()
    with pool.transaction(KEY, 1.0) as txn:
        story.clear()
        txn.keep_copy(str(target))
        assert story == ["link main/journal as quarantine/journal", "sync quarantine"]
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
