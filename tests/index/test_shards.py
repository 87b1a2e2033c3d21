"""Reading shards for the index: what was added since is all that is read again, and nothing that changed is missed."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shardstore._files.direct import shards
from shardstore._files.direct.rows import Busy, NoSession, SessionRow, fingerprint_of
from shardstore.errors import StoreIOError, StoreNotFound
from tests.index.actors import Actor, name_of

Make = Callable[..., Actor]
NAME = name_of("s")


@pytest.fixture
def one(actor: Make) -> Actor:
    made = actor()
    made.write("s", n=0)
    return made


def test_a_shard_is_read_on_from_where_it_was_left(one: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time only what was added; nothing at all where nothing was."""
    reader = one.place.shards
    reader.read(NAME)
    starts: list[int] = []
    real = shards.disk.read_all

    def noted(fd: int, start: int, size: int) -> bytes:
        starts.append(start)
        return real(fd, start, size)

    monkeypatch.setattr(shards.disk, "read_all", noted)
    reader.read(NAME)
    assert starts == []
    one.write("s", n=1)
    found = reader.read(NAME)
    assert isinstance(found, SessionRow)
    assert found.row.fields == b'{"n":1}'
    assert starts and min(starts) > 0


def test_a_shard_that_somebody_is_inside_is_busy(one: Actor) -> None:
    """For who reads under the lock; without it the committed state is read."""
    reader = one.place.shards
    with one.writing("s", n=1):
        assert isinstance(reader.read_locked(NAME), Busy)
        found = reader.read(NAME)
        assert isinstance(found, SessionRow)
        assert found.row.rev == 1
    assert isinstance(reader.read_locked(NAME), SessionRow)


def test_reading_under_the_lock_gives_it_back(one: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a child that was forked meanwhile keeps the descriptor open."""
    kept: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(shards.os, "close", kept.append)
        one.place.shards.read_locked(NAME)
    fd = os.open(one.layout.shard_path(NAME), os.O_RDWR)
    try:
        assert kept
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for each in (fd, *kept):
            os.close(each)


def test_what_is_no_file_is_no_session(one: Actor) -> None:
    """No file, a link, a directory, and a file that this process may not open."""
    reader, path = one.place.shards, Path(one.layout.shard_path(NAME))
    kept = path.read_bytes()
    one.pool.close()
    path.unlink()
    assert reader.read(NAME) == NoSession(NAME, "absent", "no file")
    path.symlink_to(one.layout.marker)
    assert reader.read(NAME)[1] == "damaged"
    path.unlink()
    path.mkdir()
    assert reader.read(NAME)[1] == "damaged"
    path.rmdir()
    path.write_bytes(kept)
    assert isinstance(reader.read(NAME), SessionRow)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_the_fault_of_one_file_hides_no_other(one: Actor, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A file that cannot be opened is unreadable; where descriptors run out, idle ones are closed first."""
    real, freed = os.open, []

    def refuse(path: Any, *args: Any, **kwargs: Any) -> int:
        raise OSError(number, os.strerror(number), path)

    def short(path: Any, *args: Any, **kwargs: Any) -> int:
        if not freed:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *args, **kwargs)

    reader = shards.ShardReader(one.layout, one.place.shards.projection, lambda: freed.append(1) or 1)  # type: ignore[func-returns-value]
    monkeypatch.setattr(shards.os, "open", refuse)
    assert reader.read(NAME)[1] == "unreadable"
    monkeypatch.setattr(shards.os, "open", short)
    assert isinstance(reader.read(NAME), SessionRow)
    assert freed == [1]
    monkeypatch.undo()  # before a fixture removes the store


