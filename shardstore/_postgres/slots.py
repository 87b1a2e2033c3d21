"""The sessions that one process knows, bounded: those met first are forgotten first, unless somebody uses them."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Final

from shardstore._postgres.known import NOTHING

if TYPE_CHECKING:
    from shardstore._postgres.known import Known, Slot

SLOTS_MAX: Final = 4096
CACHED_BYTES_MAX: Final = 64 * 1024 * 1024


class Slots:
    """The slots of one store, by key."""

    def __init__(self) -> None:
        self._all: weakref.WeakValueDictionary[str, Slot] = weakref.WeakValueDictionary()
        self._recent: dict[str, Slot] = {}  # kept although nobody uses them
        self._cached = 0  # bytes that they hold, about
        self._mutex = threading.RLock()  # re-entrant: a signal handler may use the store

    def find(self, key: str) -> Slot | None:
        """Return the slot of a session that was met lately."""
        try:
            return self._recent.get(key)
        except TypeError:  # no key at all: making its slot says so
            return None

    def add(self, slot: Slot) -> Slot:
        """Keep a slot, unless there is one of its key, which is returned instead: two would have two mutexes."""
        with self._mutex:
            slot = self._all.setdefault(slot.key, slot)
            self._recent[slot.key] = slot
            if len(self._recent) > SLOTS_MAX:
                self._forget(SLOTS_MAX // 4)
            return slot

    def note(self, slot: Slot, known: Known) -> None:
        """Remember the last seen state of a session."""
        self._cached += known.size - slot.known.size
        slot.known = known
        if self._cached > CACHED_BYTES_MAX:
            with self._mutex:
                self._forget(max(1, len(self._recent) // 2))

    def _forget(self, count: int) -> None:
        """Forget the sessions that were met first. REQUIRES: the mutex."""
        for key in list(self._recent)[:count]:
            slot = self._recent.pop(key, None)
            if slot is not None:
                slot.known = NOTHING
        self._cached = sum(slot.known.size for slot in list(self._recent.values()))

    def after_fork(self) -> None:
        """Forget, in a forked child, the parent's threads."""
        self._mutex = threading.RLock()
        for slot in list(self._all.values()):
            slot.mutex.after_fork()
