"""Watching a store that has no index, and may not be given one: every shard is read at each look."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from shardstore._files.direct.rows import Busy, is_damaged
from shardstore._files.watch.position import Known
from shardstore._model import NEVER_WAS, Seen, seen_of
from shardstore.errors import WatchExpired

if TYPE_CHECKING:
    from shardstore._files.index.place import Place

SCAN: Final = "scan."  # a token of this begins so
_SNAPSHOTS_MAX: Final = 16


class ScanChanges:
    """The changes where there is no index to go by, and none may be made: every shard is read at each look.

    A token is good in this process alone, and only the newest ones are.
    """

    def __init__(self, place: Place, prefix: str, since: str) -> None:
        """Begin at a token. Raises WatchExpired."""
        self._place = place
        self._prefix = prefix
        self.token = self.ahead = since
        self._known = self._next = self._snapshot(since)

    def _snapshot(self, token: str) -> dict[str, Known]:
        root, known = _snapshots.get(token, ("", {}))
        if root != self._place.directory:
            raise WatchExpired("the store has no index, and may not be given one: a token is soon too old")
        return known

    @classmethod
    def begin(cls, place: Place) -> str:
        """Read everything; return the token. Raises StoreNotFound, StoreIOError."""
        return _keep(place, _scan(place, {}, "")[1])

    def has_waiting(self) -> bool:
        """Return True: nothing wakes a watcher here."""
        return True

    def may_have_news(self) -> bool:
        """Return True: that is not known."""
        return True

    def look(self) -> list[Seen]:
        """Return each session that is another one than at the last look. Raises StoreNotFound, StoreIOError."""
        found, known = _scan(self._place, self._known, self._prefix)
        if known != self._known:
            self._next, self.ahead = known, _keep(self._place, known)
        return found

    def advance(self) -> None:
        """Go on behind what the last look returned."""
        self._known, self.token = self._next, self.ahead

    def close(self) -> None:
        """Close nothing."""


_snapshots: OrderedDict[str, tuple[str, dict[str, Known]]] = OrderedDict()


def _keep(place: Place, known: dict[str, Known]) -> str:
    """Keep the known version of every session under a new token; return the token."""
    token = f"{SCAN}{os.urandom(8).hex()}"
    _snapshots[token] = (place.directory, known)
    while len(_snapshots) > _SNAPSHOTS_MAX:
        _snapshots.popitem(last=False)
    return token


def _scan(place: Place, before: dict[str, Known], prefix: str) -> tuple[list[Seen], dict[str, Known]]:
    """Read every shard; return the differences from before, and all known versions."""
    found: list[Seen] = []
    known: dict[str, Known] = {}
    for names in place.shards.names(set(before)):
        for name in names:
            was = before.get(name, Known("", NEVER_WAS))
            one, state = place.shards.state(name)
            lost = not state.rev and not os.path.isdir(os.path.dirname(place.layout.shard_path(name)))
            if isinstance(one, Busy) or is_damaged(one) or lost:
                now = was
            else:
                now = Known(was.key or state.key or "", seen_of(state))
                if now.seen != was.seen and now.key.startswith(prefix):
                    found.append(Seen(now.key, was.seen, state))
            if now.seen != NEVER_WAS:
                known[name] = now
    return found, known
