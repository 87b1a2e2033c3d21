"""Putting bytes and names on the disk for good: the one place that knows the ways of each system.

Every function raises OSError as the system gave it; callers turn it into the typed error that fits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import time
from typing import TYPE_CHECKING, Final, TypeVar

from shardstore import _events as events
from shardstore._files.layout import DIRECTORY_MODE, FILE_MODE, GROUP_DIRECTORY_MODE, GROUP_FILE_MODE
from shardstore.errors import raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # O_NONBLOCK: opening a planted FIFO must not hang
WRITE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
CREATE = WRITE | os.O_CREAT
CREATE_NEW = CREATE | os.O_EXCL

NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})

_T = TypeVar("_T")
_STDERR = 2
_READ_CHUNK = 1 << 30
_ACL = "system.posix_acl_access"
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})

if sys.platform == "darwin":

    def _sync(fd: int) -> None:
        """Empty the drive's cache too; where the file system knows no such call (exFAT, SMB), fsync is all there is."""
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
            os.fsync(fd)

else:

    def _sync(fd: int) -> None:
        os.fdatasync(fd)


def sync(fd: int) -> None:
    """Put a file's bytes, and as much of its metadata as reading them takes, on the medium."""
    if events.measured is None:
        _sync(fd)
        return
    began = time.monotonic()
    _sync(fd)
    if events.measured is not None:
        events.measured("sync", time.monotonic() - began)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Put the names in a directory on the medium."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        if sys.platform == "darwin":
            sync(fd)
        else:
            os.fsync(fd)
    finally:
        os.close(fd)


