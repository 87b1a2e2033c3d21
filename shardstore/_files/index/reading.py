"""Locks that the index holds while it reads a shard, for whoever interrupts it.

A signal handler or a finalizer may run in the middle of that, in the same thread, and write to the same session. It
would wait for a lock that is held beneath it. The nesting guard knows the place that is locked, so it raises.
"""

from __future__ import annotations

from shardstore._inside import FifoMutex, go_inside, new_token


class reading:  # noqa: N801  # used as a with statement, like a function; a generator would take four times as long
    """Have updates of this shard from inside the block raise NestedUpdate instead of waiting."""

    __slots__ = ("_mutex", "_token")

    def __init__(self, path: str) -> None:
        self._mutex = FifoMutex(path, path)
        self._token = new_token(self._mutex)

    def __enter__(self) -> None:
        self._mutex.try_enter(self._token)
        go_inside(self._token)

    def __exit__(self, *_: object) -> None:
        self._mutex.leave(self._token)

    def __del__(self) -> None:
        """Leave where an exception from outside came between entering and the block, or in front of leaving."""
        token = getattr(self, "_token", None)  # not there where `__init__` was interrupted
        if token is not None and self._mutex.holds(token):
            self._mutex.leave(token)
