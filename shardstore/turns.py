"""Turns at a lock that several processes want all the time: rounds of a few milliseconds, in the order of arrival.

Whoever releases a lock and asks for it again at once gets it, for a waiter that is woken by the release comes too
late. Handing it over each time would be fair, but a hand-over costs a sleeping process' wake-up and the reading of
what the others committed meanwhile: more than many updates. So who updates without a pause goes on for a round of
ROUND_S, and then lets those go first who stand in line.

The line is a second lock: one byte, different for each shard, of the store's marker file. The first waiter holds it
until it has the shard's lock, the others wait for it in the kernel's queue, and who has had a round sees by one call
whether anybody is there. Exclusion rests on none of this: where the system has no such locks (F_OFD_SETLK: Linux),
there is no line, and nobody lets anybody go first.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shardstore import disk
from shardstore.lock import descriptors
from shardstore.waiting import Parked

if TYPE_CHECKING:
    from shardstore.lock import KernelLock

ROUND_S: Final = 0.01
_TRIAL_S: Final = 0.002  # the round of who is not known to be busy
_BUSY_S: Final = 0.001  # for each turn: who takes longer is not busy
_TELLING: Final = 3  # turns: the first of them is spent on what the others wrote
_REMEMBERED_S: Final = 1.0
_POLL_S: Final = 0.0001  # by the one waiter who knows that the holder's round is over
_IN_LINE_S: Final = 1.0  # a process that stands in line may have been stopped: after this the others pass it

_HAVE_LINES: Final = hasattr(fcntl, "F_OFD_SETLKW")
_FLOCK: Final = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, length, pid
_FIRST_BYTE: Final = 1 << 62  # far behind the end of any file
_HASH_DIGITS: Final = 15  # of the shard's name


class Lines:
    """The open file whose bytes are the lines of one store's shards."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """`path` is a file of the store that is never replaced. It is opened when somebody first has to wait."""
        self._path = path
        self._fd = -1

    def fd(self) -> int:
        """Give the descriptor; -1 where there can be none. Two threads may open two: one is used from then on."""
        if self._fd < 0 and _HAVE_LINES:
            with descriptors, suppress(OSError):  # not ours to write, or no descriptor left
                if self._fd < 0:
                    self._fd = os.open(self._path, disk.WRITE)
        return self._fd

    def close(self) -> None:
        """Close it. A helper that waits in a line keeps the open file alive until its turn, and then lets it go."""
        with descriptors:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


class Line:
    """The line before one shard's lock. REQUIRES for every method: the caller holds the shard's gate."""

    __slots__ = ("_byte", "_held", "_lines", "_parked")

    def __init__(self, lines: Lines, name: str) -> None:
        """`name` is the shard's."""
        self._lines = lines
        self._byte = _FIRST_BYTE + int(name.rpartition("~")[2][:_HASH_DIGITS], 16)
        self._held = -1  # the descriptor through which this process stands in line
        self._parked: Parked | None = None

    def _request(self, kind: int) -> bytes:
        return _FLOCK.pack(kind, os.SEEK_SET, self._byte, 1, 0)

    def is_taken(self) -> bool:
        """Tell whether another process stands in line."""
        fd = self._lines.fd()
        if fd < 0:
            return False
        try:
            found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, self._request(fcntl.F_WRLCK))
        except OSError:
            return False
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def enter(self, deadline: float | None) -> None:
        """Wait until nobody else is ahead, though not for ever; go on without a line where there is none."""
        fd = self._lines.fd()
        if fd < 0:
            return
        try:
            if self._parked is None or not self._parked.rejoin():
                self._parked = None
                if self._try(fd):
                    return
                self._parked = Parked(fd, self._wait, self._release)
        except OSError:  # this file system has none
            return
        latest = time.monotonic() + _IN_LINE_S
        if self._parked.wait(latest if deadline is None else min(deadline, latest)):
            if self._parked.error is None:
                self._held = fd
            self._parked = None

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
        """Let the next one be the first. Does nothing for who is not in line."""
        fd, self._held = self._held, -1
        if fd >= 0:
            self._release(fd)


class Turns:
    """This process' turns at one shard's lock. REQUIRES for every method: the caller holds the shard's gate."""

    __slots__ = ("_began", "_busy_until", "_count", "_line", "_lines", "_name", "_until", "ends")

    def __init__(self, lines: Lines, name: str) -> None:
        self._lines, self._name = lines, name
        self._line = Line(lines, name)
        self._count = 0  # of turns, when the round began
        self._began = 0.0  # time.monotonic, as all that follow
        self.ends = 0.0  # of the round: the next turn is to be taken by `wait`
        self._busy_until = 0.0
        self._until = 0.0  # the round of the one who is ahead of us, the first in line

    def wait(self, lock: KernelLock, deadline: float | None, count: int) -> bool:
        """Take the lock where that needs more than a try; tell whether it is held afterwards.

        `count`: turns that this process has had, ever. Call `leave` afterwards, whatever it tells; until then it may
        be called again, with the lock of the file that has replaced this one, and keeps its place.
        """
        if not self._until:
            now = time.monotonic()
            polite = now >= self.ends and count > self._count and self._line.is_taken()
            busy = self._is_busy(now, count)
            if not polite and (lock.try_acquire() if busy else lock.try_shortly(deadline)):
                return True
            self._line.enter(deadline)
            self._until = time.monotonic() + (ROUND_S if busy else 0.0)
        got = self._await_round(lock, deadline) or lock.acquire(deadline)
        self._begin(time.monotonic(), count)
        return got

    def renewed(self) -> Turns:
        """Give the same for a forked child, where no helper waits and nobody stands in line."""
        return Turns(self._lines, self._name)

    def _begin(self, now: float, count: int) -> None:
        """Begin a round; for who is not known to be busy, only as long as it takes to show that."""
        self._began, self._count = now, count
        self.ends = now + (ROUND_S if now < self._busy_until else _TRIAL_S)

    def _is_busy(self, now: float, count: int) -> bool:
        """Tell whether this process updates without a pause, or did so when it last had turns enough to tell."""
        had, since = count - self._count, now - self._began
        if had >= _TELLING or since > ROUND_S:
            if had >= _TELLING:
                self._busy_until = now + _REMEMBERED_S if since < had * _BUSY_S else 0.0
            self._begin(now, count)
        return now < self._busy_until

    def _await_round(self, lock: KernelLock, deadline: float | None) -> bool:
        """Wait for a holder who has just begun a round, without being woken by each of its releases."""
        while (now := time.monotonic()) < self._until + ROUND_S and (deadline is None or now < deadline):
            if now >= self._until and lock.try_acquire():
                return True
            pause = max(_POLL_S, self._until - now)
            time.sleep(pause if deadline is None else min(pause, deadline - now))
        return False

    def leave(self) -> None:
        """Let the next one wait for the lock. Does nothing where `wait` did not wait."""
        if self._until:
            self._until = 0.0
            self._line.leave()
