"""Bytes and names on the disk: short reads and writes, links, and a whole file put in place at once."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import stat
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from shardstore._files import disk
from shardstore.errors import StoreIOError

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="other systems sync by other calls")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the calls that the system gets, in order; each of them runs."""
    seen: list[str] = []
    for name in ("fdatasync", "fsync", "rename", "link", "unlink", "pwrite", "close"):
        real: Callable[..., Any] = getattr(os, name)

        def call(*args: Any, name: str = name, real: Callable[..., Any] = real) -> Any:
            seen.append(name)
            return real(*args)

        monkeypatch.setattr(os, name, call)
    return seen


@pytest.mark.parametrize("flags", ["READ", "WRITE", "CREATE", "CREATE_NEW"])
def test_every_way_to_open_refuses_links_and_does_not_hang(flags: str) -> None:
    """No link is followed, no child inherits the descriptor, and a planted FIFO is not waited for."""
    value = getattr(disk, flags)
    for needed in (os.O_CLOEXEC, os.O_NOFOLLOW, os.O_NONBLOCK):
        assert value & needed
    assert value & os.O_ACCMODE == (os.O_RDONLY if flags == "READ" else os.O_RDWR)
    assert bool(value & os.O_CREAT) is flags.startswith("CREATE")
    assert bool(value & os.O_EXCL) is (flags == "CREATE_NEW")


def test_short_reads_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that gives less than it was asked for is followed by another, up to the end of the file."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    asked: list[int] = []

    def pread(fd: int, size: int, offset: int, real: Callable[..., bytes] = os.pread) -> bytes:
        asked.append(size)
        return real(fd, min(size, 7), offset)

    fd = os.open(path, disk.READ)
    try:
        whole = disk.read_all(fd, 10, 500)
        monkeypatch.setattr(os, "pread", pread)
        assert disk.read_all(fd, 10, 500) == whole == bytes(range(10, 100))
        assert disk.read_all(fd, 10, 20) == bytes(range(10, 30))
        asked.clear()
        assert disk.read_all(fd, 10, 7) == bytes(range(10, 17))
        assert asked == [7]  # what was asked for came at once
        asked.clear()
        assert disk.read_all(fd, 100, 5) == b""
        assert asked == [5]  # nothing came: the file ends here
        asked.clear()
        assert disk.read_all(fd, 0, 14) == bytes(range(14))
        assert asked == [14, 7]
    finally:
        os.close(fd)


