"""One open journal file: what is remembered of it is proved before it is believed, and is forgotten with the descriptor."""

from __future__ import annotations

import errno
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import CorruptShard, StoreFull
from shardstore._files import file as files
from shardstore._files.file import JournalFile, size_with_space
from shardstore._journal.record import next_record
from shardstore._journal.replay import EMPTY, Journal
from shardstore._model import ABSENT, Change

FIRST = Change({"n": b"0"}, [], whole=True)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "shard.jsonl")


@pytest.fixture
def file(path: str) -> Iterator[JournalFile]:
    made = JournalFile.open(path, write=True, create=True)
    assert made is not None
    yield made
    made.close()


def append(file: JournalFile, change: Change = FIRST) -> Journal:
    """Append a record as a transaction does."""
    before = file.refresh(locked=True)
    line, state = next_record(before.state, change, "k", "me", durable=False)
    after = Journal(state, before.end + len(line), before.records + 1, line[8:16])
    file.append(line, after)
    return after


def test_the_size_grows_in_steps() -> None:
    sizes = [size_with_space(end) for end in (1, 4096, 4097, 8193, 65536, 65537, 131073)]
    assert sizes == [4096, 4096, 8192, 16384, 65536, 131072, 196608]


def test_what_was_appended_is_what_is_read(file: JournalFile, path: str) -> None:
    after = append(file)
    assert file.refresh(locked=True) is after, "what is remembered is still true"
    other = JournalFile.open(path, write=False)
    assert other is not None
    assert other.refresh(locked=False) == after
    assert os.path.getsize(path) == file.size == 4096
    append(file, Change({"n": b"1"}, []))
    assert other.refresh(locked=False).state.rev == 2
    other.close()


def test_a_long_record_that_is_not_durable_brings_no_space(file: JournalFile, path: str) -> None:
    """Writing the space costs as much as the record; a reader reads on where the file ends behind a blank line."""
    append(file)
    other = JournalFile.open(path, write=False)
    assert other is not None
    other.refresh(locked=False)
    for number in range(20):
        before = file.refresh(locked=True)
        line, state = next_record(before.state, Change({"t": b'"%b"' % (b"x" * 1000)}, []), "k", "me", durable=False)
        after = Journal(state, before.end + len(line), before.records + 1, line[8:16])
        file.append(line, after, durable=False)
        assert file.refresh(locked=True) is after
        assert os.path.getsize(path) == file.size == max(4096, after.end + 1)
        assert other.refresh(locked=False).state.rev == number + 2
        assert other.refresh(locked=False) is other.known.journal
    append(file, Change({"n": b"1"}, []))
    assert os.path.getsize(path) == size_with_space(file.journal.end)
    other.close()


def test_there_is_no_file(tmp_path: Path) -> None:
    assert JournalFile.open(str(tmp_path / "none"), write=True) is None
    assert files.read_file(str(tmp_path / "none")) == (EMPTY, b"")
    assert files.read_journal(str(tmp_path / "none")) == b""


@pytest.mark.parametrize("kind", ["link", "directory", "fifo", "too large"])
def test_what_is_no_journal_file_is_refused(tmp_path: Path, path: str, kind: str) -> None:
    if kind == "link":
        os.symlink(tmp_path / "elsewhere", path)
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        with open(path, "wb") as made:
            made.truncate(files.FILE_BYTES_MAX + 1)
    with pytest.raises(CorruptShard):
        files.read_file(path)


def test_a_descriptor_is_closed_once_when_opening_is_interrupted(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second close of the same number would hit a file of somebody else's."""
    gc.collect()  # what another test dropped is closed before the count begins
    closed: list[int] = []
    real = os.close
    monkeypatch.setattr(os, "close", lambda fd: (closed.append(fd), real(fd)))

    def interrupt(_status: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "identity_of", interrupt)
    with pytest.raises(KeyboardInterrupt):
        JournalFile.open(path, write=True, create=True)
    gc.collect()
    assert len(closed) == 1


def test_a_write_that_fails_half_way_is_taken_back(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = append(file)
    real = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        if offset != after.end:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data[:20], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(StoreFull):
        append(file, Change({"n": b"1"}, []))
    monkeypatch.undo()
    assert os.path.getsize(path) == after.end
    assert file.refresh(locked=True) == after
    assert append(file, Change({"n": b"2"}, [])).state.rev == 2


def test_a_byte_changed_by_hand_is_noticed(file: JournalFile, path: str) -> None:
    """The modification time tells, though nothing was appended."""
    append(file)
    append(file, Change({"n": b"1"}, []))
    time.sleep(0.02)
    with open(path, "r+b") as by_hand:
        by_hand.seek(30)
        by_hand.write(b"X")
    for locked in (True, False):
        with pytest.raises(CorruptShard):
            file.refresh(locked=locked)


def test_a_replaced_file_is_locked_and_synced_before_it_has_the_name(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(file)
    steps: list[str] = []
    sync, rename = files.disk.sync, os.rename
    monkeypatch.setattr(files.disk, "sync", lambda fd: (steps.append("sync"), sync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (steps.append("rename"), rename(a, b)))
    line, state = next_record(ABSENT, FIRST, "k", "me", durable=True)
    fresh = file.replace(path + ".tmp", line, Journal(state, len(line), 1, line[8:16]))
    assert steps == ["sync", "rename"]
    other = JournalFile.open(path, write=True)
    assert other is not None
    assert not other.lock.try_acquire(), "another writer would be inside before the rewrite is finished"
    fresh.close()
    assert other.lock.try_acquire()
    other.close()


def test_trimming_gives_the_space_back(file: JournalFile, path: str) -> None:
    after = append(file)
    assert file.trim(after.end) == 4096 - after.end
    assert os.path.getsize(path) == after.end
    assert file.refresh(locked=True) == after
