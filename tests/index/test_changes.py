"""The change file: what is written is read, what is damaged is noticed, and a writer marks as often as it must."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from shardstore._files.index import changes
from shardstore._files.index.changes import MARK, ChangeFile, Unusable, change_files
from shardstore._files.layout import shard_name
from tests.index.actors import nobody_waits_at

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
    return ChangeFile.open(file.directory, file.file, write=False)


def test_what_is_written_is_read(made: ChangeFile) -> None:
    """From the beginning and from a mark on; the last seal counts."""
    assert made.read_all()[:2] == (set(NAMES), "150 1 2 3 4")
    mark = made.append(MARK)
    assert made.read(mark) == (set(), None, mark)
    made.append(NAMES[0])
    made.append("= 7 7 7 7 7")
    assert made.read(mark)[:2] == ({NAMES[0]}, "7 7 7 7 7")
    assert reopened(made).read(mark) == made.read(mark)
    assert change_files(made.directory) == [made.file]


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
        assert change_files(made.directory) == [made.file]
        assert changes.impostors(made.directory) == [other.name]


def test_a_line_being_written_is_waited_for(made: ChangeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that sees the beginning of an append sees all of it a moment later."""
    monkeypatch.setattr(changes, "_UNFINISHED_S", (0.0, 0.05, 0.5))
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

    reopened_writer = ChangeFile.open(made.directory, made.file, write=True)
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


# The writer's side
