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


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the system calls by which files are read and looked at, in order; each of them runs."""
    seen: list[str] = []
    for name in ("pread", "fstat"):
        real: Callable[..., Any] = getattr(os, name)

        def call(*args: Any, name: str = name, real: Callable[..., Any] = real) -> Any:
            seen.append(name)
            return real(*args)

        monkeypatch.setattr(os, name, call)
    return seen


def reader_of(path: str) -> JournalFile:
    other = JournalFile.open(path, write=False)
    assert other is not None
    return other


def test_reading_costs_what_was_added(
    file: JournalFile, path: str, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read shows that nothing changed; with a look at the mtime now and then; two reads bring new records."""
    append(file)
    other = reader_of(path)
    clock = [1000.0]
    monkeypatch.setattr(files.time, "monotonic", lambda: clock[0])
    for change, calls in (
        (None, ["pread", "fstat", "fstat", "pread"]),  # the first time all of it
        (None, ["pread", "fstat"]),
        (None, ["pread"]),
        (Change({"n": b"1"}, []), ["pread", "fstat", "pread"]),
        (None, ["pread"]),
        (Change({"n": b'"%b"' % (b"x" * 9_000)}, []), ["pread", "fstat", "pread", "fstat", "pread"]),
        (None, ["pread"]),
        (Change({"n": b"2"}, []), ["pread", "fstat", "pread"]),
        (None, ["pread"]),
    ):
        if change is not None:
            append(file, change)
        reads.clear()
        assert other.refresh(locked=False) == file.journal
        assert reads == calls, change
    clock[0] += files.CHECK_S
    reads.clear()
    other.refresh(locked=False)
    assert reads == ["pread", "fstat"]
    monkeypatch.setattr(files.time, "time_ns", lambda: 1 << 62)  # a writer that knows no commit of just now
    for one in (file, other):
        reads.clear()
        assert one.refresh(locked=True) is one.journal
        assert reads == ["pread", "fstat"]
    other.close()


def test_a_record_behind_which_nothing_is_whole_is_not_taken_alone(file: JournalFile, path: str) -> None:
    """A good record and damage behind it arrive together: the reader tells of the damage at once."""
    append(file)
    other = reader_of(path)
    other.refresh(locked=False)
    before = file.journal
    line, state = next_record(before.state, Change({"n": b"1"}, []), "k", "me", durable=True)
    last, _ = next_record(state, Change({"n": b"2"}, []), "k", "me", durable=True)
    os.pwrite(file.fd, line + b"damage\n" + last, before.end)
    with pytest.raises(CorruptShard) as caught:
        other.refresh(locked=False)
    assert caught.value.offset == before.end + len(line)
    other.close()


def test_a_changed_newline_behind_the_last_record_is_noticed(file: JournalFile, path: str) -> None:
    """Whoever has the file open reads what anybody reads who opens it now."""
    append(file)
    after = append(file, Change({"n": b"1"}, []))
    os.pwrite(file.fd, b"X", after.end - 1)
    assert (file.refresh(locked=True), file.torn) == files.read_file(path)
    assert file.torn


def test_a_torn_tail_leaves_the_last_record_to_be_checked(file: JournalFile) -> None:
    """What stands behind the journal is kept for repair, and a later change of the last record is still noticed."""
    after = append(file)
    check = file.known.tail_check
    os.pwrite(file.fd, b'{"crc":"0', after.end)
    for locked in (True, False):
        assert file.refresh(locked=locked) == after
        assert file.known.tail_check == check
        assert file.known.torn.rstrip(b"\n") == b'{"crc":"0'
    assert file.torn.rstrip(b"\n") == b'{"crc":"0'


