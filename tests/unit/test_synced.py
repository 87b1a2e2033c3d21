"""The shared sync of one open file: who waits, who is woken, and what a failed sync does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import CommitUncertain
from shardstore._files import disk
from shardstore._files.synced import SHARED_MAX, SyncedFile
from tests.support import actions


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SyncedFile]:
    """Yield an open file of 1,000 bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    fd = os.open(path, os.O_RDWR)
    yield SyncedFile(fd, str(path))
    os.close(fd)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the syncs."""
    calls: list[int] = []
    monkeypatch.setattr(disk, "sync", calls.append)
    return calls


def test_one_sync_covers_whatever_was_written_before_it(file: SyncedFile, syncs: list[int]) -> None:
    file.reach = 300
    file.sync(100)
    file.sync(200)
    file.sync(300)
    assert len(syncs) == 1
    file.sync(400)
    assert len(syncs) == 2


def test_nobody_waits_where_nobody_comes_behind(file: SyncedFile) -> None:
    assert file.share(100, behind=False) is None
    assert file.waiting == []


def test_a_sync_wakes_those_it_covered(file: SyncedFile, syncs: list[int]) -> None:
    places = [file.share(end, behind=True) for end in (100, 200)]
    file.sync(200)
    assert file.waiting == []
    for place in places:
        assert place is not None
        place.wait()
    assert len(syncs) == 1


def test_a_group_has_an_end(file: SyncedFile) -> None:
    places = [file.share(number, behind=True) for number in range(1, SHARED_MAX + 1)]
    assert places.index(None) == SHARED_MAX - 1


def test_one_is_woken_where_nobody_else_would_sync(file: SyncedFile, syncs: list[int]) -> None:
    first, second = file.share(100, behind=True), file.share(200, behind=True)
    assert first is not None
    assert second is not None
    file.wake_one()
    first.wait()
    second.wait()
    assert len(syncs) == 1


def test_after_a_failed_sync_nothing_is_acknowledged(file: SyncedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    file.sync(100)
    place = file.share(200, behind=True)
    assert place is not None
    with monkeypatch.context() as patch:
        patch.setattr(disk, "sync", fail)
        with pytest.raises(CommitUncertain):
            file.sync(300)
    assert file.waiting == []
    with pytest.raises(CommitUncertain):
        place.wait()
    with pytest.raises(CommitUncertain):
        file.sync(300)
    file.sync(100)  # this was on the medium before


def test_a_rewrite_may_close_the_file_under_those_who_wait(file: SyncedFile, syncs: list[int]) -> None:
    """Each waits with a descriptor of its own: the file's number may be another file's by then."""
    place = file.share(100, behind=True)
    assert place is not None
    kept, file.fd = file.fd, -1
    place.wait()
    file.fd = kept
    assert file.synced == 100
    assert syncs not in ([], [-1], [kept])


def test_a_forked_child_has_none_of_the_descriptors_that_the_parent_waits_with(file: SyncedFile) -> None:
    """They would keep the parent's locks alive."""
    place = file.share(100, behind=True)
    assert place is not None
    assert actions.wait_for(actions.in_child(lambda: os._exit(0 if place._fd == -1 else 1))) == 0
    assert place._fd >= 0
    place.wait()


def test_after_a_failed_sync_the_kernel_forgets_what_it_kept(file: SyncedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the descriptor that is open: the file's own may be closed by then."""
    forgotten: list[int] = []

    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    place = file.share(100, behind=True)
    assert place is not None
    kept, file.fd = file.fd, -1
    duplicate = place._fd
    monkeypatch.setattr(disk, "sync", fail)
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, *_: forgotten.append(fd), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    with pytest.raises(CommitUncertain):
        place.wait()
    file.fd = kept
    assert forgotten == [duplicate]