def open_file(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file of the store, never under the number of stdin, stdout or stderr. Raises OSError.

    Those are free in a daemon that closed them. What it prints all the same would go into a journal.
    """
    fd = os.open(path, flags, FILE_MODE)
    if fd > _STDERR:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    finally:
        os.close(fd)


def with_descriptor(action: Callable[[], _T], free_descriptors: Callable[[], int]) -> _T:
    """Return the result of `action`; if no descriptor is left for it, close idle ones and call it again."""
    try:
        return action()
    except OSError as error:
        if error.errno not in NO_DESCRIPTOR or not free_descriptors():
            raise
    return action()


def read_all(fd: int, offset: int, size: int) -> bytes:
    """Read up to `size` bytes from `offset`; shorter only where the file ends."""
    parts = [os.pread(fd, min(size, _READ_CHUNK), offset)]
    while parts[-1] and (got := sum(map(len, parts))) < size:
        parts.append(os.pread(fd, min(size - got, _READ_CHUNK), offset + got))
    return b"".join(parts)


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`: a short write is real (full disk, file size limit) and is gone on with."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)


def create(path: str | os.PathLike[str]) -> int:
    """Create a file that only its owner may open, and return its descriptor. Raises FileExistsError.

    In a directory that a group may write to, the group may open it. In another user's directory, root gives it to that
    user: the store's owner must be able to use the files that root's maintenance leaves.
    """
    fd = open_file(path, CREATE_NEW)
    try:
        _inherit(fd, os.path.dirname(path) or ".", FILE_MODE, GROUP_FILE_MODE)
    except BaseException:
        try:
            _unlink_unused(fd, path)
        finally:
            os.close(fd)
        raise
    return fd


def _unlink_unused(fd: int, path: str | os.PathLike[str]) -> None:
    """Remove a new file, unless another process found it already: it may have committed a session to it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    if os.fstat(fd).st_size == 0:
        os.unlink(path)


def make_directory(path: str | os.PathLike[str]) -> bool:
    """Create a directory that only its owner may enter, as `create` makes a file; False where it is there already.

    Raises NotADirectoryError for a link.
    """
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        check_directory(path)
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        _inherit(fd, os.path.dirname(path) or ".", DIRECTORY_MODE, GROUP_DIRECTORY_MODE)
    finally:
        os.close(fd)
    return True


def add_directory(path: str | os.PathLike[str]) -> None:
    """Create a directory unless it is there. Sync a new one's name: a power cut must not take what is moved into it."""
    if make_directory(path):
        sync_directory(os.path.dirname(path))


def inherit_access(fd: int, path: str | os.PathLike[str]) -> None:
    """Set the owner, group and mode of a file that was created without `create`, as `create` sets them."""
    _inherit(fd, os.path.dirname(path) or ".", FILE_MODE, GROUP_FILE_MODE)


def _inherit(fd: int, parent: str, mode: int, group_mode: int) -> None:
    above, user = os.stat(parent), os.geteuid()
    shared = _is_shared(above)
    foreign = user == 0 and above.st_uid != 0
    if not shared and not foreign:
        return
    os.fchown(fd, above.st_uid if foreign else -1, above.st_gid)
    os.fchmod(fd, group_mode if shared else mode)


def is_shared(directory: str | os.PathLike[str]) -> bool:
    """Return whether what is made in a directory is its group's to open, as `create` decides it. Raises OSError."""
    return _is_shared(os.stat(directory))


def _is_shared(directory: os.stat_result) -> bool:
    return bool(directory.st_mode & stat.S_IWGRP) and not directory.st_mode & stat.S_ISVTX


def copy_access(source: int, target: int) -> None:
    """Copy to a file that replaces another one the same owner, group, mode and access control list.

    Raises PermissionError where that is not allowed.
    """
    old, new = os.fstat(source), os.fstat(target)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        os.fchown(target, old.st_uid, old.st_gid)
    if new.st_mode != old.st_mode:
        os.fchmod(target, stat.S_IMODE(old.st_mode))
    if hasattr(os, "getxattr"):
        try:
            acl = os.getxattr(source, _ACL)
        except OSError:
            return  # there is none, or this file system knows none
        os.setxattr(target, _ACL, acl)


def check_directory(path: str | os.PathLike[str]) -> None:
    """Raise NotADirectoryError unless this is a directory itself: a link would lead files out of the store."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a directory, or a link to one", os.fspath(path))


def exists(path: str | os.PathLike[str]) -> bool:
    """Return whether anything has this name. Raises StoreIOError: os.path.exists says "no" where nobody knows."""
    return _kind(path) is not None


def is_directory(path: str | os.PathLike[str]) -> bool:
    """Return whether this is a directory, or a link to one. Raises StoreIOError."""
    return _kind(path, follow=True) == stat.S_IFDIR


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Return whether this is a regular file, and no link to one. Raises StoreIOError."""
    return _kind(path) == stat.S_IFREG


def _kind(path: str | os.PathLike[str], *, follow: bool = False) -> int | None:
    """Return the type of a file, one of the constants of `stat`; None where there is none. Raises StoreIOError."""
    try:
        return stat.S_IFMT(os.stat(path, follow_symlinks=follow).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise_io_error(error, "looking whether a file is there", os.fspath(path))


def link(path: str, name: str) -> bool:
    """Link a file to a second name if nothing has it yet; False where the file system knows no links (FAT).

    Raises FileExistsError. A caller that renames instead may replace a file that somebody made in the same moment.
    """
    try:
        os.link(path, name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if exists(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        return False
    return True


def publish(path: str | os.PathLike[str], data: bytes, *, replace: bool = True) -> bool:
    """Put a whole file in place at once, on the medium and under its final name.

    With replace=False a file that is there stays, and False is returned.
    """
    target = os.fspath(path)
    temp = f"{target}.tmp-{os.urandom(8).hex()}"
    fd = create(temp)
    try:
        try:
            write_all(fd, data, 0)
            sync(fd)
        finally:
            os.close(fd)
        if replace or not link(temp, target):
            os.rename(temp, target)
            temp = ""
    except FileExistsError:
        return False
    finally:
        if temp:
            os.unlink(temp)
    sync_directory(os.path.dirname(target) or ".")
    return True
