"""Locks: the kernel's, on the shard file itself, behind a mutex between threads.

Purposes: exclude every other writer of one file, across processes and threads; let nobody starve; leave nothing to
clean up. The lock is a whole-file flock on a descriptor that the caller keeps open, so it ends the instant its owner
dies and never before. There are no lock files, no ages, no pids in any decision.

Calling sequence (docs/internals/locking.md): enter the FIFO mutex, take the lock at once or in turn (fairness.py),
compare identities, ..., release, leave the mutex.

flock belongs to the open file, not to the thread: threads that share a descriptor exclude each other by the FIFO mutex
(_inside.py). The only module that imports filelock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from filelock import lock_descriptor, unlock_descriptor

from shardstore._files.locks.waiter import LockWaiter, NoThread, is_cooperative
from shardstore.errors import UnsupportedFileSystem, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable

_SHORT_SLEEPS: Final = (0.00005, 0.0002)  # seconds; a holder is usually gone after one of them
_POLL_FIRST_S, _POLL_MOST_S = 0.0005, 0.02
_TRY: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
_SHARE: Final = fcntl.LOCK_SH | fcntl.LOCK_NB
_WITHOUT_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF})


# Held while a shard's descriptor is opened or closed, and over a fork: a child must know each one it inherits.
# Re-entrant: a collected file is closed in the middle of anything. Used by `with` as it is: behind a method of Python's
# an exception from outside could come between the lock and the `with`, and every other thread would wait for ever.
descriptors: Final = threading.RLock()
os.register_at_fork(  # the child's thread is the one that forked, so it holds the lock
    before=descriptors.acquire, after_in_parent=descriptors.release, after_in_child=descriptors.release
)


def try_lock(fd: int) -> bool:
    """Take the lock of an open file if it is free right now; return whether it is held afterwards."""
    try:
        return lock_descriptor(fd, blocking=False)
    except OSError as error:
        raise_lock_error(error)


def try_share(fd: int) -> bool:
    """Share the lock of an open file, unless a writer has it; return whether it is shared afterwards."""
    try:
        fcntl.flock(fd, _SHARE)
    except BlockingIOError:
        return False
    except OSError as error:
        raise_lock_error(error)
    return True


def unlock(fd: int) -> None:
    """Release the lock of an open file. REQUIRES: the caller holds it."""
    try:
        unlock_descriptor(fd)
    except OSError as error:
        raise_lock_error(error)


def raise_lock_error(error: OSError) -> NoReturn:
    """Raise the typed error for a call of flock that failed."""
    if error.errno in _WITHOUT_LOCKS:
        message = f"this file system cannot lock files ({os.strerror(error.errno or 0)}); use a local one"
        raise UnsupportedFileSystem(error.errno, message) from error
    raise_io_error(error, "locking")


def _closed() -> None:
    """Raise the error of a descriptor that was closed: its number may be another file's by now."""
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class KernelLock:
    """The flock of one open file. REQUIRES for every method: the caller is inside the FIFO mutex of its shard.

    Polling starves at every interval. So after a try and two short sleeps the wait is the kernel's own queue: in the
    caller when there is no deadline, in a helper thread when there is one (waiter.py).
    """

    __slots__ = ("_fd", "abandoned", "give", "take")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.abandoned: LockWaiter | None = None  # a wait that was given up, and is still in the kernel's queue
        # For the path of every update, as calls of C: take the lock, or raise BlockingIOError; give it back. Both raise
        # OSError. REQUIRES: nothing is `parked`.
        self.take: Callable[[], None] = partial(fcntl.flock, fd, _TRY)
        self.give: Callable[[], None] = partial(fcntl.flock, fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the descriptor, and with it the lock; where a helper still waits on it, the helper does at its turn."""
        with descriptors:
            fd, self._fd = self._fd, -1
            self.take = self.give = _closed
            if fd >= 0 and (self.abandoned is None or not self.abandoned.inherit()):
                try:  # noqa: SIM105  # a call here would let an exception from outside in, and the lock stay taken
                    os.close(fd)
                except OSError:
                    pass  # it is closed all the same, and whatever had to be synced was

    def __del__(self) -> None:
        """Close the descriptor where an exception from outside came before anybody had the lock."""
        if getattr(self, "_fd", -1) >= 0 and hasattr(self, "abandoned"):
            self.close()

    def after_fork(self) -> None:
        """Close the descriptor in a forked child, where no helper waits on it, whatever the parent's do."""
        self.abandoned = None
        self.close()

    def try_acquire(self) -> bool:
        """Take the lock if it is free right now; return whether it is held afterwards."""
        if self.abandoned is not None:
            return False
        try:
            self.take()
        except BlockingIOError:
            return False
        except OSError as error:
            raise_lock_error(error)
        return True

    def try_shortly(self, deadline: float | None) -> bool:
        """Try now and after two short sleeps; return whether the lock is held afterwards."""
        if self.try_acquire():
            return True
        for seconds in _SHORT_SLEEPS:
            if self.abandoned is not None or (deadline is not None and time.monotonic() + seconds >= deadline):
                return False
            time.sleep(seconds)
            if self.try_acquire():
                return True
        return False

    def acquire(self, deadline: float | None) -> bool:
        """Wait until `deadline` (time.monotonic, None: for ever); return whether the lock is held afterwards."""
        if self.abandoned is None:
            if self.try_shortly(deadline):
                return True
            if deadline is None and not is_cooperative():
                try:
                    _wait(self._fd)
                except OSError as error:
                    raise_lock_error(error)
                return True
            if deadline is not None and time.monotonic() + _SHORT_SLEEPS[-1] >= deadline:
                return False
            try:
                self.abandoned = LockWaiter(self._fd, _wait, unlock)
            except NoThread:
                return self._poll(deadline)
        elif not self.abandoned.rejoin():
            self.abandoned = None
            return self.acquire(deadline)
        got = self.abandoned.wait(deadline)
        if got:
            failed, self.abandoned = self.abandoned.error, None
            if failed is not None:
                raise_lock_error(failed)
        return got

    def _poll(self, deadline: float | None) -> bool:
        """Wait where no thread can wait on our behalf. Unfair, but the timeout is kept, and greenlets go on."""
        pause = _POLL_FIRST_S
        while not self.try_acquire():
            left = _POLL_MOST_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, _POLL_MOST_S)
        return True

    def release(self) -> None:
        """Release the lock. REQUIRES: it is held."""
        try:
            self.give()
        except OSError as error:
            raise_lock_error(error)


def _wait(fd: int) -> None:
    """Wait for the lock of an open file."""
    fcntl.flock(fd, fcntl.LOCK_EX)
