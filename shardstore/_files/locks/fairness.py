"""Turns at a lock that several processes want all the time: rounds of a few milliseconds, in the order of arrival.

Whoever releases a lock and asks for it again at once gets it, for a waiter that is woken by the release comes too
late. Handing it over each time would be fair, but a hand-over costs a sleeping process' wake-up and the reading of
what the others committed meanwhile: more than many updates. So a process that updates without a pause goes on for a
round of ROUND_S, and then lets those go first who stand in line.

The line is a second lock: one byte, different for each shard, of the store's marker file. The first waiter holds it
until it has the shard's lock, the others wait for it in the kernel's queue, and who has had a round sees by one call
whether anybody is there. Exclusion rests on none of this: where the system has no such locks (F_OFD_SETLK: Linux),
there is no line, and nobody lets anybody go first.
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
from shardstore._files.locks.waiter import NoThread, Parked

if TYPE_CHECKING:
    from shardstore._files.locks.flock import KernelLock

ROUND_S: Final = 0.01
_TRIAL_S: Final = 0.002  # the round of a process not known to be busy
_BUSY_S: Final = 0.001  # for each turn, on average: a process that takes longer is not busy
_TELLING: Final = 3  # turns: the first of them is spent on what the others wrote
_REMEMBERED_S: Final = 1.0
_POLL_S: Final = 0.0001  # by the first in line, once the round ahead must be over
_IN_LINE_S: Final = 0.25  # a process that stands in line may have been stopped: after this the others pass it

_GLANCE_S: Final = 0.001  # between looks at a line where nobody is known to wait
NEVER: Final = float("inf")

_HAVE_LINES: Final = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLKW")
_FLOCK: Final = struct.Struct("hhqqi0q")  # Linux's struct flock: type, whence, start, length, pid
_FIRST_BYTE: Final = 1 << 62  # far behind the end of any file
_HASH_DIGITS: Final = 15  # of the shard's name


class Lines:
    """The open file whose bytes are the lines of one store's shards."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """`path` is a file of the store that is never replaced. It is opened when a line is first looked at."""
        self._path = path
        self._fd = -1
        self._closed = False
        # time.monotonic: the first turn after this, at any of the store's locks, goes through `Turns.wait`, which looks
        # at the line.
        self.glance_at = 0.0

    def fd(self) -> int:
        """Give the descriptor; -1 where there can be none, which is tried again at the next call."""
        if self._fd < 0 and _HAVE_LINES:
            with descriptors, suppress(OSError):  # not ours to write, or no descriptor left
                if self._fd < 0 and not self._closed:
                    self._fd = os.open(self._path, disk.WRITE)
        return self._fd

    @property
    def opened(self) -> int:
        """The descriptor if it is open, else -1."""
        return self._fd

    def close(self) -> None:
        """Close it for good.

        A helper that waits in a line keeps the open file until its turn. What it then gives back may be a byte of
        another file with the same descriptor: behind the end of any file, where nothing but lines is.
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


class Line:
    """The line before one shard's lock. REQUIRES for every method: the caller holds the shard's gate.

    The kernel knows a place by the open file: two Lines of one shard in one process would have the same.
    """

    __slots__ = ("_byte", "_held", "_lines", "_parked", "_parked_at", "_stuck")

    def __init__(self, lines: Lines, name: str) -> None:
        """`name` is the shard's."""
        self._lines = lines
        self._byte = _FIRST_BYTE + int(name.rpartition("~")[2][:_HASH_DIGITS], 16)
        self._held = -1  # the descriptor through which this process stands in line
        self._parked: Parked | None = None
        self._parked_at = 0.0  # time.monotonic
        self._stuck = False  # our place in it was not reached for too long: passed by until it is

    def _usable(self) -> int:
        """Give the descriptor; -1 where there is no line, or it does not move."""
        if self._stuck and self._parked is not None and not self._parked.over:
            return -1
        self._stuck = False
        return self._lines.fd()

    def _request(self, kind: int) -> bytes:
        return _FLOCK.pack(kind, os.SEEK_SET, self._byte, 1, 0)

    def is_taken(self) -> bool:
        """Tell whether another process stands in line."""
        fd = self._usable()
        if fd < 0:
            return False
        try:
            found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, self._request(fcntl.F_WRLCK))
        except OSError:
            return False
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def enter(self, deadline: float | None) -> bool:
        """Wait to be the first in line; tell whether it was worth it.

        Not where there is no line, and not for ever: for a second at most, and half of the time there is.
        """
        fd = self._usable()
        now = time.monotonic()
        if fd < 0 or (deadline is not None and now + _POLL_S >= deadline):
            return False
        latest = now + (_IN_LINE_S if deadline is None else min(_IN_LINE_S, (deadline - now) / 2))
        try:
            if self._parked is None or not self._parked.rejoin():
                self._parked = None
                if self._try(fd):
                    return True
                self._parked, self._parked_at = Parked(fd, self._wait, self._release), now
        except (OSError, NoThread):  # this file system has none, or nothing can wait there on our behalf
            return False
        if not self._parked.wait(latest):
            self._stuck = time.monotonic() >= self._parked_at + _IN_LINE_S
            return False
        if self._parked.error is None:
            self._held = fd
        self._parked = None
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
        with suppress(OSError):  # it was closed, and the line left with it
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, self._request(fcntl.F_UNLCK))

    def leave(self) -> None:
        """Let the next one be the first. Does nothing where this process is not in line."""
        fd, self._held = self._held, -1
        if fd >= 0:
            self._release(fd)

    def forget(self) -> None:
        """Leave it, whatever was known of it when an exception came from outside."""
        if self._parked is not None:
            self._parked.abandon()
        self._held = -1
        fd = self._lines.opened
        if fd >= 0:
            self._release(fd)


