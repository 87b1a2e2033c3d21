"""The files of a session that is replaced, removed, archived or renamed: each step in its order, and each that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardstore import CommitUncertain, StoreIOError
from shardstore._files.file import JournalFile, read_file
from shardstore._files.layout import LOG_SUFFIX, log_path, shard_name, stamped_name, temp_name
from shardstore._files.pool import Pool
from shardstore._files.syncs import Syncs
from shardstore._journal.replay import EMPTY, with_key
from shardstore._model import ABSENT
from tests.unit.stories import (
    FIRST,
    ITEMS,
    KEY,
    MORE,
    OTHER,
    TORN,
    Story,
    commit,
    is_free,
    journal_path,
    logs,
    tear,
    with_log,
)

# Another journal in its place


def archived(root: Path) -> JournalFile:
    """Return a copy of the session's journal in archive/, locked and read."""
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
    moved = ["mark main: rev 1 again", "sync .", "rename main/journal to archive/journal"]
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
        "sync .",
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
