"""Waiting in one of the kernel's queues with a deadline, which no system call takes.

A helper thread waits on the caller's behalf. A wait that is given up stays in the queue and is taken over by the next
caller; if its turn comes while nobody waits, it passes the lock on at once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    _Job = Callable[[], None]
    _Call = Callable[[int], None]  # of a descriptor; raises OSError


class NoThread(Exception):
    """No thread can be had that waits on the caller's behalf."""


def is_cooperative() -> bool:
    """Return whether this process' threads are greenlets (gevent): a wait in the kernel would stop all of them."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


class LockWaiter:
    """A wait in the kernel's queue, by a helper thread, on behalf of a caller who may give up and come back."""

    def __init__(self, fd: int, take: _Call, release: _Call) -> None:
        """`take` waits until the lock of the open file is held, `release` gives it back. Raises NoThread."""
        self._fd = fd
        self._take = take
        self._release = release
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
            self._take(self._fd)
        except OSError as error:
            self.error = error
        with self._mutex:
            self.over = True
            if self._inherited:
                if self.error is None:
                    self._release(self._fd)  # a child forked meanwhile has the descriptor too
                os.close(self._fd)
            elif self._wanted:
                self._arrived.release()
            elif self.error is None:
                self._release(self._fd)

    def wait(self, deadline: float | None) -> bool:
        """Wait for the turn; give up at `deadline`. Tell whether the turn came."""
        timeout = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return self._arrived.acquire(timeout=timeout) or self._abandon(keep=True)
        except BaseException:  # KeyboardInterrupt: the helper must not keep what nobody will release
            self._abandon(keep=False)
            raise

    def abandon(self) -> None:
        """Stop wanting; if the turn has come it is passed on."""
        self._abandon(keep=False)

    def _abandon(self, *, keep: bool) -> bool:
        """Stop wanting; return whether the turn came in that very moment, and is kept."""
        with self._mutex:
            self._wanted = False
            if not self.over:
                return False
            if not keep and self.error is None:
                self._release(self._fd)
            return keep

    def inherit(self) -> bool:
        """Leave the closing of the descriptor to the helper; return whether it is still there to do it."""
        with self._mutex:
            self._inherited = not self.over
            return self._inherited

    def rejoin(self) -> bool:
        """Want the turn again; return whether it is still to come."""
        with self._mutex:
            self._wanted = not self.over
            return self._wanted


class _Helpers:
    """Daemon threads that wait in the kernel; each is used again when its wait is over."""

    def __init__(self) -> None:
        self._idle: deque[_Helper] = deque()

    def run(self, job: _Job) -> None:
        """Have a thread of its own run `job`. Raises NoThread."""
        if is_cooperative():
            raise NoThread
        try:
            helper = self._idle.pop()
        except IndexError:
            try:
                helper = _Helper(self._idle)
            except RuntimeError:  # too many threads (RLIMIT_NPROC), or the interpreter is ending
                raise NoThread from None
        helper.give(job)

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
