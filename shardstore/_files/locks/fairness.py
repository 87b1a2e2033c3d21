"""The fair lock: time slices for processes that want one session without a pause, in the order of arrival.

A process that releases a lock and immediately takes it again wins: a waiter needs time to wake up. Handing the lock
over at each release would be fair. But a hand-over costs the wake-up of a sleeping process, and the reading of all that
the others committed meanwhile: more than many updates. So a process that updates without a pause keeps the lock for a
time slice of SLICE_S, and then lets those go first who stand in the queue.

The queue is a second lock: one byte of the store's marker file, a different one for each shard. The first waiter holds
it until it has the shard's lock; the others wait for it in the kernel. Whoever has used up a time slice sees by one
call whether anybody is there. Exclusion rests on none of this. Where the system has no such locks (F_OFD_SETLK: Linux)
there is no queue, and nobody lets anybody go first.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shardstore._files import disk
from shardstore._files.locks.flock import descriptors
from shardstore._files.locks.waiter import LockWaiter, NoThread

if TYPE_CHECKING:
    from shardstore._files.locks.flock import KernelLock

SLICE_S: Final = 0.01
_FIRST_SLICE_S: Final = 0.002  # the time slice of a process not known to be busy
_BUSY_S: Final = 0.001  # for each update, on average: a process that takes longer is not busy
_ENOUGH: Final = 3  # updates: the first of them is spent on what the others wrote
_REMEMBERED_S: Final = 1.0
_POLL_S: Final = 0.0001  # by the first in the queue, once the time slice ahead must be over
_IN_QUEUE_S: Final = 0.25  # a process in the queue may have been stopped: after this the others pass it

_CHECK_S: Final = 0.001  # between checks of a queue where nobody is known to wait
NEVER: Final = float("inf")

_HAVE_QUEUES: Final = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLKW")
_FLOCK: Final = struct.Struct("hhqqi0q")  # Linux's struct flock: type, whence, start, length, pid
_FIRST_BYTE: Final = 1 << 62  # far behind the end of any file
_HASH_DIGITS: Final = 15  # of the shard's name


class QueueFile:
    """The open file whose bytes are the queues of one store's shards."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """`path` is a file of the store that is never replaced. It is opened when a queue is first checked."""
        self._path = path
        self._fd = -1
        self._closed = False
        # time.monotonic: the first update after this, of any of the store's sessions, goes through `FairLock.wait`,
        # which checks the queue.
        self.check_at = 0.0

    def fd(self) -> int:
        """Return the descriptor; -1 where there can be none, which is tried again at the next call."""
        if self._fd < 0 and _HAVE_QUEUES:
            with descriptors, suppress(OSError):  # not ours to write, or no descriptor left
                if self._fd < 0 and not self._closed:
                    self._fd = disk.open_file(self._path, disk.WRITE)
        return self._fd

    @property
    def opened(self) -> int:
        """The descriptor if it is open, else -1."""
        return self._fd

    def close(self) -> None:
        """Close it for good.

        A lock waiter in a queue keeps the open file until its turn. What it then gives back may be a byte of
        another file with the same descriptor: behind the end of any file, where nothing but queues is.
        """
        self._closed = True
        self._drop()

    def after_fork(self) -> None:
        """Close it, in a forked child, which opens its own when it needs one."""
        self._drop()

    def _drop(self) -> None:
        with descriptors:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


class Queue:
    """The queue before one shard's lock. REQUIRES for every method: the caller is inside the shard's FIFO mutex.

    The kernel knows a place by the open file: two QueueFile of one shard in one process would have the same.
    """

    __slots__ = ("_byte", "_held", "_queue_file", "_stuck", "_waiter", "_waiter_at")

    def __init__(self, queue_file: QueueFile, name: str) -> None:
        """`name` is the shard's."""
        self._queue_file = queue_file
        self._byte = _FIRST_BYTE + int(name.rpartition("~")[2][:_HASH_DIGITS], 16)
        self._held = -1  # the descriptor through which this process stands in the queue
        self._waiter: LockWaiter | None = None
        self._waiter_at = 0.0  # time.monotonic
        self._stuck = False  # our place in it was not reached for too long: passed by until it is

    def _usable(self) -> int:
        """Return the descriptor; -1 where there is no queue, or it does not move."""
        if self._stuck and self._waiter is not None and not self._waiter.over:
            return -1
        self._stuck = False
        return self._queue_file.fd()

    def _request(self, kind: int) -> bytes:
        return _FLOCK.pack(kind, os.SEEK_SET, self._byte, 1, 0)

    def is_taken(self) -> bool:
        """Return whether another process stands in the queue."""
        fd = self._usable()
        if fd < 0:
            return False
        try:
            found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, self._request(fcntl.F_WRLCK))
        except OSError:
            return False
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def enter(self, deadline: float | None) -> bool:
        """Wait to be the first in the queue; return whether that was reached.

        Not where there is no queue, and not for ever: for _IN_QUEUE_S at most, and half of the time there is.
        """
        fd = self._usable()
        now = time.monotonic()
        if fd < 0 or (deadline is not None and now + _POLL_S >= deadline):
            return False
        latest = now + (_IN_QUEUE_S if deadline is None else min(_IN_QUEUE_S, (deadline - now) / 2))
        try:
            if self._waiter is None or not self._waiter.rejoin():
                self._waiter = None
                if self._try(fd):
                    return True
                self._waiter, self._waiter_at = LockWaiter(fd, self._wait, self._release), now
        except (OSError, NoThread):  # this file system has none, or nothing can wait there on our behalf
            return False
        if not self._waiter.wait(latest):
            self._stuck = time.monotonic() >= self._waiter_at + _IN_QUEUE_S
            return False
        if self._waiter.error is None:
            self._held = fd
        self._waiter = None
        return self._held >= 0

    def _try(self, fd: int) -> bool:
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, self._request(fcntl.F_WRLCK))
        except BlockingIOError:
            return False
        self._held = fd
        return True

    def _wait(self, fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, self._request(fcntl.F_WRLCK))

    def _release(self, fd: int) -> None:
        with suppress(OSError):  # it was closed, and the queue left with it
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, self._request(fcntl.F_UNLCK))

    def leave(self) -> None:
        """Let the next one be the first. Does nothing where this process is not in the queue."""
        fd, self._held = self._held, -1
        if fd >= 0:
            self._release(fd)

    def forget(self) -> None:
        """Leave it, whatever was known of it when an exception came from outside."""
        if self._waiter is not None:
            self._waiter.abandon()
        self._held = -1
        fd = self._queue_file.opened
        if fd >= 0:
            self._release(fd)


