"""Being inside one session: its mutex in this process, then its row's lock in the database.

    BEGIN                         READ COMMITTED said aloud: a snapshot from before the wait would be an old state
    SELECT … FOR UPDATE           in the same round trip; waits for this session's other writers, and for nobody else
    SELECT … line                 only where somebody else wrote since this process last looked

The lock and the lines are read by two statements: a statement that waits for a lock sees every table but the locked
row as it was before. An absent session has no row to lock, so its writer inserts one, which nobody else sees.
"""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from shardstore._inside import Token, new_token
from shardstore._model import ABSENT
from shardstore._postgres.connections import ANSWER_S, Outage
from shardstore._postgres.failures import LOCKED, is_poolers, raise_unavailable
from shardstore._postgres.known import NOTHING, Known, Unknown, damaged, follow
from shardstore._postgres.values import Lost, Refused, number
from shardstore.errors import LockTimeout, SessionNotFound, StoreClosed

if TYPE_CHECKING:
    from shardstore._model import State
    from shardstore._postgres.connection import Connection
    from shardstore._postgres.engine import PostgresEngine
    from shardstore._postgres.known import Slot

_MS_MAX: Final = 2**31 - 1
_GRACE_S: Final = 5.0  # how late the server's answer to a lock that was not free may be


class Inside:
    """One session, locked between `with` and its end."""

    __slots__ = (
        "_connection", "_create", "_timeout", "_token", "check", "engine", "known", "rows", "slot", "state", "waits",
    )  # fmt: skip

    def __init__(self, engine: PostgresEngine, slot: Slot, timeout: float | None, *, create: bool) -> None:
        self._token: Token | None = None
        self._connection: Connection | None = None
        self.engine = engine
        self.rows = engine.rows  # as the settings were once the session was locked, whoever reads them anew meanwhile
        self.slot = slot
        self._timeout = timeout
        self._create = create
        self.known = NOTHING
        self.check = True  # whether the lines are read; damaged ones cannot be
        self.waits = True  # whether a durable commit waits for the disk; in a batch the batch does
        self.state: State = ABSENT

    # Entering and leaving

    def __enter__(self) -> Self:
        """Lock, and read. Raises NestedUpdate, LockTimeout, SessionNotFound, CorruptShard, StoreUnavailable."""
        slot = self.slot
        token = self._token = new_token(slot.mutex)
        began = time.monotonic()
        try:
            if not slot.mutex.enter(token, self._timeout):
                raise LockTimeout(slot.key, time.monotonic() - began, os.getpid())
            self._lock(began)
            self.state = self.known.state
            if not (self._create or self.state.exists or not self.check):
                raise SessionNotFound(slot.key)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock."""
        self._leave()

    def abandon(self) -> None:
        """Unlock where an exception from outside came as `with` began or ended. Does nothing for another thread's."""
        if self._token is not None and self._token[0] == threading.get_ident():
            self._leave()

    def __del__(self) -> None:
        if getattr(self, "_token", None) is not None:  # not there where `__init__` was interrupted
            self._leave()

    def _leave(self) -> None:
        """Unlock; may be called again, wherever an exception from outside ended it."""
        try:
            connection, self._connection = self._connection, None
            if connection is not None and connection.pid == os.getpid():
                self._give_back(connection)
        finally:
            if self._token is not None:
                self.slot.mutex.leave(self._token)
            self._token = None

    def _give_back(self, connection: Connection) -> None:
        """Undo the open transaction, and with it the lock."""
        try:
            if not connection.is_idle:
                connection.script("ROLLBACK", deadline=time.monotonic() + _GRACE_S)
        except (Lost, Refused):
            connection.close()  # the server undoes it when it notices
        self.engine.connections.give(connection)

    # Locking

    def _lock(self, began: float) -> None:
        """Lock the row and read the lines, whatever that takes within the timeout."""
        engine = self.engine
        deadline = None if self._timeout is None else began + self._timeout
        outage = Outage(engine.location, deadline)
        while True:
            try:
                self._connection = engine.connections.take(None if deadline is None else deadline + 1.0)
                self._seize(began, deadline)
            except LockTimeout:
                if outage.error is None:
                    raise
                raise_unavailable(outage.error, engine.location)  # all the time went by without a server
            except Unknown:
                self.slot.known = NOTHING
                self.drop(rollback=True)
            except Lost as error:
                self.drop()
                outage.wait(error)
            except Refused as error:
                self.drop(rollback=True)
                if error.state == LOCKED:
                    raise self._late(began) from None
                if not is_poolers(error.state):
                    outage.wait(error)
                engine.connections.distrust()
            else:
                return

    def drop(self, *, rollback: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if rollback:
            self._give_back(connection)
        else:
            connection.close()

    def _late(self, began: float) -> LockTimeout:
        slot, engine = self.slot, self.engine
        return LockTimeout(slot.key, time.monotonic() - began, find=lambda: engine.holder(slot))

    def _limits(self, began: float, deadline: float | None) -> dict[str, int]:
        """Return what the server is to watch for us, in milliseconds; 0: for ever. Raises LockTimeout."""
        return {
            "lock_timeout": self._limit(began, deadline),
            "idle_in_transaction_session_timeout": min(_MS_MAX, math.ceil(self.engine.hold_timeout * 1000)),
            "statement_timeout": 0,
        }

    def _limit(self, began: float, deadline: float | None) -> int:
        """Return how many milliseconds the server may wait for a lock; 0: for ever. Raises LockTimeout."""
        if deadline is None:
            return 0
        left = deadline - time.monotonic()
        if self._timeout and left <= 0:
            raise self._late(began)
        return min(_MS_MAX, max(1, math.ceil(left * 1000)))

    def _seize(self, began: float, deadline: float | None) -> None:
        """Lock the session's row, or make one."""
        connection, sql, slot = self._connection, self.engine.sql, self.slot
        assert connection is not None
        answer_by = None if deadline is None else deadline + _GRACE_S
        lock = sql.lock_at_once if self._timeout == 0 else sql.lock
        rows = connection.begin(self._limits(began, deadline), lock, (slot.id,), deadline=answer_by).rows
        while not rows:
            if not self._create or self._place(connection, answer_by):
                self.known = NOTHING
                return
            # Another writer made the session and is done, or made and removed it, while we waited.
            limit = f"SET LOCAL lock_timeout = {self._limit(began, deadline)}"
            connection.script(limit, deadline=time.monotonic() + ANSWER_S)
            rows = connection.run(lock, (slot.id,), deadline=answer_by).rows
        self._take_over(connection, rows[0])

    def _place(self, connection: Connection, deadline: float | None) -> bool:
        """Insert a row that nobody else sees yet; return False where another writer made one. Raises CorruptShard."""
        sql, slot = self.engine.sql, self.slot
        # The settings come by a later statement: reindex waits for the transactions that have a number, as this one has
        # by then.
        asked = [(sql.place, (slot.id, slot.key)), (sql.settings, ())]
        made, settings = connection.run_all(asked, deadline=deadline)
        if not made.rows:
            return False
        self.rows = self.engine.learn(settings)
        if made.rows[0][0] == b"\1" and self.check:
            raise damaged(slot, self.engine.location, 0, "its lines are there, its row is not")
        return True

    def _take_over(self, connection: Connection, row: tuple[bytes | None, ...]) -> None:
        """Read the committed state, now that nobody else can change it."""
        engine, slot, known = self.engine, self.slot, self.slot.known
        if number(row[3]) != self.rows.store.generation:
            self.rows = engine.reread(connection)
        if not self.check:
            self.known = Known(number(row[0]))
            return
        if not known.is_at(row, slot.key):
            rows = connection.run(
                engine.sql.read, (slot.id, known.n, known.version), deadline=time.monotonic() + ANSWER_S
            )
            known = follow(rows.rows, known, slot, engine.location)
            engine.note(slot, known)
        self.known = known

    @property
    def key(self) -> str:
        """The session's key."""
        return self.slot.key

    def held(self) -> Connection:
        connection = self._connection
        if connection is None or self._token is None or not self.slot.mutex.holds(self._token):
            raise StoreClosed("this process does not hold the lock any more: it forked inside the update")
        return connection
