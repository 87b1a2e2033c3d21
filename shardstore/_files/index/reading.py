"""Locks that the index holds while it reads a shard, for whoever interrupts it.

A signal handler or a finalizer may run in the middle of that, in the same thread, and write to the same session. It
would wait for a lock that is held beneath it. The nesting guard of the session lock knows these locks, so it raises.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from shardstore._files.shard import _holds

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Reading:
    """Stands among the shards that a call chain is inside of."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    @staticmethod
    def inside(_turn: int) -> bool:
        """Return whether the lock is held."""
        return True


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Have updates of this shard from inside the block raise NestedUpdate instead of waiting."""
    token = _holds.set((*_holds.get(), (cast("Any", _Reading(path)), 0)))
    try:
        yield
    finally:
        _holds.reset(token)
