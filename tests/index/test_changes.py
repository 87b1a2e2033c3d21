"""The change file: what is written is read, what is damaged is noticed, and a writer marks as often as it must."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from shardstore._files.change_file import file as changes
from shardstore._files.change_file.file import MARK, ChangeFile, Unusable, change_files
from shardstore._files.layout import shard_name
from tests.index.actors import nobody_waits_at
from tests.support.actions import in_child, wait_for

NAMES = [shard_name(key) for key in ("a", "b", "agent:main:main", "ä")]


@pytest.fixture
def made(tmp_path: Path) -> ChangeFile:
    """Return a change file with four changes, a mark and a seal."""
    file = ChangeFile.create(str(tmp_path))
    file.unlock()
    for name in NAMES[:2]:
        file.append(name)
    file.append(MARK)
    file.append("= 150 1 2 3 4")
    for name in NAMES[2:]:
        file.append(name)
    return file


def reopened(file: ChangeFile) -> ChangeFile:
    return ChangeFile.open(file.directory, file.filename, write=False)


def test_what_is_written_is_read(made: ChangeFile) -> None:
    """From the beginning and from a mark on; the last seal counts."""
    assert made.read_all() == (set(NAMES), "150 1 2 3 4", made.size())
    mark = made.append(MARK)
    assert mark == made.size()
    assert made.read(mark) == (set(), None, mark)
    made.append(NAMES[0])
    made.append("= 7 7 7 7 7")
    assert made.read(mark) == ({NAMES[0]}, "7 7 7 7 7", made.size())
    assert reopened(made).read(mark) == made.read(mark)
    assert change_files(made.directory) == [made.filename]


def test_a_changed_byte_is_noticed(made: ChangeFile) -> None:
    """Wherever it is, in the first line, a checksum, a name or a newline."""
    path = Path(made.path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for byte in {whole[at] ^ 1, 0x0A, 0x20} - {whole[at]}:
            path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            with pytest.raises(Unusable):
                reopened(made).read_all()


def test_cut_off_anywhere_but_at_a_line_it_is_noticed(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a line's end behind its last seal nothing shows; in front of it there is no seal to go by."""
    monkeypatch.setattr(changes, "_UNFINISHED_S", (0.0,))
    path = Path(made.path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        os.truncate(path, size)
        if whole[:size].endswith(b"\n"):
            assert (reopened(made).read_all().seal is None) == (b" = " not in whole[:size])
        else:
            with pytest.raises(Unusable):
                reopened(made).read_all()
        path.write_bytes(whole)
    with pytest.raises(Unusable, match="cut off"):
        made.read(len(whole) + 1)


def test_copies_and_others_are_not_taken_for_it(made: ChangeFile, tmp_path: Path) -> None:
    """A copy under its name, its content under another name, an empty file, a link, a directory, a FIFO."""
    path = Path(made.path)
    shutil.copy2(path, tmp_path / "copy")
    os.rename(tmp_path / "copy", path)
    with pytest.raises(Unusable):
        reopened(made)
    assert not made.is_named()
    other = tmp_path / "changes.0123456789abcdef"
    other.write_bytes(path.read_bytes())
    with pytest.raises(Unusable):
        ChangeFile.open(made.directory, other.name, write=False)
    other.write_bytes(b"")
    with pytest.raises(Unusable):
        ChangeFile.open(made.directory, other.name, write=False)
    for make in (other.mkdir, lambda: other.symlink_to(path), lambda: os.mkfifo(other)):
        shutil.rmtree(other) if other.is_dir() and not other.is_symlink() else other.unlink()
        make()
        with nobody_waits_at(other), pytest.raises(OSError):
            ChangeFile.open(made.directory, other.name, write=False)
        assert change_files(made.directory) == [made.filename]
        assert changes.impostors(made.directory) == [other.name]


def test_a_line_being_written_is_waited_for(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that sees the beginning of an append sees all of it a moment later."""
    monkeypatch.setattr(changes, "_UNFINISHED_S", (0.02,) * 500)
    whole = Path(made.path).read_bytes()
    made.append(NAMES[0])
    line = Path(made.path).read_bytes()[len(whole) :]
    os.truncate(made.path, len(whole))
    with open(made.path, "ab", buffering=0) as file:
        file.write(line[:20])

        def finish() -> None:
            time.sleep(0.1)
            file.write(line[20:])

        thread = threading.Thread(target=finish)
        thread.start()
        assert made.read(len(whole)).names == {NAMES[0]}
        thread.join()


def test_a_short_append_is_an_error(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of which only a part was written is none."""
    monkeypatch.setattr(changes.os, "write", lambda fd, data: len(data) - 1)
    with pytest.raises(OSError, match="No space"):
        made.append(NAMES[0])


def test_where_an_append_ends_is_not_moved_by_who_reads(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread reads in between, and somebody appends behind: the mark ends where it ends."""
    expected = made.size() + len(b"01234567 +\n")
    real = os.write

    def then_read(fd: int, data: bytes) -> int:
        done = real(fd, data)
        if data.endswith(b" +\n"):
            reopened_writer.append(NAMES[0])
            made.read_all()
        return done

    reopened_writer = ChangeFile.open(made.directory, made.filename, write=True)
    monkeypatch.setattr(changes.os, "write", then_read)
    assert made.append(MARK) == expected
    assert made.read(expected).names == {NAMES[0]}


def test_the_index_lock_is_one(made: ChangeFile) -> None:
    """Between objects, between threads that share one, and within a thread: tried, never waited for."""
    other = reopened(made)
    assert made.lock()
    assert changes.holds_index_lock(made.directory)
    assert not made.lock()
    assert not other.lock()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.extend([made.lock(), changes.holds_index_lock(made.directory)]))
    thread.start()
    thread.join()
    assert answers == [False, False]
    made.unlock()
    assert not changes.holds_index_lock(made.directory)
    assert other.lock()
    other.unlock()


def test_the_index_lock_is_that_of_one_directory(made: ChangeFile) -> None:
    assert made.lock()
    assert not changes.holds_index_lock(f"{made.directory}/another")
    made.unlock()


def test_a_lock_that_was_interrupted_is_given_back(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have granted it in that moment: the descriptor is closed, and nobody has it."""

    def interrupt(_fd: int) -> bool:
        raise KeyboardInterrupt

    fd, other = made.fd, reopened(made)
    monkeypatch.setattr(changes, "try_lock", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.lock()
    monkeypatch.undo()
    assert not changes.holds_index_lock(made.directory)
    assert made.fd < 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert made._guard.acquire(blocking=False), "another thread would find it taken for ever"
    assert other.lock()
    other.unlock()


def test_a_lock_that_cannot_be_given_back_goes_with_the_descriptor(
    made: ChangeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert made.lock()
    monkeypatch.setattr(changes, "unlock", fail)
    made.unlock()
    monkeypatch.undo()
    other = reopened(made)
    assert other.lock()
    other.unlock()


def test_a_forked_child_closes_it(made: ChangeFile) -> None:
    """Its copy of the descriptor would keep the parent's lock."""

    def child() -> None:
        fd = made.fd
        changes.after_fork()
        assert made.fd < 0
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    assert wait_for(in_child(child)) == 0


def test_at_the_end_of_the_interpreter_nothing_is_printed(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """By then this module's names may be None. A warning of an exception in __del__ would fail this test."""
    file = reopened(made)
    fd = file.fd
    with monkeypatch.context() as patch:
        patch.setattr(changes, "descriptors", None)
        del file
        gc.collect()
    os.close(fd)


def test_the_owner_is_set_once_when_it_is_made(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever only opens a file of somebody else's may not change its group."""
    adopted: list[str] = []
    monkeypatch.setattr(changes.disk, "inherit_access", lambda _fd, path: adopted.append(path))
    reopened(made)
    ChangeFile.open(made.directory, made.filename, write=True)
    assert adopted == []
    made.close()
    other = ChangeFile.create(made.directory)
    assert adopted == [f"{made.directory}/{changes.TEMP_PREFIX}{other.filename}"]
    other.unlock()


def test_a_new_one_names_the_one_before(made: ChangeFile) -> None:
    """A watcher goes on from there; the one before is known under its other name."""
    assert made.read_all().names == set(NAMES)
    new = ChangeFile.create(made.directory, made.filename)
    assert not reopened(new).lock(), "a lister would be inside before the catalog is there"
    new.unlock()
    assert new.lines(new.start)[0] == [f"< {made.filename}".encode()]
    assert new.read_all()[:2] == (set(), None)
    os.rename(made.path, f"{made.directory}/{changes.BEFORE}")
    before = ChangeFile.open(made.directory, changes.BEFORE, write=False)
    assert (before.name, before.start) == (made.filename, made.start)
    assert before.read(before.start) == made.read(made.start)


def test_a_creation_that_fails_leaves_nothing(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = os.listdir(made.directory)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        ChangeFile.create(made.directory)
    assert os.listdir(made.directory) == before


def test_a_mark_is_found_where_it_ends(made: ChangeFile) -> None:
    """Between any two places, of which the first is behind the first line."""
    made.append(MARK)
    made.append(NAMES[0])
    whole = Path(made.path).read_bytes()
    ends = [place + 3 for place in range(len(whole)) if whole[place : place + 3] == b" +\n"]
    assert len(ends) == 2
    for start in range(made.start, len(whole) + 1):
        for stop in range(start, len(whole) + 1):
            assert made.has_mark(start, stop) == any(start < end <= stop for end in ends), (start, stop)


def test_short_reads_are_gone_on_with(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = made.read_all()
    real = os.pread
    monkeypatch.setattr(changes.os, "pread", lambda fd, size, offset: real(fd, min(size, 7), offset))
    assert made.read_all() == expected


@pytest.mark.parametrize(
    ("key", "text"),
    [("", f"{NAMES[0]} ?"), (NAMES[0], f"{NAMES[0]} ?"), ("a", f'{NAMES[0]} ? "a"'), ('"\n', f'{NAMES[0]} ? "\\"\\n"')],
)
def test_a_change_holds_the_key_where_it_is_known(key: str, text: str) -> None:
    """A shard that was found by its name alone has that in the place of its key."""
    assert changes.change(NAMES[0], "?", key) == text
