"""One locked visit to one session in memory, and a batch of them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Self

from shardstore._codec import ENTRY_BYTES_MAX
from shardstore._inside import FifoMutex, Token, new_token
from shardstore._journal.record import next_record
from shardstore._log import SETTLE_BYTES, Settled, moved_to
from shardstore._model import ABSENT
from shardstore.errors import InvalidEntry, LockTimeout, SessionNotFound, StoreClosed

if TYPE_CHECKING:
    from shardstore._memory.engine import MemoryEngine
    from shardstore._model import Change, State
    from shardstore.reports import ArchivedFile


class MemoryTransaction:
    """One session, locked between `with` and its end."""

    _token: Token | None = None

    def __init__(
        self, engine: MemoryEngine, key: str, mutex: FifoMutex, timeout: float | None, *, create: bool
    ) -> None:
        self._engine = engine
        self._key = key
        self._mutex = mutex
        self._timeout = timeout
        self._create = create
        self.state: State = ABSENT

    def __enter__(self) -> Self:
        """Lock, and read the committed state. Raises NestedUpdate, LockTimeout, SessionNotFound."""
        token = self._token = new_token(self._mutex)
        began = time.monotonic()
        try:
            if not self._mutex.enter(token, self._timeout):
                raise LockTimeout(self._key, time.monotonic() - began, os.getpid())
            self.state = self._engine.read(self._key)
            if not (self._create or self.state.exists):
                raise SessionNotFound(self._key)
        except BaseException:
            self._mutex.leave(token)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock."""
        if self._token is not None:
            self._mutex.leave(self._token)

    __del__ = abandon = __exit__  # an exception from outside may come before `with` knows that it entered

    def commit(self, change: Change, actor: str, *, durable: bool, at: int | None = None) -> None:
        """Commit a change. Raises InvalidEntry; StoreClosed in a child that was forked inside the transaction."""
        if self._token is None or not self._mutex.holds(self._token):
            raise StoreClosed("this process does not hold the lock any more: it forked inside the update")
        _, state = next_record(self.state, change, self._key, actor, durable=durable, at=at)
        if state.entry_bytes > ENTRY_BYTES_MAX:
            raise InvalidEntry("entry", f"{state.entry_bytes:,} bytes of JSON; at most {ENTRY_BYTES_MAX:,} are allowed")
        logs = self._engine.logs
        if state.log.bytes > SETTLE_BYTES:
            state = state._replace(log=moved_to(state.log, logs.settle(state.log)))
        self._engine.sessions.setdefault(self._key, []).append(state)
        self._engine.notes.add(self._key, self.state)
        logs.replace(self.state.log, state.log)
        self.state = state

    rewrite_due = False

    def sync(self) -> None:
        """Return at once: nothing was put off."""

    @property
    def key(self) -> str:
        """The session's."""
        return self._key

    @property
    def token(self) -> Token | None:
        """The token of this visit in the nesting guard."""
        return self._token

    def archive(self) -> None:
        """Move the session to the archive, with its history."""
        self._engine.archive.append((time.time(), self._engine.sessions.pop(self._key)))
        self._gone()

    def remove(self) -> None:
        """Remove the session, with its history."""
        self._engine.sessions.pop(self._key, None)
        self._gone()

    def rename(self, target: Self) -> None:
        """Move the session to another key."""
        states = self._engine.sessions.pop(self._key)
        self._engine.sessions[target._key] = [state._replace(key=target._key) for state in states]
        self._engine.notes.add(target._key, target.state)
        target.state = self._engine.read(target._key)
        self._gone()

    def _gone(self) -> None:
        self._engine.notes.add(self._key, self.state)
        self.state = ABSENT

    def forget_past(self) -> None:
        """Forget every revision but the present one, and the earlier items of its log."""
        logs, log = self._engine.logs, self.state.log
        if log.settled.file:
            log = moved_to(
                log, logs.settle(log._replace(settled=Settled(), pending=tuple(logs.all(log)), kept=log.dropped))
            )
            logs.replace(self.state.log, log)
        self.state = self.state._replace(log=log)
        self._engine.sessions[self._key] = [self.state]

    @property
    def size(self) -> int:
        """The bytes of the entry."""
        return self.state.size


class MemoryBatch:
    """Transactions with nothing to sync."""

    due = False

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    def __enter__(self) -> Self:
        """Ignore it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ignore it."""

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> MemoryTransaction:
        """Return a transaction on a session."""
        return self._engine.transaction(key, timeout, create=create)

    def restore(self, archived: ArchivedFile, timeout: float | None) -> State:
        """Bring an archived session back."""
        return self._engine.restore(str(archived.key), timeout)

    def cover(self, txn: object) -> None:
        """Ignore it."""

    def sync(self, *, names: bool = False) -> None:
        """Ignore it."""
