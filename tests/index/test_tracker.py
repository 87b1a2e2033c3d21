"""The writer's side: a shard is marked as often as it must be, and where it cannot be, the index goes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from shardstore._files.change_file import file as changes
from shardstore._files.change_file.file import MARK, ChangeFile, change_files, discard
from shardstore._files.change_file.tracker import ChangeTracker
from shardstore._files.layout import shard_name
from shardstore.errors import StoreIOError

NAMES = [shard_name(key) for key in ("a", "b")]


@pytest.fixture
def made(tmp_path: Path) -> ChangeFile:
    """Return a change file that names two shards in front of a mark."""
    file = ChangeFile.create(str(tmp_path))
    file.unlock()
    for name in NAMES:
        file.append(name)
    file.append(MARK)
    return file


@pytest.fixture
def tracker(made: ChangeFile) -> ChangeTracker:
    return ChangeTracker(made.directory, lambda: 0)


def lines(made: ChangeFile, name: str) -> int:
    return Path(made.path).read_bytes().count(name.encode())


def test_a_shard_is_marked_once_between_two_marks(made: ChangeFile, tracker: ChangeTracker) -> None:
    """Whatever others mark in between; a mark ends that, also one that another process's changes hide."""
    name, other = shard_name("new"), ChangeTracker(made.directory, lambda: 0)
    for _ in range(3):
        tracker.mark_changed(name)
        other.mark_changed(NAMES[0])
    assert (lines(made, name), lines(made, NAMES[0])) == (1, 2)
    made.append(MARK)
    other.mark_changed(NAMES[0])
    tracker.mark_changed(name)
    tracker.mark_changed(name)
    assert (lines(made, name), lines(made, NAMES[0])) == (2, 3)


def test_what_is_removed_is_marked_again(made: ChangeFile, tracker: ChangeTracker) -> None:
    """So a watcher learns that the session was there; what comes after it is spared again."""
    name = shard_name("new")
    tracker.mark_changed(name)
    tracker.mark_changed(name, again=True)
    tracker.mark_changed(name)
    assert lines(made, name) == 2


@pytest.mark.parametrize("part", range(1, 11))
def test_a_mark_is_seen_however_it_arrives(made: ChangeFile, tracker: ChangeTracker, part: int) -> None:
    """In two pieces, with a look between them."""
    name = shard_name("new")
    tracker.mark_changed(name)
    size = made.size()
    made.append(MARK)
    mark = Path(made.path).read_bytes()[size:]
    os.truncate(made.path, size + part)
    tracker._seen = (tracker._seen[0]._replace(size=size + part),)
    with open(made.path, "r+b") as file:
        file.seek(size)
        file.write(mark)
    tracker.mark_changed(name)
    assert lines(made, name) == 2


def test_a_new_change_file_is_found(made: ChangeFile, tracker: ChangeTracker) -> None:
    """And where there are two for a moment, both are told."""
    name = shard_name("new")
    tracker.mark_changed(name)
    second = ChangeFile.create(made.directory)
    os.unlink(made.path)
    tracker.mark_changed(name)
    assert lines(second, name) == 1
    third = ChangeFile.create(made.directory)
    fresh = ChangeTracker(made.directory, lambda: 0)
    fresh.mark_changed(name)
    assert (lines(second, name), lines(third, name)) == (2, 1)
    discard(made.directory)
    fresh.mark_changed(name)
    assert change_files(made.directory) == []


@pytest.mark.parametrize("failing", ["write", "open", "scandir"])
def test_an_index_that_cannot_be_told_is_deleted(
    made: ChangeFile, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """If that fails as well the update has to fail."""
    tracker = ChangeTracker(made.directory, lambda: 0)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE if failing != "write" else errno.ENOSPC, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(changes.os, failing, refuse)
        if failing == "scandir":
            with pytest.raises(StoreIOError):
                tracker.mark_changed(NAMES[0])
            assert change_files != []
        else:
            tracker.mark_changed(NAMES[0])
    assert (change_files(made.directory) == []) == (failing != "scandir")


@pytest.mark.parametrize("opening", ["open", "scandir"])
def test_descriptors_are_freed_for_the_change_file(
    made: ChangeFile, monkeypatch: pytest.MonkeyPatch, opening: str
) -> None:
    """Where none is left, the shards that nobody uses give theirs."""
    real, freed = getattr(os, opening), []

    def short(path: Any, *args: Any, **kwargs: Any) -> Any:
        if not freed:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(changes.os, opening, short)
    ChangeTracker(made.directory, lambda: freed.append(True) or 1).mark_changed(NAMES[0])  # type: ignore[func-returns-value]
    assert freed == [True]
    assert lines(made, NAMES[0]) == 2


def test_an_index_that_nobody_can_look_at_is_not_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that was not marked would be missing from lists: it is refused where the index cannot be deleted either."""
    tracker = ChangeTracker(str(tmp_path / "index"), lambda: 0)
    tracker.mark_changed(NAMES[0])
    with monkeypatch.context() as patch:
        patch.setattr("shardstore._files.change_file.tracker.os.stat", lambda *_: raise_(errno.EIO))
        patch.setattr("shardstore._files.change_file.tracker.discard", lambda *_: raise_(errno.EIO))
        with pytest.raises(StoreIOError, match="deleting the index"):
            tracker.mark_changed(NAMES[0])


def raise_(number: int) -> Any:
    raise OSError(number, "no")
