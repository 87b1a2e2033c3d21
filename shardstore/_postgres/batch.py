"""Transactions that wait for the disk together: each commits at once, without waiting, and `sync` flushes them all.

The server writes one log for all: a flush that follows a commit covers it, whoever made it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from shardstore._postgres.connections import ANSWER_S
from shardstore._postgres.failures import raise_refused, raise_uncertain
from shardstore._postgres.values import Lost, Refused

if TYPE_CHECKING:
    from shardstore._model import State
    from shardstore._postgres.engine import PostgresEngine
    from shardstore._postgres.transaction import PostgresTransaction
    from shardstore.engine import Transaction
    from shardstore.reports import ArchivedFile

_AT_ONCE: Final = 256  # transactions between two flushes


class PostgresBatch:
    """Transactions on one session after the other."""

    def __init__(self, engine: PostgresEngine, *, durable: bool) -> None:
        self._engine = engine
        self._durable = durable
        self._waiting = 0

    def __enter__(self) -> Self:
        """Get ready."""
        return self

    def __exit__(self, *_: object) -> None:
        """Settle, after an error too. Raises CommitUncertain."""
        self.sync()

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> PostgresTransaction:
        """Return a transaction that does not wait for the disk."""
        self._waiting += 1
        txn = self._engine.transaction(key, timeout, create=create)
        txn.waits = False
        return txn

    def cover(self, txn: Transaction) -> None:
        """Have a session's committed state synced too: it stands in the same log of the server."""

    def restore(self, archived: ArchivedFile, timeout: float | None) -> State:
        """Bring back an archived session."""
        from shardstore._postgres.archive import restore

        self._waiting += 1
        return restore(self._engine, str(archived.key), timeout, int(archived.path.rpartition("/")[2]))

    @property
    def due(self) -> bool:
        """Whether it is time to sync."""
        return self._waiting >= _AT_ONCE

    def sync(self, *, names: bool = False) -> None:  # noqa: ARG002
        """Flush the group. Raises CommitUncertain."""
        if not self._waiting or not self._durable:
            return
        self._waiting = 0
        engine = self._engine
        try:
            connection = engine.connections.take()
        except Lost as error:
            raise_uncertain(error, engine.location)
        try:
            connection.warnings.clear()
            connection.run(engine.sql.flush, deadline=time.monotonic() + ANSWER_S)
            if connection.warnings:  # the commit did not wait for its standbys
                raise_uncertain(Lost("; ".join(connection.warnings)), engine.location)
        except Lost as error:
            raise_uncertain(error, engine.location)
        except Refused as error:
            raise_refused(error, engine.location)
        finally:
            engine.connections.give(connection)
