"""Watching a store in memory: notes of the changes, in order, and a watcher's place in them."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from shardstore._model import NEVER_WAS, Seen, seen_of
from shardstore.errors import WatchExpired

if TYPE_CHECKING:
    from shardstore._memory.engine import MemoryEngine
    from shardstore._model import State


class Notes:
    """The changed sessions, in order, for watchers: the key, and its version before."""

    def __init__(self) -> None:
        self._notes: list[tuple[str, str]] = []
        self._dropped = 0
        self._id = os.urandom(8).hex()
        self._mutex = threading.RLock()  # re-entrant: a signal handler may commit in the middle of another commit

    def add(self, key: str, before: State) -> None:
        """Note a change. REQUIRES: inside the session's lock, after the change: whoever sees the note sees it too."""
        with self._mutex:
            self._notes.append((key, seen_of(before)))

    @property
    def end(self) -> int:
        """How many changes there were."""
        with self._mutex:
            return self._dropped + len(self._notes)

    def since(self, place: int) -> list[tuple[str, str]]:
        """Return the changes behind a place. Raises WatchExpired."""
        with self._mutex:
            if not self._dropped <= place <= self._dropped + len(self._notes):
                raise WatchExpired
            return self._notes[place - self._dropped :]

    def token(self, place: int) -> str:
        """Return a place as a text."""
        return f"memory.{self._id}.{place}"

    def place(self, token: str) -> int:
        """Return the place that a token is of. Raises WatchExpired."""
        head, _, place = token.rpartition(".")
        if head != f"memory.{self._id}" or not place.isdecimal():
            raise WatchExpired
        self.since(int(place))
        return int(place)

    def trim(self, count: int) -> None:
        """Forget all but the newest."""
        with self._mutex:
            more = max(0, len(self._notes) - count)
            self._dropped += more
            del self._notes[:more]

    def after_fork(self) -> None:
        """Forget the parent's threads."""
        self._mutex = threading.RLock()


class MemoryChanges:
    """The changes from a place in the notes on."""

    def __init__(self, engine: MemoryEngine, prefix: str, place: int) -> None:
        self._engine = engine
        self._prefix = prefix
        self._place = self._next = place

    @property
    def token(self) -> str:
        """The place up to which everything was returned, and `advance` called."""
        return self._engine.notes.token(self._place)

    @property
    def ahead(self) -> str:
        """The place behind what the last look returned."""
        return self._engine.notes.token(self._next)

    def has_waiting(self) -> bool:
        """Return False: every noted change is committed."""
        return False

    def may_have_news(self) -> bool:
        """Return whether something was noted since the last look."""
        return self._engine.notes.end != self._place

    def look(self) -> list[Seen]:
        """Return each session that is another one than the watcher knows. Raises WatchExpired."""
        notes = self._engine.notes.since(self._place)
        self._next = self._place + len(notes)
        first: dict[str, str] = {}
        for key, before in notes:
            first.setdefault(key, before)
        seen = [Seen(key, first[key], self._engine.read(key)) for key in first if key.startswith(self._prefix)]
        return [one for one in seen if one.before == NEVER_WAS or one.before != seen_of(one.state)]

    def advance(self) -> None:
        """Go on behind what the last look returned."""
        self._place = self._next

    def close(self) -> None:
        """Close nothing."""