def test_no_single_read_is_larger_than_the_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux reads at most 2 GiB at once, macOS refuses more: each call asks for at most one."""
    asked: list[int] = []
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: asked.append(size) or (b"x" if len(asked) < 3 else b""))
    assert disk.read_all(0, 0, 5 << 30) == b"xx"
    assert set(asked) == {1 << 30}


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that took less than it was given is followed by another; one that took all by none."""
    fd = os.open(tmp_path / "file", disk.CREATE_NEW, 0o600)
    given: list[int] = []

    def pwrite(fd: int, data: bytes, offset: int, real: Callable[..., int] = os.pwrite) -> int:
        given.append(len(data))
        return real(fd, data[:7], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    try:
        disk.write_all(fd, bytes(range(20)), 5)
        assert given == [20, 13, 6]
        assert os.pread(fd, 100, 0) == b"\0" * 5 + bytes(range(20))
    finally:
        os.close(fd)


def test_a_directory_is_made_once_and_private(tmp_path: Path) -> None:
    """A second call finds it; a link to a directory, or a file, is none."""
    place = tmp_path / "made"
    disk.make_directory(place)
    disk.make_directory(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(place)
    file.touch()
    for wrong in (link, file):
        with pytest.raises(NotADirectoryError) as caught:
            disk.make_directory(wrong)
        assert caught.value.filename == str(wrong)


@pytest.mark.parametrize("reason", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK])
def test_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    """False where the file system knows none, unless the name is taken, even by a link to nothing."""
    (tmp_path / "file").write_text("x")

    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", refuse)
    assert disk.link(str(tmp_path / "file"), str(tmp_path / "name")) is False
    (tmp_path / "name").symlink_to("nowhere")
    with pytest.raises(FileExistsError) as caught:
        disk.link(str(tmp_path / "file"), str(tmp_path / "name"))
    assert caught.value.errno == errno.EEXIST
    assert caught.value.filename == str(tmp_path / "name")


def test_a_link_is_a_second_name(tmp_path: Path) -> None:
    """True when the file has it; a name that is taken is FileExistsError; any other error passes through."""
    file, name = tmp_path / "file", tmp_path / "name"
    file.write_text("x")
    assert disk.link(str(file), str(name)) is True
    assert name.samefile(file)
    with pytest.raises(FileExistsError):
        disk.link(str(file), str(name))
    with pytest.raises(FileNotFoundError):
        disk.link(str(tmp_path / "none"), str(tmp_path / "other"))


@linux_only
def test_a_file_is_published_whole_and_synced(tmp_path: Path, calls: list[str]) -> None:
    """Written, synced, renamed, and the name synced too; private, and nothing is left beside it."""
    path = tmp_path / "published"
    assert disk.publish(path, b"one") is True
    assert calls == ["pwrite", "fdatasync", "close", "rename", "fsync", "close"]
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert disk.publish(path, b"two") is True
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["published"]


@linux_only
def test_a_file_that_is_there_stays_if_it_is_not_to_be_replaced(tmp_path: Path, calls: list[str]) -> None:
    """The first to publish wins, by a link; the second is told, and leaves nothing beside it."""
    path = tmp_path / "published"
    assert disk.publish(path, b"one", replace=False) is True
    assert calls == ["pwrite", "fdatasync", "close", "link", "unlink", "fsync", "close"]
    calls.clear()
    assert disk.publish(path, b"two", replace=False) is False
    assert calls == ["pwrite", "fdatasync", "close", "link", "unlink"]
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["published"]


def test_a_file_published_without_links_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no links the file gets its name by a rename, if nobody has it."""
    monkeypatch.setattr(disk, "link", lambda path, name: False)
    path = tmp_path / "published"
    assert disk.publish(path, b"one", replace=False) is True
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["published"]


def test_a_publication_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the error passes through, what was there stays, and no temp and no descriptor is left."""
    path = tmp_path / "published"
    disk.publish(path, b"one")
    fds: list[int] = []

    def fail(fd: int, *_: object) -> int:
        fds.append(fd)
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(OSError, match="no space"):
        disk.publish(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["published"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[0])


def test_a_file_is_published_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a directory is one in this one."""
    monkeypatch.chdir(tmp_path)
    assert disk.publish("bare", b"x") is True
    assert (tmp_path / "bare").read_bytes() == b"x"


@linux_only
def test_syncing_reaches_the_system(tmp_path: Path, calls: list[str]) -> None:
    """A file is synced by fdatasync, a directory by fsync on a descriptor that is closed again."""
    with open(tmp_path / "file", "wb") as file:
        disk.sync(file.fileno())
    disk.sync_directory(tmp_path)
    assert calls[:1] == ["fdatasync"]
    assert calls[-2:] == ["fsync", "close"]
    with pytest.raises(NotADirectoryError):
        disk.sync_directory(tmp_path / "file")


def test_a_sync_is_measured_where_somebody_asked_for_it(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it took, beside the sync itself; whoever stops asking meanwhile is not told."""
    measured: list[tuple[str, float]] = []
    monkeypatch.setattr(disk.events, "measured", lambda name, seconds: measured.append((name, seconds)))
    with open(tmp_path / "file", "wb") as file:
        disk.sync(file.fileno())
        assert [name for name, _ in measured] == ["sync"]
        assert 0.0 <= measured[0][1] < 60.0
        monkeypatch.setattr(disk, "_sync", lambda _fd: monkeypatch.setattr(disk.events, "measured", None))
        disk.sync(file.fileno())
    if sys.platform == "linux":
        assert calls.count("fdatasync") == 1


def test_a_directory_is_opened_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has its name by then; no child inherits the descriptor, and it is closed again."""
    opened: list[tuple[int, int]] = []
    real = os.open

    def note(path: Any, flags: int, *args: Any) -> int:
        fd = real(path, flags, *args)
        opened.append((fd, flags))
        return fd

    monkeypatch.setattr(os, "open", note)
    disk.make_directory(tmp_path / "made")
    disk.sync_directory(tmp_path / "made")
    assert len(opened) == 2
    for fd, flags in opened:
        assert flags & os.O_DIRECTORY
        assert flags & os.O_CLOEXEC
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_in_a_directory_of_a_group_the_group_may_open_what_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, directories below it, and files that were created in another way; a working directory has no say."""
    shared, private = tmp_path / "shared", tmp_path / "private"
    shared.mkdir()
    private.mkdir()
    shared.chmod(0o770)
    private.chmod(0o700)
    monkeypatch.chdir(private)
    os.close(disk.create(shared / "file"))
    disk.make_directory(shared / "directory")
    fd = os.open(shared / "other", os.O_RDWR | os.O_CREAT, 0o600)
    disk.inherit_access(fd, shared / "other")
    os.close(fd)
    os.close(disk.create(private / "file"))
    os.close(disk.create("bare"))
    disk.make_directory("directory")
    fd = os.open("adopted", os.O_RDWR | os.O_CREAT, 0o600)
    disk.inherit_access(fd, "adopted")
    os.close(fd)
    for path, mode in (
        (shared / "file", 0o660), (shared / "directory", 0o2770), (shared / "other", 0o660), (private / "file", 0o600),
        (private / "bare", 0o600), (private / "directory", 0o700), (private / "adopted", 0o600),
    ):  # fmt: skip
        assert stat.S_IMODE(path.stat().st_mode) == mode, path


@pytest.mark.parametrize(
    ("above", "owner", "user", "given"),
    [
        (0o700, 5, 5, []),
        (0o1777, 0, 5, []),
        (0o700, 0, 0, []),
        (0o700, 5, 1, []),
        (0o770, 5, 6, [(-1, 77), 0o660]),
        (0o770, 0, 0, [(-1, 77), 0o660]),
        (0o700, 5, 0, [(5, 77), 0o600]),
        (0o700, 1, 0, [(1, 77), 0o600]),
        (0o1777, 5, 0, [(5, 77), 0o600]),
        (0o770, 5, 0, [(5, 77), 0o660]),
    ],
)
def test_who_owns_what_is_made(  # who makes it, and what is expected
    monkeypatch: pytest.MonkeyPatch, above: int, owner: int, user: int, given: list[Any]
) -> None:
    """Root gives it to the owner of the directory; a directory that all may write to, as /tmp, is no group's."""
    done: list[Any] = []
    asked: list[str] = []

    def status(path: str) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(st_mode=above, st_uid=owner, st_gid=77)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", status)
        patch.setattr(os, "geteuid", lambda: user)
        patch.setattr(os, "fchown", lambda _fd, uid, gid: done.append((uid, gid)))
        patch.setattr(os, "fchmod", lambda _fd, mode: done.append(mode))
        disk.inherit_access(9, "/place/file")
    assert asked == ["/place"]
    assert done == given


@pytest.mark.parametrize("found_by", ["nobody", "one who locked it", "one who wrote to it"])
def test_a_file_whose_owner_cannot_be_set_goes_unless_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    """Another process may have committed a session to it. The error passes through, and no descriptor stays."""
    path, fds, others = tmp_path / "file", list[int](), list[int]()

    def fail(fd: int, *_: object) -> None:
        fds.append(fd)
        if found_by == "one who locked it":
            others.append(os.open(path, os.O_RDWR))
            fcntl.flock(others[0], fcntl.LOCK_EX)
        elif found_by == "one who wrote to it":
            path.write_bytes(b"x")
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(disk, "_inherit", fail)
    with pytest.raises(PermissionError):
        disk.create(path)
    assert path.exists() is (found_by != "nobody")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[0])
    for fd in others:
        os.close(fd)


@pytest.mark.parametrize(
    ("old", "new", "done"),
    [
        ((0o100640, 5, 6), (0o100640, 5, 6), []),
        ((0o100640, 5, 6), (0o100600, 5, 6), [0o640]),
        ((0o100640, 5, 6), (0o100640, 0, 6), [(5, 6)]),
        ((0o100640, 5, 6), (0o100600, 5, 0), [(5, 6), 0o640]),
    ],
)
@pytest.mark.parametrize("acl", [None, b"list"])
def test_a_file_that_replaces_another_has_its_access(  # two files, and what is expected
    monkeypatch: pytest.MonkeyPatch,
    old: tuple[int, int, int],
    new: tuple[int, int, int],
    done: list[Any],
    acl: bytes | None,
) -> None:
    """Owner, group, mode and access control list, each where it differs or is there."""
    calls: list[Any] = []

    def getxattr(_fd: int, _name: str) -> bytes:
        if acl is None:
            raise OSError(errno.ENODATA, "no data available")
        return acl

    with monkeypatch.context() as patch:
        patch.setattr(
            os,
            "fstat",
            lambda fd: SimpleNamespace(**dict(zip(("st_mode", "st_uid", "st_gid"), (old, new)[fd], strict=True))),
        )
        patch.setattr(os, "fchown", lambda fd, uid, gid: calls.append((fd, (uid, gid))))
        patch.setattr(os, "fchmod", lambda fd, mode: calls.append((fd, mode)))
        patch.setattr(os, "getxattr", getxattr, raising=False)
        patch.setattr(os, "setxattr", lambda fd, _name, value: calls.append((fd, value)), raising=False)
        disk.copy_access(0, 1)
    assert calls == [(1, one) for one in [*done, *([acl] if acl else [])]]


def test_a_directory_is_not_inherited_while_it_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor is closed on exec."""
    flags: list[int] = []
    name = "fcntl" if sys.platform == "darwin" else "fsync"
    module = fcntl if sys.platform == "darwin" else os
    monkeypatch.setattr(module, name, lambda fd, *_: flags.append(int(os.get_inheritable(fd))))
    disk.sync_directory(tmp_path)
    assert flags == [0]


def _as_on_macos(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Return the module as macOS would have it."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    spec = importlib.util.spec_from_file_location("disk_on_macos", disk.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("number", [None, errno.ENOTSUP, errno.EINVAL, errno.ENOTTY, errno.EIO])
def test_macos_empties_the_drives_cache_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    """A file system that knows no F_FULLFSYNC gets fsync; a sync that failed is never tried again."""
    calls: list[str] = []

    def full_sync(_fd: int, command: int, *_: object) -> int:
        calls.append(f"fcntl {command}")
        if number is not None:
            raise OSError(number, os.strerror(number))
        return 0

    with monkeypatch.context() as patch, open(tmp_path / "file", "wb") as file:
        module = _as_on_macos(patch)
        patch.setattr(module.fcntl, "fcntl", full_sync)
        patch.setattr(module.os, "fsync", lambda _fd: calls.append("fsync"))
        patch.delattr(module.os, "fdatasync", raising=False)  # macOS has none
        if number == errno.EIO:
            with pytest.raises(OSError, match="Input/output"):
                module.sync(file.fileno())
        else:
            module.sync(file.fileno())
        assert calls == ["fcntl 51"] + ["fsync"] * (number not in (None, errno.EIO))


def test_no_file_of_the_store_gets_the_number_of_a_standard_stream(tmp_path: Path) -> None:
    """Also where those are free; the lock and the flags go along."""
    code = """
import os, sys
from shardstore._files import disk
os.close(0)
fd = disk.open_file(sys.argv[1], disk.CREATE)
print(fd > 2, os.get_inheritable(fd), os.path.exists("/dev/fd/0"))
os.close(fd)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


def test_whether_a_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to know is an error: os.path.exists would say that it is not there."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "to a directory").symlink_to(tmp_path)
    answers = {
        name: (disk.exists(tmp_path / name), disk.is_directory(tmp_path / name), disk.is_regular(tmp_path / name))
        for name in ("file", "link", "to a directory", ".", "none", "file/below")
    }
    assert answers == {
        "file": (True, False, True),
        "link": (True, False, False),
        "to a directory": (True, True, False),
        ".": (True, True, False),
        "none": (False, False, False),
        "file/below": (False, False, False),
    }
    monkeypatch.setattr(disk.os, "stat", mock.Mock(side_effect=OSError(errno.EIO, "broken")))
    for ask in (disk.exists, disk.is_directory, disk.is_regular):
        with pytest.raises(StoreIOError, match=r"looking whether a file is there: .*file"):
            ask(tmp_path / "file")