@pytest.mark.parametrize(("locked", "pauses"), [(True, 2), (False, 5)])
def test_damage_is_read_again_before_it_is_believed(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch, locked: bool, pauses: int
) -> None:
    """A reader may have come in the middle of a commit. Afterwards nothing is remembered as true."""
    append(file)
    append(file, Change({"n": b"1"}, []))
    os.pwrite(file.fd, b"X", 20)
    slept: list[float] = []
    monkeypatch.setattr(files.time, "sleep", slept.append)
    monkeypatch.setattr(files.time, "time_ns", lambda: 1 << 62)
    os.utime(path, (5, 5))
    with pytest.raises(CorruptShard) as caught:
        file.refresh(locked=locked)
    assert caught.value.offset == 0
    assert slept == pytest.approx([0.0005 * n for n in range(pauses)])
    assert file.known.tail_check == b""
    slept.clear()
    with pytest.raises(CorruptShard):
        files.read_file(path)
    assert len(slept) == 5, "nobody who has the lock reads there"


def test_a_file_may_have_a_gibibyte_and_no_more(file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.FILE_BYTES_MAX == 1_073_741_824
    after = append(file)
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 4096)
    assert files.read_file(path)[0] == after
    assert files.read_journal(path) == Path(path).read_bytes()
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 4095)
    for read in (files.read_file, files.read_journal):
        with pytest.raises(CorruptShard, match="more than any shard can have") as caught:
            read(path)
        assert caught.value.offset == 0