class Turns:
    """This process' turns at one shard's lock. REQUIRES for every method: the caller holds the shard's gate.

    A plain try is allowed while `now < turns.ends` and `now < lines.glance_at`; every other turn goes through `wait`.
    """

    __slots__ = (
        "_began",
        "_busy_until",
        "_count",
        "_crowded_until",
        "_line",
        "_lines",
        "_round_ahead",
        "_waiting",
        "ends",
    )

    def __init__(self, lines: Lines, name: str) -> None:
        self._lines = lines
        self._line = Line(lines, name)
        self._count = 0  # of turns, when the present round began
        self._began = 0.0  # when it did: time.monotonic, as all that follow
        self.ends = NEVER  # when it ends; NEVER: no rounds, because this process did not have to wait lately
        self._busy_until = 0.0
        self._crowded_until = 0.0  # for how long the last wait is a reason to have rounds
        self._waiting = False  # `wait` was called, and `leave` not yet
        self._round_ahead = 0.0  # until when the process that got in before us may be in its round; 0.0: not known

    def wait(self, lock: KernelLock, deadline: float | None, count: int) -> bool:
        """Take the lock where that needs more than a try; tell whether it is held afterwards.

        `count`: turns that this process has had or tried to have, ever. Call `leave` afterwards, whatever this tells;
        until then it may be called again, with the lock of the file that has replaced this one, and keeps its place.
        """
        if not self._waiting:
            now = time.monotonic()
            self._lines.glance_at = now + _GLANCE_S
            over = now >= self.ends or self.ends == NEVER
            polite = over and count > self._count and self._line.is_taken()
            self._judge(now, count)
            busy = now < self._busy_until
            if over:
                self._begin(now, count)
            if not polite and (lock.try_acquire() if busy else lock.try_shortly(deadline)):
                return True
            self._waiting = True
            if self._line.enter(deadline) and busy:  # if this process is busy, the one before it is taken to be
                self._round_ahead = time.monotonic() + ROUND_S
        got = self._await_round(lock, deadline) or lock.acquire(deadline)
        if got:
            now = time.monotonic()
            self._crowded_until = now + _REMEMBERED_S
            self._begin(now, count)
        return got

    def _judge(self, now: float, count: int) -> None:
        """See whether this process has used its round without a pause, if it had turns enough to tell."""
        had = count - self._count
        if had >= _TELLING:
            self._busy_until = now + _REMEMBERED_S if now - self._began < had * _BUSY_S else 0.0

    def _begin(self, now: float, count: int) -> None:
        """Begin a round; one of a process not known to be busy lasts only as long as it takes to show that."""
        self._began, self._count = now, count
        self.ends = NEVER if now >= self._crowded_until else now + (ROUND_S if now < self._busy_until else _TRIAL_S)

    def _await_round(self, lock: KernelLock, deadline: float | None) -> bool:
        """Sleep until the round ahead must be over, instead of being woken by each release in it; then try often."""
        while (now := time.monotonic()) < self._round_ahead + ROUND_S and (deadline is None or now < deadline):
            if lock.parked is not None:
                return False  # a wait that was given up is still in the kernel's queue: go on with that
            if now >= self._round_ahead and lock.try_acquire():
                return True
            pause = max(_POLL_S, self._round_ahead - now)
            time.sleep(pause if deadline is None else min(pause, deadline - now))
        return False

    def leave(self) -> None:
        """Let the next one wait for the lock. Does nothing where `wait` did not wait."""
        self._waiting, self._round_ahead = False, 0.0
        self._line.leave()

    def forget(self) -> None:
        """Leave the line for certain: an exception from outside may have come between any two steps."""
        self._waiting, self._round_ahead = False, 0.0
        self._line.forget()
