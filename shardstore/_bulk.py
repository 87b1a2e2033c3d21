"""The bulk verbs: one session after the other, each locked by itself and each a record of its own; syncs are shared.

No lock is held while the caller's pairs are asked for, nor while a group is synced. Every counted session was synced.
After an interruption, the same call finishes the rest. It syncs the sessions that are there already as well: their
writer may have died before its sync.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore import query as queries
from shardstore.draft import Draft
from shardstore.errors import CorruptShard, LockTimeout, SessionExists, SessionNotFound
from shardstore.reports import RestoreReport, Skipped
from shardstore.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from shardstore.engine import Engine
    from shardstore.query import Query
    from shardstore.reports import ArchivedFile

    Row = tuple[str, Mapping[str, object], int | None]  # key, entry, microseconds since the epoch


def create_many(  # noqa: PLR0913  # what Store.create_many is asked, and the settings of its Store
    engine: Engine, rows: Iterable[Row], *, skip: bool, actor: str, durable: bool, timeout: float | None
) -> int:
    """Implement Store.create_many."""
    made = 0
    with engine.batch(durable=durable) as batch:
        for key, data, at in rows:
            if batch.due:
                batch.sync()
            txn = batch.transaction(key, timeout)
            try:
                with txn:
                    if txn.state.exists:
                        if not skip:
                            raise SessionExists(key)
                        batch.cover(txn)
                        continue
                    draft = Draft(key, txn.state, engine.logs)
                    draft.replace(data)
                    change = draft.change()
                    assert change is not None
                    txn.commit(change, actor, durable=durable, at=at)
                    made += 1
            except BaseException:
                txn.abandon()
                raise
    return made


def delete_all(engine: Engine, prefix: str, *, durable: bool, timeout: float | None) -> int:
    """Implement Store.delete_all."""
    gone = 0
    found = engine.select(queries.parse(prefix, None), refresh=True, progress=None)
    with engine.batch(durable=durable) as batch:
        for info in found:
            if batch.due:
                batch.sync()
            txn = batch.transaction(info.key, timeout, create=False)
            try:
                with txn:
                    txn.remove()
            except SessionNotFound:
                continue  # somebody else was faster
            except BaseException:
                txn.abandon()
                raise
            gone += 1
        batch.sync(names=True)
    return gone


def sessions(engine: Engine, query: Query, *, skip: bool, refresh: bool) -> Iterator[Session]:
    """Implement Store.sessions."""
    if not skip:
        for error in engine.damaged(query.prefix or "", refresh=refresh):
            raise error
    keys = [info.key for info in engine.select(query, refresh=refresh, progress=None)]
    for key, found in engine.read_many(keys):
        if isinstance(found, CorruptShard):
            if not skip:
                raise found
        elif found.exists and query.candidate_of(found):  # it may have changed since the list
            yield Session(key, found, engine.logs)


def restore_many(engine: Engine, prefix: str | None, since: float, *, timeout: float | None) -> RestoreReport:
    """Implement Archive.restore_many. `since`: seconds since the epoch."""
    restored: list[str] = []
    skipped: list[Skipped] = []
    waiting: list[str] = []
    with engine.batch(durable=True) as batch:
        for archived in _newest(engine.archived(prefix), since):
            if batch.due:
                batch.sync()
                restored += waiting
                waiting.clear()
            key = str(archived.key)
            try:
                batch.restore(archived, timeout)
                waiting.append(key)
            except SessionExists:
                skipped.append(Skipped(archived.path, key, "a session of this key is there already"))
            except LockTimeout as error:
                owner = f" by process {error.pid}" if error.pid else ""
                skipped.append(Skipped(archived.path, key, f"in use{owner}"))
            except (CorruptShard, SessionNotFound) as error:
                skipped.append(Skipped(archived.path, key, str(error), failed=True))
        batch.sync(names=True)
    return RestoreReport(tuple(restored + waiting), tuple(skipped))


def _newest(found: Iterable[ArchivedFile], since: float) -> list[ArchivedFile]:
    """Return the newest archived file of each session, unless it is older than `since`; found: the oldest first."""
    newest = {one.key: one for one in found if one.place == "archive" and one.key is not None}
    return [one for one in newest.values() if one.moved_at >= since]