class FairLock:
    """One shard's lock, shared fairly. REQUIRES for every method: the caller is inside the shard's FIFO mutex.

    A plain try is allowed while `now < ends` and `now < queue_file.check_at`; every other update goes through `wait`.
    """

    __slots__ = (
        "_began",
        "_busy_until",
        "_contended_until",
        "_count",
        "_queue",
        "_queue_file",
        "_slice_ahead",
        "_waiting",
        "ends",
    )

    def __init__(self, queue_file: QueueFile, name: str) -> None:
        self._queue_file = queue_file
        self._queue = Queue(queue_file, name)
        self._count = 0  # of updates, when the present time slice began
        self._began = 0.0  # when it did: time.monotonic, as all that follow
        self.ends = NEVER  # when it ends; NEVER: no time slices, because this process did not have to wait lately
        self._busy_until = 0.0
        self._contended_until = 0.0  # for how long the last wait is a reason to have time slices
        self._waiting = False  # `wait` was called, and `leave` not yet
        self._slice_ahead = 0.0  # until when the process that got in before us may be in its time slice; 0.0: not known

    def wait(self, lock: KernelLock, deadline: float | None, count: int) -> bool:
        """Take the lock where that needs more than a try; return whether it is held afterwards.

        `count`: updates that this process has made or tried to make, ever. Call `leave` afterwards in any
        case. Until then this may be called again, with the lock of the file that has replaced this one, and keeps its
        place.
        """
        if not self._waiting:
            now = time.monotonic()
            polite = self._check_queue(now, count)
            busy = now < self._busy_until
            if not polite and (lock.try_acquire() if busy else lock.try_shortly(deadline)):
                return True
            self._waiting = True
            if self._queue.enter(deadline) and busy:  # if this process is busy, the one before it is taken to be
                self._slice_ahead = time.monotonic() + SLICE_S
        got = self._await_slice(lock, deadline) or lock.acquire(deadline)
        if got:
            now = time.monotonic()
            self._contended_until = now + _REMEMBERED_S
            self._begin(now, count)
        return got

    def try_politely(self, lock: KernelLock, count: int) -> bool:
        """Take the lock if it is free and nobody is to have it first; return whether it is held afterwards."""
        now = time.monotonic()
        return not self._check_queue(now, count) and lock.try_acquire()

    def _check_queue(self, now: float, count: int) -> bool:
        """Look at the queue, if it is time to; return whether somebody else is to have the lock first."""
        self._queue_file.check_at = now + _CHECK_S
        over = now >= self.ends or self.ends == NEVER
        polite = over and count > self._count and self._queue.is_taken()
        self._measure(now, count)
        if over:
            self._begin(now, count)
        return polite

    def _measure(self, now: float, count: int) -> None:
        """See whether this process has used its time slice without a pause, if it made updates enough to show that."""
        had = count - self._count
        if had >= _ENOUGH:
            self._busy_until = now + _REMEMBERED_S if now - self._began < had * _BUSY_S else 0.0

    def _begin(self, now: float, count: int) -> None:
        """Begin a time slice; one of a process not known to be busy lasts only as long as it takes to show that."""
        self._began, self._count = now, count
        self.ends = (
            NEVER if now >= self._contended_until else now + (SLICE_S if now < self._busy_until else _FIRST_SLICE_S)
        )

    def _await_slice(self, lock: KernelLock, deadline: float | None) -> bool:
        """Sleep until the time slice ahead must be over, instead of waking at each release in it; then try often."""
        while (now := time.monotonic()) < self._slice_ahead + SLICE_S and (deadline is None or now < deadline):
            if lock.abandoned is not None:
                return False  # a wait that was given up is still in the kernel's queue: go on with that
            if now >= self._slice_ahead and lock.try_acquire():
                return True
            pause = max(_POLL_S, self._slice_ahead - now)
            time.sleep(pause if deadline is None else min(pause, deadline - now))
        return False

    def leave(self) -> None:
        """Let the next one wait for the lock. Does nothing where `wait` did not wait."""
        self._waiting, self._slice_ahead = False, 0.0
        self._queue.leave()

    def forget(self) -> None:
        """Leave the queue for certain: an exception from outside may have come between any two steps."""
        self._waiting, self._slice_ahead = False, 0.0
        self._queue.forget()
