"""The engine in one schema of a PostgreSQL database, one for each URL and process."""

from __future__ import annotations

import os
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING

from shardstore._journal.replay import with_key
from shardstore._keys import check_key
from shardstore._postgres import address, archive, maintenance, schema, watching, whole
from shardstore._postgres import holders as locks
from shardstore._postgres import reindex as reindexing
from shardstore._postgres import verify as verification
from shardstore._postgres.batch import PostgresBatch
from shardstore._postgres.connections import Connections
from shardstore._postgres.known import NOTHING, Slot, Unknown, follow
from shardstore._postgres.listing import Listing
from shardstore._postgres.logs import Logs
from shardstore._postgres.rows import Rows
from shardstore._postgres.slots import Slots
from shardstore._postgres.statements import Statements
from shardstore._postgres.transaction import PostgresTransaction
from shardstore._postgres.watching import PostgresChanges
from shardstore._postgres.wire import Settings, close_inherited
from shardstore.errors import CorruptShard, StoreClosed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shardstore._log import Item
    from shardstore._model import State
    from shardstore._postgres.connection import Connection
    from shardstore._postgres.known import Known
    from shardstore._postgres.values import Answer, Value
    from shardstore._progress import Progress
    from shardstore.query import Query
    from shardstore.reports import (
        ArchivedFile,
        CompactReport,
        EraseReport,
        LockHolder,
        PurgeReport,
        StoreStats,
        VerifyReport,
    )
    from shardstore.session import SessionInfo


# Weak: what keeps an engine alive are the Store objects that use it, whether or not somebody closes them.
_engines: weakref.WeakValueDictionary[str, PostgresEngine] = weakref.WeakValueDictionary()
_registry = threading.RLock()  # re-entrant: a Store may be opened, or collected, by a signal handler


def open_engine(url: str, *, create: bool, read_only: bool, indexed: tuple[str, ...] | None) -> PostgresEngine:
    """Join the engine of the store at `url`; every call is matched by one of `PostgresEngine.leave`.

    Raises ValueError, StoreNotFound, StoreUnavailable, UnsupportedFormat, StoreIOError.
    """
    engine = _engines.get(url)
    if engine is None or engine.ended:
        engine = PostgresEngine(address.parse(url))
    try:
        engine.open(create=create and not read_only, indexed=indexed)  # without the registry: the network may be slow
        with _registry:
            present = _engines.get(url)
            if present is not None and not present.ended:
                present.join()
                return present
            if engine.ended:
                raise StoreClosed("the last Store on this URL was closed in this very moment; open it again")
            _engines[url] = engine
            engine.join()
            return engine
    finally:
        engine.close_unused()


