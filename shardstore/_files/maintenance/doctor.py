"""Test the guarantees that a store needs on the user's own disk, in a directory that is removed afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from shardstore._files import disk
from shardstore._files.layout import Layout
from shardstore._files.locks.flock import try_lock
from shardstore._files.missing import missing, records
from shardstore.errors import ShardStoreError
from shardstore.reports import Check, DoctorReport

if TYPE_CHECKING:
    from collections.abc import Callable

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "9p", "ceph", "glusterfs", "lustre", "afs", "webdav"}
)
_FUSE = "fuse"
_PEER_SECONDS = 30
_NAMED = 5  # directories
# Another process tries the lock: 0 it got it, 1 it is taken. Needs nothing but the standard library, as a peer in
# another language would.
_PEER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(1)
"""


def examine(directory: Path) -> DoctorReport:
    """Try locks, appends, renames and syncs in a temporary directory below `directory`."""
    kind = file_system(directory)
    trials: list[tuple[str, Callable[[Path], str]]] = [
        ("the lock excludes another process", _lock_excludes),
        ("a dead process leaves no lock", _death_unlocks),
        ("a replaced file is noticed", _replacement_shows),
        ("writes land where they should", _writes_land),
        ("syncing works", _sync_works),
        ("a log moves with its session", _log_moves),
    ]
    checks = [_check_file_system(kind), *_check_store(Layout(directory))]
    try:
        work = Path(tempfile.mkdtemp(prefix=".shardstore-doctor-", dir=directory))
    except OSError as error:
        checks.append(Check("a directory can be made", "fail", f"{error.strerror or error}: nothing else was tried"))
        return DoctorReport(str(directory), kind, tuple(checks))
    try:
        checks += [_try(name, trial, work) for name, trial in trials]
    finally:
        shutil.rmtree(work)
    return DoctorReport(str(directory), kind, tuple(checks))


def _check_store(layout: Layout) -> list[Check]:
    """Return whether the store in this directory, if there is one, has all of its directories, and had them always."""
    if not disk.is_regular(layout.marker):
        return []
    name = "the store is whole"
    gone = sorted({*missing(layout), *(prefix for prefix, _ in records(layout))})
    if not gone:
        return [Check(name, "pass", "every directory is there")]
    named = ", ".join(gone[:_NAMED]) + (" and more" if len(gone) > _NAMED else "")
    what = "1 directory of sessions is" if len(gone) == 1 else f"{len(gone)} directories of sessions are"
    return [Check(name, "warn", f"{what} gone, or had to be made again: {named}; `shardstore verify` says more")]


def _try(name: str, trial: Callable[[Path], str], work: Path) -> Check:
    try:
        return Check(name, "pass", trial(work))
    except (ShardStoreError, OSError, AssertionError, subprocess.SubprocessError) as error:
        return Check(name, "fail", str(error) or type(error).__name__)


def _check_file_system(kind: str) -> Check:
    name = "the file system is local"
    if kind in _NETWORK:
        return Check(name, "warn", f"{kind} is a network file system: every machine must pass these checks at once")
    if kind.startswith(_FUSE):
        return Check(name, "warn", f"{kind}: its promises depend on the program behind it")
    if kind == "unknown":
        return Check(name, "warn", "the system does not tell which file system this is")
    return Check(name, "pass", kind)


def _peer_gets_lock(path: Path) -> bool:
    command = [sys.executable, "-c", _PEER, str(path)]
    done = subprocess.run(command, timeout=_PEER_SECONDS, check=False, capture_output=True)
    if done.returncode > 1:
        raise OSError(f"the other process failed: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.returncode == 0


def _new(work: Path, name: str) -> int:
    return os.open(work / name, disk.CREATE_NEW, 0o600)


def _lock_excludes(work: Path) -> str:
    fd = _new(work, "lock")
    try:
        assert try_lock(fd), "a lock that nobody holds was refused"
        assert not _peer_gets_lock(work / "lock"), "another process got a lock that is held: updates would be lost"
    finally:
        os.close(fd)
    assert _peer_gets_lock(work / "lock"), "a lock that was given up stays taken"
    return "two processes"


def _death_unlocks(work: Path) -> str:
    held = "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX); os._exit(9)"
    fd = _new(work, "dead")
    try:
        subprocess.run([sys.executable, "-c", held, str(work / "dead")], timeout=_PEER_SECONDS, check=False)
        assert try_lock(fd), "the lock of a process that died is still taken"
    finally:
        os.close(fd)
    return "its lock was free at once"


def _replacement_shows(work: Path) -> str:
    first, second = _new(work, "old"), _new(work, "new")
    try:
        os.rename(work / "new", work / "old")
        named, mine, theirs = os.stat(work / "old"), os.fstat(first), os.fstat(second)
        assert (named.st_dev, named.st_ino) == (theirs.st_dev, theirs.st_ino), "a renamed file changed its identity"
        assert (named.st_dev, named.st_ino) != (mine.st_dev, mine.st_ino), "two files have one identity"
    finally:
        os.close(first)
        os.close(second)
    return "rename over an open file"


def _writes_land(work: Path) -> str:
    fd = _new(work, "write")
    try:
        disk.write_all(fd, b"one\n\n\n\n\n", 0)
        disk.write_all(fd, b"two", 4)
        with open(work / "write", "rb") as other:
            assert other.read() == b"one\ntwo\n", "another descriptor does not read the bytes that one wrote"
        os.ftruncate(fd, 4)
        assert os.fstat(fd).st_size == 4, "truncating does nothing"  # noqa: PLR2004
    finally:
        os.close(fd)
    return "write, overwrite, truncate, read through another descriptor"


def _sync_works(work: Path) -> str:
    fd = _new(work, "sync")
    try:
        disk.write_all(fd, b"x", 0)
        disk.sync(fd)
    finally:
        os.close(fd)
    disk.sync_directory(work)
    return "file and directory; whether the drive obeys cannot be told from here"


def _log_moves(work: Path) -> str:
    """Link a file to a second name, as archive and rename do with the file of a log; without links it is copied."""
    first, second = work / "log", work / "log-moved"
    first.write_bytes(b"item\n")
    linked = disk.link(str(first), str(second))
    return "by a second name" if linked else "as a copy: this file system knows no hard links"


def file_system(directory: Path) -> str:
    """Name the file system of a directory, as the system's mount table does; "unknown" where it has none."""
    if sys.platform == "darwin":
        listed = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False).stdout
        mounts = [(words[2], words[3].strip("(,")) for text in listed.splitlines() if len(words := text.split()) > 3]  # noqa: PLR2004
    else:
        try:
            table = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return "unknown"
        mounts = [(words[1].replace("\\040", " "), words[2]) for text in table.splitlines() if (words := text.split())]
    where = os.path.realpath(directory)
    holding = [(point, kind) for point, kind in mounts if os.path.commonpath([where, point]) == point]
    return max(holding, key=lambda mount: len(mount[0]), default=("", "unknown"))[1]
