"""Syncs of a batch: what is written is on the medium before it is acknowledged, names in the order that matters."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import CommitUncertain, StoreIOError
from shardstore._files import disk, syncfs, syncs
from shardstore._files.file import JournalFile
from shardstore._files.syncs import Syncs, overlap
from tests.support import leftovers


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Syncs]:
    """Return the syncs of a durable batch, where nothing syncs everything at once."""
    monkeypatch.setattr(syncfs, "is_trusted", lambda _fd: False)
    made = Syncs(str(tmp_path), durable=True)
    made.begin()
    yield made
    made.close()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the paths that are synced from now on, in order."""
    done: list[str] = []
    monkeypatch.setattr(disk, "sync", lambda fd: done.append(os.readlink(f"/proc/self/fd/{fd}")))
    monkeypatch.setattr(disk, "sync_directory", lambda path: done.append(str(path)))
    return done


def journal(path: Path) -> JournalFile:
    path.parent.mkdir(exist_ok=True)
    file = JournalFile.open(str(path), write=True, create=True)
    assert file is not None
    return file


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list a process' descriptors")
def test_files_and_targets_come_before_the_names_they_were_moved_from(
    tmp_path: Path, group: Syncs, synced: list[str]
) -> None:
    """Else a power cut could leave a session in neither place."""
    file = journal(tmp_path / "a" / "k")
    group.add_file(file, 10)
    group.add_names(str(tmp_path / "b"), moved_to=str(tmp_path / "archive"))
    file.close()
    group.sync()
    assert set(synced[:2]) == {str(tmp_path / "a" / "k"), str(tmp_path / "archive")}
    assert set(synced[2:]) == {str(tmp_path / "a"), str(tmp_path / "b")}
    group.sync()
    assert len(synced) == 4, "a group is synced once"
    assert leftovers.below(tmp_path) == []


def test_a_relaxed_batch_syncs_nothing(tmp_path: Path, synced: list[str]) -> None:
    relaxed = Syncs(str(tmp_path), durable=False)
    relaxed.begin()
    file = journal(tmp_path / "k")
    relaxed.add_file(file, 10)
    relaxed.add_names(str(tmp_path))
    assert not relaxed.due
    relaxed.sync()
    relaxed.close()
    file.close()
    assert synced == []


def test_a_group_is_due_by_number_bytes_or_age(tmp_path: Path, group: Syncs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not group.due
    monkeypatch.setattr(group, "_by_descriptor", 3)
    for expected in (False, False, True):
        group.add_names(str(tmp_path))
        assert group.due is expected
    group.sync()
    file = journal(tmp_path / "k")
    group.add_file(file, syncs.GROUP_BYTES)
    assert group.due
    group.sync()
    file.close()
    group.add_names(str(tmp_path))
    monkeypatch.setattr(syncs, "GROUP_S", 0.0)
    assert group.due


def test_a_file_beyond_the_descriptors_is_synced_at_once(
    tmp_path: Path, group: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "_by_descriptor", 1)
    done: list[str] = []
    monkeypatch.setattr(JournalFile, "sync", lambda self, _end: done.append(Path(self.path).name))
    files = [journal(tmp_path / name) for name in "ab"]
    for file in files:
        group.add_file(file, 10)
        file.close()
    assert done == ["b"]


def test_everything_at_once_where_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[str]) -> None:
    """One call for the file system of the root; directories on others by themselves."""
    monkeypatch.setattr(syncfs, "is_trusted", lambda _fd: True)
    monkeypatch.setattr(syncfs, "sync_all", lambda _fd: synced.append("everything"))
    group = Syncs(str(tmp_path), durable=True)
    group.begin()
    for number in range(syncs.FEW + 1):
        group.add_names(str(tmp_path / f"{number}"))
        (tmp_path / f"{number}").mkdir()
    group.sync()
    assert synced == ["everything"]
    group.add_names(str(tmp_path / "1"))
    group.sync()
    assert synced == ["everything", str(tmp_path / "1")], "for a few the call would sync what others wrote"
    group.close()


@pytest.mark.parametrize("where", ["sync", "sync_directory"])
def test_a_sync_that_fails_acknowledges_nothing(
    tmp_path: Path, group: Syncs, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, where, fail)
    file = journal(tmp_path / "k")
    group.add_file(file, 10)
    file.close()
    with pytest.raises(CommitUncertain):
        group.sync()
    assert leftovers.below(tmp_path) == []
    monkeypatch.undo()
    group.sync()


def test_a_root_that_is_gone_is_an_error_at_the_beginning(tmp_path: Path) -> None:
    with pytest.raises(StoreIOError, match="beginning a batch"):
        Syncs(str(tmp_path / "gone"), durable=True).begin()


def actions(count: int, act: Callable[[int], None]) -> list[Callable[[], None]]:
    return [lambda number=number: act(number) for number in range(count)]  # type: ignore[misc]


def test_actions_overlap_and_each_runs_once() -> None:
    """As many at a time as there are threads."""
    done: list[int] = []
    together = threading.Barrier(syncs.THREADS)

    def act(number: int) -> None:
        together.wait(30.0)
        done.append(number)

    overlap(actions(2 * syncs.THREADS, act))
    assert sorted(done) == list(range(2 * syncs.THREADS))


def test_the_first_error_is_raised_when_all_have_ended() -> None:
    done: list[int] = []

    def act(number: int) -> None:
        if number == 3:
            raise OSError(5, "Input/output error")
        done.append(number)

    with pytest.raises(OSError, match="Input/output"):
        overlap(actions(20, act))
    assert sorted(done) == [number for number in range(20) if number != 3]


def test_without_threads_one_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[int] = []
    overlap(actions(20, done.append))
    assert done == list(range(20))


def test_a_descriptor_that_cannot_be_closed_keeps_no_other_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was opened for reading: an error of its close says nothing of what was written."""
    closed: list[int] = []

    def broken(fd: int) -> None:
        closed.append(fd)
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr("shardstore._files.syncs.os.close", broken)
        made = Syncs(str(root), durable=True)
        made._fds = [1001, 1002]
        made.close()
    assert closed[:2] == [1001, 1002]
    for fd in closed[2:]:
        os.close(fd)
