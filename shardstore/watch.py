"""Watching: sessions that change, as it happens. `Store.watch` and `Store.token` stand on this.

An engine returns the sessions that may have changed since a token, as they are now (engine.py, Changes). This module
decides the kind of each change, whether the caller asked for it, and when to look again, for every engine alike.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

from shardstore._model import UNKNOWN
from shardstore._wake import Rests
from shardstore.errors import InvalidQuery
from shardstore.log import moment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from shardstore._model import Seen
    from shardstore.store import Store

Kind = Literal["created", "changed", "deleted"]

_NEXT_S: Final = 0.02  # seconds from a look that found something to the next: what comes in between is one change
_SHARE: Final = 10  # a watcher rests so many times as long as its last look took, up to a second


class Change(NamedTuple):
    """The change of one session since the watcher last looked at it. Several commits in between are one change.

    >>> before = store.token()
    >>> done = store.patch("agent:main", {"status": "done"})
    >>> change = next(store.watch("agent:", since=before))
    >>> change.key, change.kind, change.rev, change.version == done.version, change.updated_at == done.updated_at
    ('agent:main', 'changed', 2, True, True)
    >>> list(store.watch("agent:", since=change.token, timeout=0))
    []
    """

    key: str
    kind: Kind
    rev: int  # like the next two: of the session as it is now, or of its deletion
    version: str
    updated_at: datetime | None  # None where the session was removed whole, by `prune` or `delete_all`
    token: str  # for watch(since=...): nothing behind this change is missed


class Watch:
    """Changes as they come; `Store.watch` returns it. Iterate over it, and close it when done.

    The example of each method goes on from here:

    >>> watch = store.watch("agent:", timeout=0)
    >>> token = watch.token
    >>> session = store.patch("agent:main", {"status": "done"})
    >>> [(change.key, change.kind) for change in watch]
    [('agent:main', 'changed')]
    """

    def __init__(
        self, store: Store, prefix: str | None, since: str | None, timeout: float | None, *, write: bool
    ) -> None:
        if prefix is not None and type(prefix) is not str:
            raise InvalidQuery(f"prefix is a str, not {type(prefix).__name__}")
        if since is not None and type(since) is not str:
            raise InvalidQuery(f"since is a token, a str, not {type(since).__name__}")
        if timeout is not None and (type(timeout) not in (int, float) or not timeout >= 0):
            raise InvalidQuery(f"timeout is a number of seconds from 0 on, or None, not {timeout!r}")
        self._timeout = timeout
        self._store: Store | None = store  # one that was closed says so at the next look
        self._changes = store.engine.changes(prefix or "", since, write=write)
        self._found: list[Change] = []  # not returned yet, in reverse
        self._before = ""  # the token in front of them
        self.rests: Rests = Rests(store.engine.changes_in(None))
        self._took = 0.0  # seconds, by the last look
        self._quiet_since = time.monotonic()

    @property
    def token(self) -> str:
        """The place of this watcher: watch(since=it) misses no change that this one has not returned."""
        return self._before if self._found else self._changes.token

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        while not self._found:
            self.look()
            if not self._found:
                pause = self.pause()
                if pause is None:
                    raise StopIteration
                self.rests.wait(pause)
        self._quiet_since = time.monotonic()
        return self._found.pop()

    def ready(self) -> list[Change]:
        """Return the changes that have come and were not returned yet, without waiting; empty after `close`.

        Raises WatchExpired, StoreClosed.

        >>> session = store.create("agent:new", {})
        >>> [(change.key, change.kind) for change in watch.ready()]
        [('agent:new', 'created')]
        """
        if not self._found:
            self.look()
        found, self._found = self._found[::-1], []
        if found:
            self._quiet_since = time.monotonic()
        return found

    def may_have_news(self) -> bool:
        """Return False where a look would find nothing; waits for nothing. Raises StoreClosed."""
        if self._store is None:
            return False
        self._store.engine.location  # noqa: B018  # raises StoreClosed
        return bool(self._found) or self._changes.may_have_news()

    def look(self) -> None:
        """Look once. REQUIRES: everything found before was returned."""
        if not self.may_have_news():
            return
        began, before = time.monotonic(), self._changes.token
        seen = self._changes.look()
        self._took = time.monotonic() - began
        if seen:
            # Whoever stops in the middle of what one look found, and goes on from there, gets all of it again.
            tokens = [before] * (len(seen) - 1) + [self._changes.ahead]
            self._before = before
            self.rests.begin(_NEXT_S)
            self._found = [_change(one, token) for one, token in zip(seen, tokens, strict=True)][::-1]
        self._changes.advance()  # after that: whatever interrupts this call takes no change with it

    def pause(self) -> float | None:
        """Return how many seconds to rest before the next look; None if there is no next one."""
        left = None if self._timeout is None else self._timeout - (time.monotonic() - self._quiet_since)
        if self._store is None or (left is not None and left <= 0):
            return None
        return self.rests.pause(least=_SHARE * self._took, most=left, waiting=self._changes.has_waiting())

    def close(self) -> None:
        """End the iteration, also while another thread waits in it. A second call does nothing.

        >>> watch.close()
        >>> list(watch)
        []
        """
        self._store, self._found = None, []
        self._changes.close()
        self.rests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _change(seen: Seen, token: str) -> Change:
    key, before, state = seen
    if state.exists:
        same = before.startswith(f"{state.incarnation}.") or (before == UNKNOWN and state.rev > 1)
        return Change(key, "changed" if same else "created", state.rev, state.version, moment(state.updated_at), token)
    if state.rev:
        return Change(key, "deleted", state.rev, state.version, moment(state.updated_at), token)
    version = before.lstrip("~")
    rev = version.partition(".")[2].partition("-")[0]
    return Change(key, "deleted", int(rev or 0), version if rev else state.version, None, token)
