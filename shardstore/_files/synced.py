"""How far an open file is on the medium, and the sync that the commits of several threads share.

A commit that others of this process come behind gives the lock back first and waits here. The last of them syncs for
all. Nobody waits longer than WAIT_S: a slow mutator that comes behind a commit must not delay its acknowledgement.

The kernel reports a failed sync to one caller, once. So the syncs of a file come one after the other, and after a
failed one nothing more is acknowledged through that descriptor. docs/internals/decisions/0040 has the reasons.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from contextlib import suppress
from typing import Final, NoReturn

from shardstore._files import disk
from shardstore.errors import raise_uncertain

SHARED_MAX: Final = 64  # records that one sync acknowledges
WAIT_S: Final = 0.005  # seconds that a record waits for the sync of others who come behind it


class SyncedFile:
    """An open file whose bytes are put on the medium. Shared by the threads of this process.

    `failed` is set once and for all: what the kernel lost of the file is known to nobody.
    """

    __slots__ = ("_syncing", "failed", "fd", "name_synced", "path", "reach", "synced", "waiting")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.name_synced = False  # the file's name is known to be on the medium
        self.synced = 0  # every byte before this one is known to be
        self.reach = 0  # so is every byte before this one, or it is of a durable commit that waits for its sync
        self.failed = False
        self.waiting: list[Waiting] = []
        self._syncing = threading.RLock()  # re-entrant: a signal handler may come in the middle of a sync, and commit

    def sync(self, end: int, fd: int | None = None) -> None:
        """Put all bytes before `end` on the medium, unless a sync that began after they were written has done it.

        Raises CommitUncertain: then close the file and read it again.
        """
        try:
            with self._syncing:
                if self.synced < end:
                    self._sync(max(end, self.reach), self.fd if fd is None else fd)
        finally:
            if self.waiting:
                self._wake()

    def _sync(self, reach: int, fd: int) -> None:
        """Sync the bytes written up to `reach` by now. Later bytes may miss this sync."""
        try:
            if self.failed:
                raise OSError(errno.EIO, "an earlier sync of this file failed")
            disk.sync(fd)
        except OSError as error:
            self.failed = True
            self._uncertain(error, "syncing a commit", fd)
        self.synced = reach

    def sync_before(self, end: int) -> None:
        """Put the file's name and all bytes before `end` on the medium, so that a durable record may follow them.

        The writer of the name or of the bytes may have died before its sync. So only a sync by this descriptor proves
        anything. Raises CommitUncertain.
        """
        if not self.name_synced:
            self.sync_name()
        if self.synced < end:
            self.sync(end)

    def sync_name(self) -> None:
        """Put the file's name on the medium. Raises CommitUncertain."""
        try:
            disk.sync_directory(os.path.dirname(self.path))
        except OSError as error:
            self._uncertain(error, "syncing a directory", self.fd)
        self.name_synced = True

    def _uncertain(self, error: OSError, doing: str, fd: int) -> NoReturn:
        """Have the kernel drop its cache of the file, as far as it obeys, and raise CommitUncertain."""
        if hasattr(os, "posix_fadvise") and fd >= 0:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        raise_uncertain(error, doing, self.path)

    # Sharing

    def share(self, end: int, *, behind: bool) -> Waiting | None:
        """Return a place to wait for a sync that others will do; None where the caller is to do it.

        `behind`: whether others of this process wait for the lock. REQUIRES: the caller holds it.
        """
        self.reach = end
        if not behind or len(self.waiting) + 1 >= SHARED_MAX:
            return None
        try:
            place = Waiting(self, end)
        except OSError:  # no descriptor left
            return None
        self.waiting.append(place)
        return place

    def _wake(self) -> None:
        """Wake those whose records a sync has covered; after a failed one all of them."""
        for place in list(self.waiting):
            if self.failed or place.end <= self.synced:
                place.wake()

    def wake_one(self) -> None:
        """Have one of those who wait do the sync: nobody comes any more who would."""
        for place in list(self.waiting):
            if place.wake():
                return


class Waiting:
    """A commit that is written, and waits for its sync without the lock. It keeps the file open."""

    __slots__ = ("__weakref__", "_fd", "_file", "_woken", "end")

    def __init__(self, file: SyncedFile, end: int) -> None:
        self.end = end
        self._file = file
        # Its own: a rewrite or an eviction may close the file's meanwhile. The rewritten file holds the record, synced.
        self._fd = os.dup(file.fd)
        _with_descriptor.add(self)
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self) -> None:
        """Wait until the record is on the medium; when that takes too long, sync it. Raises CommitUncertain."""
        try:
            try:
                self._woken.acquire(timeout=WAIT_S)
            finally:
                self._leave()
            self._file.sync(self.end, self._fd)
        finally:
            self.close()

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:  # an exception from outside came before the wait
            self.close()

    def wake(self) -> bool:
        """End the wait; return whether it had not ended."""
        left = self._leave()
        if left:
            self._woken.release()
        return left

    def _leave(self) -> bool:
        """Leave the waiting ones; return whether this one was among them. Of two that ask at once, one gets True."""
        with suppress(ValueError):
            self._file.waiting.remove(self)
            return True
        return False


_with_descriptor: Final[weakref.WeakSet[Waiting]] = weakref.WeakSet()


def _after_fork() -> None:
    """Close, in a forked child, what the parent's threads wait with: it would keep the parent's locks alive."""
    for place in list(_with_descriptor):
        place.close()


os.register_at_fork(after_in_child=_after_fork)
