"""Locks that the index holds while it reads a shard, for whoever interrupts it.

A signal handler or a finalizer may run in the middle of that, in the same thread, and write to the same session. It
would wait for a lock that is held beneath it. The nesting guard of the session lock knows these locks, so it raises.
"""

from __future__ import annotations

from typing import Any, cast

from shardstore._files.shard import _holds


class _Reading:
    """Stands among the shards that a call chain is inside of."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    @staticmethod
    def inside(_turn: int) -> bool:
        """Return whether the lock is held."""
        return True


class reading:  # noqa: N801  # used as a with statement, like a function; a generator would take four times as long
    """Have updates of this shard from inside the block raise NestedUpdate instead of waiting."""

    __slots__ = ("_reading", "_token")

    def __init__(self, path: str) -> None:
        self._reading = (cast("Any", _Reading(path)), 0)

    def __enter__(self) -> None:
        self._token = _holds.set((*_holds.get(), self._reading))

    def __exit__(self, *_: object) -> None:
        _holds.reset(self._token)
