"""Rent or buy: reading the changed shards at each list, or refreshing once so that the next lists need not.

A refresh makes two files, publishes in SQLite and begins a generation, in which every writer pays for its next note
again. So it is done when the lists of this process since the last one, the present one included, would have spent as
much on reading changed shards and laying their rows over the catalogue as it costs: together not more than twice what
the better choice would have cost them. Threads share the estimate; that they do so without a lock only blurs it.
"""

from __future__ import annotations

from typing import Final

_PRICE_S: Final = 0.001  # assumed cost of a refresh without its reading, until one was measured
_EACH_S: Final = 0.00005  # and of reading a changed shard
_LAYING_S: Final = 0.0003  # and of laying changed rows over the catalogue, however few
_WEIGHT: Final = 0.2  # of the last measurement
_CHANGED_MAX: Final = 256  # shards: so that notes, and the rows laid over the catalogue, stay few


class Rent:
    """What the lists of one process have spent since the last refresh, and what that would cost."""

    def __init__(self) -> None:
        self._price = _PRICE_S
        self._each = _EACH_S
        self._laying = _LAYING_S
        self._plain = 0.0  # an answer from the catalogue alone
        self._spent = 0.0
        self._since: tuple[str, int] = ("", 0)  # epoch and generation of the last refresh

    def follow(self, epoch: str, base: int) -> None:
        """Begin anew if anybody has refreshed."""
        if self._since != (epoch, base):
            self._since, self._spent = (epoch, base), 0.0

    def is_due(self, changed: int) -> bool:
        """Tell whether to refresh rather than read `changed` shards once more."""
        cost = changed * self._each + self._laying
        return changed > 0 and (changed > _CHANGED_MAX or self._spent + cost >= self._price)

    def paid(self, reading: float, asking: float, changed: int) -> None:
        """Count the seconds that reading `changed` shards and answering took."""
        if not changed:
            self._plain += _WEIGHT * (asking - self._plain)
            return
        laying = max(0.0, asking - self._plain)
        self._spent += reading + laying
        self._each += _WEIGHT * (reading / changed - self._each)
        self._laying += _WEIGHT * (laying - self._laying)

    def bought(self, seconds: float, changed: int) -> None:
        """Count a refresh that has read `changed` shards."""
        self._price += _WEIGHT * (max(0.0, seconds - changed * self._each) - self._price)
