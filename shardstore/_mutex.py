"""The in-process side of a shard's lock: flock does not exclude threads that share a descriptor."""

from __future__ import annotations

import threading
import time
from collections import deque


class Gate:
    """A mutex between threads that is handed over in the order of arrival.

    threading.Lock lets the thread that has just released it take it again before any waiter wakes.
    """

    __slots__ = ("_mutex", "_taken", "_waiting", "owner")

    def __init__(self) -> None:
        self._taken = threading.Lock()
        self._mutex = threading.Lock()  # guards _waiting
        self._waiting: deque[tuple[threading.Lock, int]] = deque()
        self.owner = 0  # thread ident, 0 when free

    def try_acquire(self) -> bool:
        """Take the gate if it is free right now; tell whether it is held afterwards."""
        if self._taken.acquire(False):
            self.owner = threading.get_ident()
            return True
        return False

    def acquire(self, deadline: float | None) -> bool:
        """Wait until `deadline` (time.monotonic, None: for ever); tell whether the gate is held afterwards."""
        turn = (threading.Lock(), threading.get_ident())
        turn[0].acquire()
        with self._mutex:
            self._waiting.append(turn)
        self._hand_over()  # it may have been released before we stood in line
        try:
            got = turn[0].acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic()))
        except BaseException:
            self._leave(turn, keep=False)
            raise
        return got or self._leave(turn, keep=True)

    def _leave(self, turn: tuple[threading.Lock, int], *, keep: bool) -> bool:
        """Stop waiting; tell whether the turn came in the very moment of giving up, and is kept."""
        with self._mutex:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return False
        if not keep:
            self.release()
        return keep

    def release(self) -> None:
        """Hand over to whoever waits longest. REQUIRES: the gate is held, by whichever thread."""
        self.owner = 0
        if not self._waiting:
            self._taken.release()
        else:
            with self._mutex:
                if self._waiting:
                    turn, self.owner = self._waiting.popleft()
                    turn.release()
                    return
            self._taken.release()
        if self._waiting:
            self._hand_over()  # somebody stood in line after the look and before the release

    def _hand_over(self) -> None:
        """Give a free gate to whoever waits longest."""
        with self._mutex:
            if self._waiting and self._taken.acquire(False):
                turn, self.owner = self._waiting.popleft()
                turn.release()