def test_what_an_append_writes(file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line and the space behind it in one write, the line alone where it fits, and space behind a durable one."""
    given: list[int] = []
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: (given.append(len(data)), real(fd, data, offset))[1])
    append(file)
    assert given == [4096]
    given.clear()
    before = file.journal
    line, state = next_record(before.state, Change({"n": b"1"}, []), "k", "me", durable=False)
    after = Journal(state, before.end + len(line), before.records + 1, line[8:16])
    file.size = after.end
    file.append(line, after)
    assert (given, file.size) == ([len(line)], after.end)
    long, state = next_record(state, Change({"n": b'"%b"' % (b"x" * 5_000)}, []), "k", "me", durable=True)
    file.append(long, Journal(state, after.end + len(long), 3, long[8:16]))
    assert given[1:] == [8192 - after.end]
    assert file.size == os.path.getsize(path) == 8192
    assert reader_of(path).refresh(locked=False).state == state


def test_a_short_write_is_gone_on_with(file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    append(file)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:20], offset))
    after = append(file, Change({"n": b"1"}, []))
    assert reader_of(path).refresh(locked=False) == after


def test_a_write_that_cannot_be_taken_back_is_not_believed(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The torn tail stays; the next read finds it, and the writer repairs it."""
    after = append(file)
    real = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        if offset != after.end:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data[:20], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        patch.setattr(os, "ftruncate", failing())
        with pytest.raises(StoreFull):
            append(file, Change({"n": b"1"}, []))
    assert file.known.tail_check == b""
    assert file.journal is after
    assert file.refresh(locked=True) == after
    assert len(file.torn.rstrip(b"\n")) == 20


@pytest.mark.parametrize("links", [1, 2])
def test_a_repair_keeps_the_tail_and_cuts_it_off(file: JournalFile, path: str, tmp_path: Path, links: int) -> None:
    """A file with a second name, somebody's backup, stays as it is, and is not trimmed either."""
    after = append(file)
    os.pwrite(file.fd, b'{"crc":"0', after.end)
    file.refresh(locked=True)
    file.links = links
    before = Path(path).read_bytes()
    keep_as = str(tmp_path / "quarantine" / "tail")
    file.repair_tail(keep_as, after.end)
    assert Path(keep_as).read_bytes() == before[after.end :]
    assert (file.torn, file.known.torn) == (b"", b"")
    assert Path(path).read_bytes() == (before[: after.end] if links == 1 else before)
    assert file.size == (after.end if links == 1 else 4096)
    assert file.trim(after.end) == 0
    assert os.path.getsize(path) == (after.end if links == 1 else 4096)
    assert leftovers.below(tmp_path) == [path]


def test_the_tail_is_on_the_medium_before_it_is_cut_off(
    file: JournalFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name too. Where that fails the error says so, and the tail stays."""
    after = append(file)
    os.pwrite(file.fd, b'{"crc":"0', after.end)
    file.refresh(locked=True)
    keep_as, steps = str(tmp_path / "quarantine" / "tail"), list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(files.disk, "sync", failing())
        with pytest.raises(StoreIOError):
            file.repair_tail(keep_as, after.end)
    assert file.torn.startswith(b'{"crc":"0')
    os.unlink(keep_as)
    for owner, name in ((files.disk, "sync"), (files.disk, "sync_directory"), (os, "ftruncate")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, name=name, real=real: (steps.append(name), real(*args))[1])
    file.repair_tail(keep_as, after.end)
    assert steps == ["sync", "sync_directory", "ftruncate"]


def test_a_replaced_file_has_the_access_of_the_one_before(file: JournalFile, path: str, tmp_path: Path) -> None:
    """And what is known of it is what was written: nothing is read to go on with it."""
    append(file)
    os.chmod(path, 0o640)
    line, state = next_record(ABSENT, FIRST, "k", "me", durable=True)
    after = Journal(state, len(line), 1, line[8:16])
    fresh = file.replace(path + ".tmp", line, after)
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert fresh.writable
    assert fresh.refresh(locked=True) is after
    assert Path(path).read_bytes() == line.ljust(4096, b"\n")
    assert (fresh.size, fresh.synced, fresh.reach) == (4096, len(line), len(line))
    other = fresh.replace(path + ".tmp", line, after, str(tmp_path / "elsewhere"))
    assert Path(path).exists()
    assert (tmp_path / "elsewhere").read_bytes() == line.ljust(4096, b"\n")
    other.close()
    fresh.close()


def test_an_interrupted_replacement_leaves_no_temp(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupt itself passes through."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    append(file)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            file.replace(path + ".tmp", LINE[0], file.journal)
    assert not os.path.exists(path + ".tmp")
    assert leftovers.below(Path(path).parent) == [path]


def test_a_temp_that_somebody_has_locked_does_not_replace(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(file)
    monkeypatch.setattr(files.KernelLock, "try_acquire", lambda _self: False)
    with pytest.raises(StoreIOError):
        file.replace(path + ".tmp", LINE[0], file.journal)
    assert not os.path.exists(path + ".tmp")


def test_a_file_that_may_only_be_read_is_opened_for_reading(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a reader; a writer gets the error. Another error is nobody's reason to try again."""
    assert file.writable
    after = append(file)
    real, number = os.open, [errno.EACCES]

    def refuse(path: Any, flags: int, *args: Any) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(number[0], os.strerror(number[0]), path)
        return real(path, flags, *args)

    monkeypatch.setattr(os, "open", refuse)
    reader = reader_of(path)
    assert not reader.writable
    reader.close()
    assert files.read_file(path)[0] == after
    assert files.read_journal(path) == Path(path).read_bytes()
    with pytest.raises(StoreIOError):
        JournalFile.open(path, write=True)
    number[0] = errno.EIO
    with pytest.raises(StoreIOError):
        JournalFile.open(path, write=False)


def test_a_dead_writers_temp_is_removed_and_a_living_ones_stays(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not files.discard_dead(path + ".none")
    assert not os.path.exists(path + ".none")
    assert file.lock.try_acquire()
    assert not files.discard_dead(path)
    file.lock.release()
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing())
        with pytest.raises(StoreIOError) as caught:
            files.discard_dead(path)
    assert caught.value is not None  # its traceback would keep an open file alive
    assert leftovers.below(Path(path).parent) == [path]
    assert files.discard_dead(path)
    assert not os.path.exists(path)


def test_reading_whole_ends_in_a_typed_error_and_leaves_nothing_open(
    file: JournalFile, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(file)
    for read in (files.read_file, files.read_journal):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", failing())
            with pytest.raises(StoreIOError) as caught:
                read(path)
        assert caught.value is not None  # its traceback would keep an open file alive
        assert leftovers.below(Path(path).parent) == [path]
        assert read(path)
