"""Locks: the kernel's, on the shard file itself, behind an in-process gate.

Purposes: exclude every other writer of one file, across processes and threads; let nobody starve; leave nothing to
clean up. The lock is a whole-file flock on a descriptor that the caller keeps open, so it ends the instant its owner
dies and never before. There are no lock files, no ages, no pids in any decision.

Calling sequence (docs/locking.md): gate.acquire, acquire, compare identities, ..., release, gate.release.

flock belongs to the open file, not to the thread: threads that share a descriptor exclude each other by the gate
(gate.py). The only module that imports filelock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

from filelock import lock_descriptor, unlock_descriptor

from shardstore.errors import UnsupportedFileSystem, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable

    _Job = Callable[[], None]

_SHORT_SLEEPS: Final = (0.00005, 0.0002)  # seconds; a holder is usually gone after one of them
_WITHOUT_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF})


class _Descriptors:
    """Held while a shard's descriptor is opened or closed, and over a fork: a child must know each one it inherits."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a collected file is closed in the middle of anything

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Make it anew in a forked child."""
        self._lock = threading.RLock()


descriptors = _Descriptors()
os.register_at_fork(
    before=descriptors.__enter__, after_in_parent=descriptors.__exit__, after_in_child=descriptors.renew
)


def try_lock(fd: int) -> bool:
    """Take the lock of an open file if it is free right now; tell whether it is held afterwards."""
    try:
        return lock_descriptor(fd, blocking=False)
    except OSError as error:
        _raise_lock_error(error)


def unlock(fd: int) -> None:
    """Release the lock of an open file. REQUIRES: the caller holds it."""
    try:
        unlock_descriptor(fd)
    except OSError as error:
        _raise_lock_error(error)


def _raise_lock_error(error: OSError) -> NoReturn:
    if error.errno in _WITHOUT_LOCKS:
        message = f"this file system cannot lock files ({os.strerror(error.errno or 0)}); use a local one"
        raise UnsupportedFileSystem(error.errno, message) from error
    raise_io_error(error, "locking")


class KernelLock:
    """The flock of one open file. REQUIRES for every method: the caller holds the file's gate.

    Polling starves at every interval. So after a try and two short sleeps the wait is the kernel's own queue: in the
    caller when there is no deadline, in a helper thread when there is one. A wait that is given up stays in the queue
    and is taken over by the next caller; if its turn comes while nobody waits, it passes the lock on at once.
    """

    __slots__ = ("_fd", "_parked")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._parked: _Parked | None = None

    def close(self) -> None:
        """Close the descriptor, and with it the lock; where a helper still waits on it, the helper does at its turn."""
        with descriptors:
            fd, self._fd = self._fd, -1
            if fd >= 0 and (self._parked is None or not self._parked.inherit()):
                with suppress(OSError):  # it is closed all the same, and whatever had to be synced was
                    os.close(fd)

    def after_fork(self) -> None:
        """Close the descriptor in a forked child, where no helper waits on it, whatever the parent's do."""
        self._parked = None
        self.close()

    def try_acquire(self) -> bool:
        """Take the lock if it is free right now; tell whether it is held afterwards."""
        try:
            return self._parked is None and lock_descriptor(self._fd, blocking=False)
        except OSError as error:
            _raise_lock_error(error)

    def acquire(self, deadline: float | None) -> bool:
        """Wait until `deadline` (time.monotonic, None: for ever); tell whether the lock is held afterwards."""
        if self._parked is None:
            if self.try_acquire():
                return True
            for seconds in _SHORT_SLEEPS:
                if deadline is not None and time.monotonic() + seconds >= deadline:
                    return False
                time.sleep(seconds)
                if self.try_acquire():
                    return True
            if deadline is None:
                return self._wait_here()
            self._parked = _Parked(self._fd)
        elif not self._parked.rejoin():
            self._parked = None
            return self.acquire(deadline)
        return self._wait_parked(deadline)

    def _wait_here(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            _raise_lock_error(error)
        return True

    def _wait_parked(self, deadline: float | None) -> bool:
        parked = self._parked
        assert parked is not None
        try:
            got = parked.wait(deadline)
        except BaseException:  # KeyboardInterrupt: the helper must not keep what nobody will release
            parked.abandon()
            raise
        if got:
            self._parked = None
            if parked.error is not None:
                _raise_lock_error(parked.error)
        return got

    def release(self) -> None:
        """Release the lock. REQUIRES: it is held."""
        try:
            unlock_descriptor(self._fd)
        except OSError as error:
            _raise_lock_error(error)


class _Parked:
    """A wait in the kernel's queue, by a helper thread, on behalf of a caller who may give up and come back."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mutex = threading.Lock()
        self._arrived = threading.Lock()
        self._arrived.acquire()
        self._wanted = True
        self._inherited = False  # closing the descriptor was left to the helper
        self.over = False
        self.error: OSError | None = None
        _helpers.run(self._park)

    def _park(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            self.error = error
        with self._mutex:
            self.over = True
            if self._inherited:
                if self.error is None:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor too
                os.close(self._fd)
            elif self._wanted:
                self._arrived.release()
            elif self.error is None:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def wait(self, deadline: float | None) -> bool:
        """Wait for the turn; give up at `deadline`. Tell whether the turn came."""
        timeout = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        return self._arrived.acquire(timeout=timeout) or self.abandon(keep=True)

    def abandon(self, *, keep: bool = False) -> bool:
        """Stop wanting; tell whether the turn came in that very moment, and is kept."""
        with self._mutex:
            self._wanted = False
            if not self.over:
                return False
            if not keep and self.error is None:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            return keep

    def inherit(self) -> bool:
        """Leave the closing of the descriptor to the helper; tell whether it is still there to do it."""
        with self._mutex:
            self._inherited = not self.over
            return self._inherited

    def rejoin(self) -> bool:
        """Want the turn again; tell whether it is still to come."""
        with self._mutex:
            self._wanted = not self.over
            return self._wanted


class _Helpers:
    """Daemon threads that wait in the kernel; each is used again when its wait is over."""

    def __init__(self) -> None:
        self._idle: deque[_Helper] = deque()

    def run(self, job: _Job) -> None:
        """Have a thread of its own run `job`."""
        try:
            self._idle.pop().give(job)
        except IndexError:
            _Helper(self._idle).give(job)

    def forget(self) -> None:
        """Forget every thread: a forked child has none of them."""
        self._idle.clear()


class _Helper:
    def __init__(self, idle: deque[_Helper]) -> None:
        self._idle = idle
        self._job: _Job | None = None
        self._given = threading.Lock()
        self._given.acquire()
        threading.Thread(target=self._loop, name="shardstore-lock-wait", daemon=True).start()

    def give(self, job: _Job) -> None:
        self._job = job
        self._given.release()

    def _loop(self) -> None:
        while True:
            self._given.acquire()
            assert self._job is not None
            self._job()
            self._job = None
            self._idle.append(self)


_helpers = _Helpers()
os.register_at_fork(after_in_child=_helpers.forget)
