"""Locks that the index holds while it reads a shard, for whoever interrupts it.

A signal handler or a finalizer may run in the middle of that, in the same thread, and write to the same session. It
would wait for a lock that is held beneath it. The nesting guard knows the place that is locked, so it raises.
"""

from __future__ import annotations

from shardstore._inside import FifoMutex, Visit


class reading(Visit):  # noqa: N801  # used as a with statement, like a function; a generator would take four times as long
    """Have updates of this shard from inside the block raise NestedUpdate instead of waiting."""

    __slots__ = ()

    def __init__(self, path: str) -> None:
        super().__init__(FifoMutex(path, path))

    def __enter__(self) -> None:
        self.try_enter()
        self.go_inside()

    def __exit__(self, *_: object) -> None:
        self.leave()