class PostgresEngine:
    """The sessions of one store."""

    root = None
    remote = True
    rows: Rows

    def __init__(self, at: address.Address) -> None:
        self.location = at.location
        self.hold_timeout = at.hold_timeout
        self.process = str(os.getpid())
        self.ended = False  # the last Store object was closed
        self.sql = Statements(at.schema)
        self.schema = at.schema
        self._at = at
        self.connections = Connections(Settings(at))
        self.logs = Logs(self.connections, self.sql, self.location)
        self._members = 0  # Store objects that use it
        self._slots = Slots()
        _living.add(self)

    def open(self, *, create: bool, indexed: tuple[str, ...] | None) -> None:
        """Look at the store, or make it. Raises as `open_engine`."""
        if create:
            schema.make(self.connections, self.schema, indexed or (), self.location)
        self.connections.using(self.reread, patience=0.0)
        have = self.rows.store.indexed
        if indexed is not None and set(indexed) != set(have):
            raise ValueError(f"the indexed fields are {have!r}, not {indexed!r}; Store.reindex changes them")

    def reread(self, connection: Connection) -> Rows:
        """Read the store's settings: somebody changed them, or nobody here has read them."""
        self.rows = rows = Rows(schema.read(connection, self.sql.settings, self.location))
        return rows

    def learn(self, settings: Answer) -> Rows:
        """Return what the answer to `Statements.settings` means for rows. Raises UnsupportedFormat."""
        store, rows = schema.understood(settings.rows, self.location), self.rows
        if store != rows.store:
            self.rows = rows = Rows(store)
        return rows

    def place(self, key: str) -> None:
        """Return None: a session has no file. Raises InvalidKey."""
        check_key(key)

    # Sessions

    def slot(self, key: str) -> Slot:
        """Return this process's slot of a session. Raises InvalidKey."""
        return self._slots.find(key) or self._slots.add(Slot(key, f"{self.rows.store.id}:{key}"))

    def note(self, slot: Slot, known: Known) -> None:
        """Remember the last seen state of a session."""
        self._slots.note(slot, known)

    def ask(self, statement: str, values: Sequence[Value] = ()) -> list[tuple[bytes | None, ...]]:
        """Return the rows of a statement that only reads. Raises StoreUnavailable, StoreIOError, StoreNotFound."""
        return self.connections.ask(statement, values).rows

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> PostgresTransaction:
        """Return a transaction on a session. Raises InvalidKey."""
        return PostgresTransaction(self, self.slot(key), timeout, create=create)

    # For an event loop: everything here takes a round trip, and every commit is a transaction of the server

    def is_ready(self, key: str) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def at_hand(self, key: str) -> None:
        """Return None."""

    def group(self, key: str, timeout: float | None, *, create: bool) -> None:
        """Return None."""

    def tend(self, key: str, timeout: float | None) -> None:
        """Return at once: nothing was left."""

    def batch(self, *, durable: bool) -> PostgresBatch:
        """Return a batch of transactions that wait for the disk together."""
        return PostgresBatch(self, durable=durable)

    def read(self, key: str) -> State:
        """Return a session's committed state. Raises CorruptShard, StoreUnavailable, StoreNotFound, InvalidKey."""
        slot = self.slot(key)
        known = slot.known
        if known.n:  # most reads are of what is known: that takes a smaller question
            seen = self.ask(self.sql.look, (slot.id,))
            if seen and known.is_at(seen[0], key):
                return known.state
        while True:
            rows = self.ask(self.sql.read, (slot.id, known.n, known.version))
            try:
                found = follow(rows, known, slot, self.location)
            except Unknown:
                known = NOTHING
                continue
            if found is not slot.known:
                self.note(slot, found)
            return found.state

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, State | CorruptShard]]:
        """Yield each key once, with its committed state or its damage."""
        for key in dict.fromkeys(keys):
            try:
                yield key, self.read(key)
            except CorruptShard as error:
                yield key, error

    def size_of(self, key: str) -> int:
        """Return the bytes of a session's lines, its log's included; 0 where there is none."""
        rows = self.ask(
            f"SELECT journal + settled_bytes FROM {self.sql.session} WHERE id = $1::bytea", (self.slot(key).id,)
        )
        return int.from_bytes(rows[0][0] or b"") if rows else 0

    def remarks(self, key: str) -> list[str]:
        """Return nothing: a row has no odd forms. Raises CorruptShard."""
        self.read(key)
        return []

    def history(self, key: str) -> list[State]:
        """Return the states of this incarnation that its lines hold, oldest first."""
        return whole.history(self, key)

    # Watching

    def token(self, *, write: bool) -> str:  # noqa: ARG002
        """Return where the store is now."""
        return self.connections.using(partial(watching.here, self))

    def changes(self, prefix: str, since: str | None, *, write: bool) -> PostgresChanges:
        """Return the changes from a token on, or from now on. Raises WatchExpired."""
        return PostgresChanges(self, prefix, self.token(write=write) if since is None else since)

    def changes_in(self, key: str | None) -> None:
        """Return None: no directory changes with a session."""

    # Lists: `refresh` and `progress` mean nothing, for the rows are always right.

    def select(self, query: Query, *, refresh: bool, progress: Progress | None) -> list[SessionInfo]:  # noqa: ARG002
        """Return the sessions that answer a query."""
        return self.connections.using(lambda connection: Listing(self, connection).select(query))

    def count(self, query: Query, *, refresh: bool, progress: Progress | None) -> int:  # noqa: ARG002
        """Return how many sessions answer a query."""
        return self.connections.using(lambda connection: Listing(self, connection).count(query))

    def keys(self, *, refresh: bool, progress: Progress | None) -> Iterator[str]:  # noqa: ARG002
        """Yield every key in ascending order."""
        after: str | None = ""
        while after is not None:
            found, after = self.connections.using(partial(self._keys, after))
            yield from found

    def _keys(self, after: str, connection: Connection) -> tuple[list[str], str | None]:
        return Listing(self, connection).keys(after)

    def reindex(self, fields: tuple[str, ...], progress: Progress | None) -> None:
        """Have these fields indexed, in every process that uses the store."""
        reindexing.reindex(self, fields, progress)

    def damaged(self, prefix: str, *, refresh: bool) -> Iterator[CorruptShard]:  # noqa: ARG002
        """Yield nothing: lists leave no session out, for they do not read lines."""
        return iter(())

    # Maintenance

    def compact(self, *, dry_run: bool, progress: Progress | None, scan_progress: Progress | None) -> CompactReport:  # noqa: ARG002
        """Implement Store.compact."""
        return maintenance.compact(self, dry_run=dry_run, progress=progress)

    def erase_history(self, key: str, timeout: float | None) -> EraseReport:
        """Implement Store.erase_history."""
        return maintenance.erase_history(self, key, timeout)

    def restore(self, key: str, timeout: float | None) -> State:
        """Implement Store.archive.restore."""
        return archive.restore(self, key, timeout)

    def archived(self, prefix: str | None) -> list[ArchivedFile]:
        """Implement Store.archive.list."""
        return archive.archived(self, prefix)

    def purge_archive(
        self, older_than: float, *, prefix: str | None, dry_run: bool, progress: Progress | None
    ) -> PurgeReport:
        """Implement Store.archive.purge."""
        return archive.purge(self, older_than, prefix=prefix, dry_run=dry_run, progress=progress)

    def verify(self, *, repair: bool, note: bool, progress: Progress | None) -> VerifyReport:  # noqa: ARG002
        """Implement Store.verify."""
        return verification.verify(self, repair=repair, progress=progress)

    def stats(self, *, refresh: bool, progress: Progress | None) -> StoreStats:  # noqa: ARG002
        """Implement Store.stats."""
        return maintenance.stats(self)

    def holders(self) -> list[LockHolder]:
        """Return the held locks of this store, where the server shows them."""
        return locks.holders(self)

    def holder(self, slot: Slot) -> tuple[int | None, str | None]:
        """Return who holds a session's lock: the process id, and a description."""
        return locks.holder(self, slot)

    def journal(self, key: str) -> tuple[bytes, list[Item]]:
        """Return a session's journal, and the settled items of its log. Raises CorruptShard, LogReplaced."""
        return whole.journal(self, key)

    def put_journal(self, txn: PostgresTransaction, key: str, data: bytes, items: Iterable[Item]) -> None:
        """Put a journal in the place of a session's own, inside its transaction."""
        listed = list(items)
        text, journal = with_key(data, key, os.urandom(8).hex() if listed else None)
        txn.put(text, journal, listed)

    def archived_journal(self, archived: ArchivedFile) -> tuple[bytes, list[Item]]:
        """Return the same of an archived session. Raises CorruptShard, LogReplaced, SessionNotFound."""
        return archive.journal(self, archived)

    def put_archived(self, key: str, data: bytes, items: Iterable[Item], moved_at: float) -> None:
        """Put a journal into the archive, as if it had moved there at this moment."""
        archive.put(self, key, data, list(items), moved_at)

    # Life

    def join(self) -> None:
        """Count one more Store object."""
        with _registry:
            self._members += 1

    def leave(self) -> None:
        """Leave; the last one out closes all connections."""
        with _registry:
            self._members -= 1
            self.close_unused()

    def close_unused(self) -> None:
        """Close all connections unless a Store uses them."""
        if self._members <= 0:
            self.ended = True
            self.connections.close()

    def after_fork(self) -> None:
        """Forget the parent's locks and connections."""
        self.process = str(os.getpid())
        self.connections.after_fork(Settings(self._at))
        self._slots.after_fork()


_living: weakref.WeakSet[PostgresEngine] = weakref.WeakSet()


def _after_fork() -> None:
    """Close, in a forked child, every inherited descriptor: it would keep the parent's locks alive."""
    global _registry  # noqa: PLW0603  # the old one may be held by a thread that the child does not have
    _registry = threading.RLock()
    close_inherited()
    for engine in list(_living):
        engine.after_fork()


os.register_at_fork(after_in_child=_after_fork)
