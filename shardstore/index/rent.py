"""Rent or buy: reading the changed shards at each list, or refreshing once so that the next lists need not.

A refresh makes two files, publishes in SQLite and begins a generation, in which every writer pays for its next note
again. So it is done when the lists since the last one have spent as much on reading changed shards as it costs:
together never more than twice what the best choice would have cost.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRICE_S: Final = 0.001  # of a refresh, its reading aside; until one was measured, like the next
_EACH_S: Final = 0.00005  # of reading a changed shard
_WEIGHT: Final = 0.2  # of the last measurement
_CHANGED_MAX: Final = 256  # shards: what their notes and their rows take shall stay small


class Rent:
    """What the lists of one process have spent since the last refresh, and what that would cost."""

    def __init__(self) -> None:
        self._price = _PRICE_S
        self._each = _EACH_S
        self._spent = 0.0
        self._since: tuple[str, int] = ("", 0)  # epoch and generation of the last refresh

    def is_due(self, epoch: str, base: int, changed: int) -> bool:
        """Tell whether to refresh rather than read `changed` shards once more."""
        if self._since != (epoch, base):
            self._since, self._spent = (epoch, base), 0.0
        return changed > 0 and (changed > _CHANGED_MAX or self._spent + changed * self._each >= self._price)

    @contextmanager
    def paid(self, changed: int) -> Iterator[None]:
        """Measure the reading of `changed` shards."""
        began = time.monotonic()
        yield
        if changed:
            took = time.monotonic() - began
            self._spent += took
            self._each += _WEIGHT * (took / changed - self._each)

    @contextmanager
    def bought(self, changed: int) -> Iterator[None]:
        """Measure a refresh that reads `changed` shards."""
        began = time.monotonic()
        yield
        took = max(0.0, time.monotonic() - began - changed * self._each)
        self._price += _WEIGHT * (took - self._price)