def test_what_is_kept_is_bounded(actor: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those read longest ago are dropped first, and the sum is right."""
    monkeypatch.setattr(shards, "_KEPT_BYTES_MAX", 5 * shards._KEPT_OVERHEAD)
    made = actor()
    reader = made.place.shards
    for n in range(20):
        made.write(f"k{n}", n=n)
        reader.read(name_of(f"k{n}"))
    assert list(reader._kept) == [name_of(f"k{n}") for n in range(16, 20)]
    assert reader._kept_bytes == sum(shards._weight(kept.journal) for kept in reader._kept.values())


def test_whoever_comes_while_another_one_keeps_keeps_nothing(actor: Make) -> None:
    """A thread, or a signal handler in the middle of it, which must not wait for what is beneath."""
    made = actor()
    reader = made.place.shards
    made.write("k1", n=1)
    with reader._keeping:
        assert isinstance(reader.read(name_of("k1")), SessionRow)
        assert not reader._kept
    reader.read(name_of("k1"))
    assert list(reader._kept) == [name_of("k1")]


def test_a_link_with_a_shards_name_has_a_fingerprint(one: Actor) -> None:
    """Without one each turn would take it for changed by hand."""
    path = Path(one.layout.shard_path(NAME))
    path.rename(path.with_name("aside"))
    path.symlink_to(path.with_name("aside"))
    found = one.place.shards.read(NAME)
    assert (type(found), getattr(found, "fingerprint", 0)) == (NoSession, one.place.shards.fingerprint(NAME))
    path.unlink()
    path.with_name("aside").rename(path)


def test_a_directory_is_listed_with_its_inodes(one: Actor) -> None:
    """Only shards; no directory is an empty one, no store is an error."""
    path = Path(one.layout.shard_path(NAME))
    (path.parent / "note.txt").write_text("a person's")
    assert one.place.shards.list_directory(NAME[:2]) == {NAME: path.stat().st_ino}
    (path.parent / "note.txt").unlink()
    empty = next(p for p in ("00", "01") if p != NAME[:2])
    Path(one.layout.shard_path(empty)).rmdir()
    assert one.place.shards.list_directory(empty) == {}
    marker = one.layout.marker.read_bytes()
    one.layout.marker.unlink()
    with pytest.raises(StoreNotFound):
        one.place.shards.list_directory(empty)
    one.layout.marker.write_bytes(marker)
    Path(one.layout.shard_path(empty)).mkdir(0o700)


@pytest.mark.parametrize(
    ("call", "doing", "ask"),
    [
        ("open", "reading a shard", lambda reader: reader.read(NAME)),
        ("scandir", "listing the shards", lambda reader: reader.list_directory(NAME[:2])),
        ("lstat", "looking at a shard", lambda reader: reader.fingerprint(NAME)),
    ],
)
def test_what_says_nothing_of_a_file_is_an_error(
    one: Actor, monkeypatch: pytest.MonkeyPatch, call: str, doing: str, ask: Callable[[shards.ShardReader], Any]
) -> None:
    """Out of memory is no reason to take a session for absent."""
    reader = one.place.shards
    with monkeypatch.context() as patch:
        patch.setattr(shards.os, call, mock.Mock(side_effect=OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))))
        with pytest.raises(StoreIOError, match=f"while {doing}") as caught:
            ask(reader)
    assert caught.value.errno == errno.ENOMEM
    assert str(caught.value.filename) in (one.layout.shard_path(NAME), one.layout.shard_path(NAME[:2]))


def test_a_file_that_is_not_there_has_no_fingerprint(one: Actor) -> None:
    assert one.place.shards.fingerprint(name_of("nobody")) is None
    assert one.place.shards.fingerprint(NAME) == fingerprint_of(os.lstat(one.layout.shard_path(NAME)))


def test_every_name_is_yielded_with_those_that_are_known(one: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing may miss a file; both of two may. It is in the portion of its directory."""
    missed = name_of("missed")
    found = list(one.place.shards.names({missed, NAME}))
    assert set().union(*found) == {missed, NAME}
    assert all(len({name[:2] for name in portion}) <= 1 for portion in found)
    listings = iter([{}, {NAME: 1}] * 256)
    monkeypatch.setattr(one.place.shards, "list_directory", lambda _: next(listings))
    assert all(NAME in portion for portion in one.place.shards.names(set()))


def test_the_committed_state_is_read_beside_a_writer(one: Actor) -> None:
    """And what was read is kept, unless it was read under the lock, or the caller does not want it."""
    reader = one.place.shards
    with one.writing("s", n=1):
        found, state = reader.state(NAME, keep=False)
        assert isinstance(found, SessionRow)
        assert (state.rev, list(reader._kept)) == (1, [])
    reader.read_locked(NAME)
    assert not reader._kept
    reader.state(NAME)
    assert list(reader._kept) == [NAME]
    assert reader._locked == set()


def test_an_empty_file_is_no_session_each_time(one: Actor) -> None:
    one.pool.close()
    Path(one.layout.shard_path(NAME)).write_bytes(b"")
    for _ in range(2):
        assert one.place.shards.read(NAME) == NoSession(NAME, "absent", "empty")
    assert not one.place.shards._kept


def test_records_are_read_on_again_and_again(one: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind each one that was read there is space, which is none of it."""
    reader = one.place.shards
    reader.read(NAME)
    monkeypatch.setattr(shards, "read_file", mock.Mock(side_effect=AssertionError("the whole file is read")))
    starts: list[int] = []
    real = shards.disk.read_all
    monkeypatch.setattr(
        shards.disk, "read_all", lambda fd, start, size: (starts.append(start), real(fd, start, size))[1]
    )
    for number in range(1, 5):
        one.write("s", n=number)
        for _ in range(2):
            found = reader.read(NAME)
            assert isinstance(found, SessionRow)
            assert found.row.rev == number + 1
    assert len(starts) == 4
    assert min(starts) > 0


def test_one_that_is_too_large_to_keep_leaves_the_others(actor: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fills the room to the byte is kept."""
    made = actor()
    reader = made.place.shards
    weights = {}
    for key in ("a", "b", "large"):
        made.write(key, text="x" * (5000 if key == "large" else 10))
        weights[key] = shards._weight(reader._read(name_of(key), locked=False, keep=False)[1])
    monkeypatch.setattr(shards, "_KEPT_BYTES_MAX", weights["a"] + weights["b"])
    assert weights["large"] > weights["a"] + weights["b"]
    for key in ("a", "b", "large"):
        reader.read(name_of(key))
    assert list(reader._kept) == [name_of("a"), name_of("b")]
    monkeypatch.setattr(shards, "_KEPT_BYTES_MAX", weights["large"])
    reader.read(name_of("large"))
    assert list(reader._kept) == [name_of("large")]
    assert reader._kept_bytes == weights["large"]


def test_a_forked_child_keeps_no_lock_of_its_parent(one: Actor) -> None:
    """The descriptors that may hold one are closed; what was kept may be half changed by a thread of the parent."""
    reader = one.place.shards
    reader.read(NAME)
    fd = os.open(one.layout.shard_path(NAME), os.O_RDONLY)
    reader._locked.add(fd)
    reader._keeping.acquire()
    reader.after_fork()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert (reader._locked, list(reader._kept), reader._kept_bytes) == (set(), [], 0)
    reader.read(NAME)
    assert list(reader._kept) == [NAME]
