"""The changes of a batch that are not synced yet: first records and names, put on the medium together.

Nothing durable may stand before them that is not on the medium, so only two kinds of change may wait here: the first
record of a file, which has nothing before it, and names. docs/internals/decisions/0033 has the reasons.

The locks of the sessions are not held meanwhile, and a file may be closed by its pool. So each file has a descriptor of
its own here, opened before the lock is given back, or syncfs reports for all of them.
"""

from __future__ import annotations

import os
import resource
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from shardstore._files import disk, syncfs
from shardstore._files.locks.identity import identity_of
from shardstore.errors import raise_io_error, raise_uncertain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shardstore._files.file import JournalFile

FEW: Final = 16  # files and directories; for fewer, syncfs would sync what others wrote for too little
MANY: Final = 1024  # changes in a group, where syncfs needs no descriptor for each
DESCRIPTORS_MAX: Final = 256  # ... and where it is not to be had
GROUP_BYTES: Final = 16 << 20
GROUP_S: Final = 1.0  # seconds that the first change of a group waits, while others come
THREADS: Final = 8  # that sync at once

_all: Final[weakref.WeakSet[Syncs]] = weakref.WeakSet()


class Syncs:
    """The pending syncs of one batch. Used by one thread."""

    def __init__(self, root: str, *, durable: bool) -> None:
        self._root = root
        self.durable = durable  # else nothing waits here, and nothing is synced
        self._root_fd = -1  # opened before the first write: syncfs reports what failed since then
        self._device = b""
        self._by_descriptor = _descriptors()
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        self._fds: list[int] = []
        self._loose = 0  # files without a descriptor here
        self._targets: dict[str, None] = {}  # directories that something was moved to, synced before ...
        self._names: dict[str, None] = {}  # ... those that it was moved from, and all others
        self._changes = self._bytes = 0
        self._began = 0.0

    def begin(self) -> None:
        """Get ready before the first write. Raises StoreIOError."""
        if not self.durable:
            return
        try:
            fd = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except OSError as error:
            raise_io_error(error, "beginning a batch", self._root)
        if syncfs.is_trusted(fd):
            self._root_fd, self._device = fd, identity_of(os.fstat(fd))[3]
        else:
            _close(fd)

    # What was written. REQUIRES: the caller holds the session's lock.

    def add_file(self, file: JournalFile, end: int) -> None:
        """Have a file and its name synced with the group; all that matters of it is before `end`.

        Raises CommitUncertain where it had to be synced at once and was not.
        """
        if not self.durable:
            return
        everywhere = self._root_fd >= 0 and file.device == self._device
        if len(self._fds) < (FEW if everywhere else self._by_descriptor):
            try:
                self._fds.append(os.open(file.path, disk.READ))
            except OSError:
                self._without_descriptor(file, end, everywhere=everywhere)
        else:
            self._without_descriptor(file, end, everywhere=everywhere)
        self._bytes += end
        self.add_names(os.path.dirname(file.path))

    def _without_descriptor(self, file: JournalFile, end: int, *, everywhere: bool) -> None:
        if everywhere:
            self._loose += 1
        else:
            file.sync(end)

    def add_names(self, directory: str, moved_to: str | None = None) -> None:
        """Have the names in a directory synced with the group, after those in the directory something was moved to."""
        if not self.durable:
            return
        if moved_to is not None:
            self._targets[moved_to] = None
        self._names[directory] = None
        self._changes += 1
        self._began = self._began or time.monotonic()

    # The group

    @property
    def due(self) -> bool:
        """Whether the group is large or old enough to be synced."""
        limit = MANY if self._root_fd >= 0 else self._by_descriptor
        return self._changes >= limit or (
            self._changes > 0 and (self._bytes >= GROUP_BYTES or time.monotonic() - self._began >= GROUP_S)
        )

    def sync(self) -> None:
        """Put all of the group on the medium. Raises CommitUncertain: then none of it is known to be there."""
        try:
            if self._root_fd >= 0 and (self._loose or len(self._fds) + len(self._names) > FEW):
                syncfs.sync_all(self._root_fd)
                overlap([partial(disk.sync_directory, path) for path in self._elsewhere()])
            else:
                files = [partial(disk.sync, fd) for fd in self._fds]
                overlap([*files, *(partial(disk.sync_directory, path) for path in self._targets)])
                overlap([partial(disk.sync_directory, path) for path in self._names])
        except OSError as error:
            for fd in self._fds:
                _distrust(fd)
            raise_uncertain(error, "syncing a batch", self._root)
        finally:
            self._drop()

    def _elsewhere(self) -> list[str]:
        """Return the directories that are on another file system than the root."""
        device = os.fstat(self._root_fd).st_dev
        return [path for path in (*self._targets, *self._names) if os.stat(path).st_dev != device]

    def close(self) -> None:
        """Close what is open. An unsynced change is not acknowledged."""
        self._drop()
        fd, self._root_fd = self._root_fd, -1
        if fd >= 0:
            _close(fd)

    def __del__(self) -> None:
        """Close all files after an exception from outside between the start and the block."""
        if hasattr(self, "_fds"):  # not where `__init__` was interrupted
            self.close()

    def _drop(self) -> None:
        fds = self._fds
        self._forget()
        for fd in fds:
            _close(fd)

    def after_fork(self) -> None:
        """Close, in a forked child, the parent's descriptors: the parent syncs its own bytes."""
        self.close()


def _close(fd: int) -> None:
    """Close a descriptor that was opened for reading: an error says nothing of the bytes written."""
    with suppress(OSError):
        os.close(fd)


def overlap(actions: Iterable[Callable[[], None]]) -> None:
    """Call each action in one of a few threads, of which this is one. Raises the first error, when all have ended."""
    left, failures = deque(actions), list[BaseException]()

    def work() -> None:
        while True:
            try:
                action = left.popleft()
            except IndexError:
                return
            try:
                action()
            except BaseException as error:  # noqa: BLE001  # raised below: it is no thread's own
                failures.append(error)

    helpers: list[threading.Thread] = []
    try:
        for _ in range(min(THREADS, len(left)) - 1):
            helper = threading.Thread(target=work, daemon=True)
            try:
                helper.start()
            except RuntimeError:  # no thread can start here
                break
            helpers.append(helper)
        work()
    finally:
        left.clear()
        for helper in helpers:
            helper.join()
    if failures:
        raise failures[0]


def _distrust(fd: int) -> None:
    """Have the kernel drop its cache of a file whose sync failed, as far as it obeys."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else max(1, min(DESCRIPTORS_MAX, soft // 8))


def _after_fork() -> None:
    for syncs in list(_all):
        syncs.after_fork()


os.register_at_fork(after_in_child=_after_fork)
