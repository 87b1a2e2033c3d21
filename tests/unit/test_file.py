"""One open journal file: what is remembered of it is proved before it is believed, and is forgotten with the descriptor."""

from __future__ import annotations

import errno
import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, StoreFull, StoreIOError
from shardstore._files import file as files
from shardstore._files.file import JournalFile, size_with_space
from shardstore._journal.record import next_record
from shardstore._journal.replay import EMPTY, Journal
from shardstore._model import ABSENT, Change
from tests.support import leftovers
from tests.support.actions import in_child, wait_for

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


def failing(number: int = errno.EIO) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


LINE = next_record(ABSENT, FIRST, "k", "me", durable=False)


def test_a_link_in_the_directorys_place_is_not_followed(tmp_path: Path) -> None:
    """It would lead out of the store."""
    (tmp_path / "real").mkdir()
    (tmp_path / "3f").symlink_to(tmp_path / "real")
    with pytest.raises(StoreIOError):
        JournalFile.open(str(tmp_path / "3f" / "k"), write=True, create=True)
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.parametrize("make", ["mkdir", "symlink_to", "mkfifo"])
def test_what_is_no_regular_file_is_damage_and_stays_closed(tmp_path: Path, path: str, make: str) -> None:
    if make == "mkfifo":
        os.mkfifo(path)
    else:
        getattr(Path(path), make)(*[tmp_path / "other"] * (make == "symlink_to"))
    keeper = os.open(path, os.O_RDWR) if make == "mkfifo" else -1
    for write in (True, False):
        with pytest.raises(CorruptShard, match="not a regular file") as caught:
            JournalFile.open(path, write=write)
        assert caught.value.offset == 0
    if keeper >= 0:
        os.close(keeper)
    assert leftovers.below(tmp_path) == []


@pytest.mark.parametrize(("number", "error"), [(errno.EIO, StoreIOError), (errno.ENOSPC, StoreFull)])
def test_a_call_that_fails_is_a_typed_error(  # noqa: PLR0913  # a file, and a failure
    file: JournalFile,
    path: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[StoreIOError],
) -> None:
    """Opening, reading, and each step of a replacement: nothing is swallowed, and the file stays as it was."""
    after = append(file)
    before, directory = Path(path).read_bytes(), Path(path).parent
    for owner, name, call in (
        (os, "open", lambda: JournalFile.open(path, write=True)),
        (os, "pread", lambda: file.refresh(locked=True)),
        (files.disk, "create", lambda: file.replace(path + ".temp", LINE[0], after)),
        (files.os, "fstat", lambda: file.replace(path + ".temp", LINE[0], after)),
        (files.disk, "copy_access", lambda: file.replace(path + ".temp", LINE[0], after)),
        (files.disk, "sync", lambda: file.replace(path + ".temp", LINE[0], after)),
        (files.os, "rename", lambda: file.replace(path + ".temp", LINE[0], after)),
        (files.os, "ftruncate", lambda: file.trim(file.journal.end)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing(number))
            with pytest.raises(error) as caught:
                call()
        assert caught.value.errno == number, name
        assert Path(path).read_bytes() == before, name
        assert [str(one) for one in directory.iterdir()] == [path], f"{name} left its temp"
        assert leftovers.below(directory) == [path], name
    assert file.refresh(locked=True) is after


def test_what_is_remembered_is_looked_at_again_after_a_while(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader every few milliseconds; a writer whenever the time of the last change is not this moment's."""
    after = append(file)
    looks: list[int] = []
    real = os.fstat
    monkeypatch.setattr(files.os, "fstat", lambda fd: (looks.append(fd), real(fd))[1])
    assert file.refresh(locked=True) is after
    assert looks == [], "it was written just now"
    file.refresh(locked=False)
    assert len(looks) == 1
    file.refresh(locked=False)
    assert len(looks) == 1
    monkeypatch.setattr(files.time, "monotonic", lambda: 1e12)
    file.refresh(locked=False)
    assert len(looks) == 2
    now = time.time_ns()
    for ahead in (files.HOT_NS, -files.HOT_NS, 10**15, -(10**15)):
        monkeypatch.setattr(files.time, "time_ns", lambda ahead=ahead: now + ahead)  # type: ignore[misc]
        file.known = file.known._replace(mtime=now)
        count = len(looks)
        assert file.refresh(locked=True).state == after.state
        assert len(looks) > count, ahead


def test_a_forked_child_forgets_the_file(file: JournalFile) -> None:
    append(file)
    fd = file.fd

    def child() -> None:
        assert file in files.open_files
        file.after_fork()
        assert file.fd == -1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    assert wait_for(in_child(child)) == 0
    os.fstat(fd)
