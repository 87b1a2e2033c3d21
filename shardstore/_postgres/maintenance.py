"""compact, erase_history and stats: one locked session at a time, beside running writers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shardstore._postgres.archive import forget
from shardstore._postgres.schema import FORMAT
from shardstore._postgres.values import number
from shardstore._postgres.watching import trim
from shardstore.errors import LockTimeout, SessionNotFound, ShardStoreError, StoreNotFound, StoreUnavailable
from shardstore.reports import Action, CompactReport, EraseReport, Skipped, StoreStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore._postgres.engine import PostgresEngine
    from shardstore._postgres.transaction import PostgresTransaction

_OVERHEAD: Final = 512  # bytes of a record beside its entry, about
_SLACK: Final = 8192  # bytes; less than this is not worth a rewrite
_UNREACHED: Final = (
    "backups, standbys and archived log files of the database server",
    "pages of the database, until its vacuum gives them back",
)


def compact(engine: PostgresEngine, *, dry_run: bool, progress: Callable[[int, int], None] | None) -> CompactReport:
    """Implement Store.compact."""
    run = _Compaction(engine, dry_run=dry_run)
    found = list(_candidates(engine))
    for done, (key, _) in enumerate(found):
        if progress is not None:
            progress(done, len(found))
        run.tend(key)
    if not dry_run:
        trim(engine)
    if progress is not None:
        progress(len(found), len(found))
    return CompactReport(dry_run, tuple(run.actions), sum(one.bytes_freed for one in run.actions), tuple(run.skipped))


def _candidates(engine: PostgresEngine) -> Iterator[tuple[str, bool]]:
    """Yield the keys of sessions that are deleted, or whose lines are much longer than what they lead to."""
    rows = engine.ask(
        f"SELECT key, live FROM {engine.sql.session} WHERE n > 0"
        f" AND (NOT live OR journal > {_SLACK} + 2 * (bytes - settled_bytes + {_OVERHEAD}) OR settled IS NOT NULL)"
    )
    yield from (((key or b"").decode(), live == b"\1") for key, live in rows)


class _Compaction:
    """One run."""

    def __init__(self, engine: PostgresEngine, *, dry_run: bool) -> None:
        self._engine = engine
        self._dry_run = dry_run
        self.actions: list[Action] = []
        self.skipped: list[Skipped] = []

    def tend(self, key: str) -> None:
        """Tend one session, if it is free right now; else, or when it fails, report it as skipped."""
        slot = self._engine.slot(key)
        path = f"session/{slot.id.hex()}"
        try:
            if self._dry_run:
                self._look(key)
                return
            with self._engine.transaction(key, 0.0) as txn:
                self._act(key, txn)
        except SessionNotFound:
            return
        except LockTimeout as error:
            name = error.holder or error.pid
            self.skipped.append(Skipped(path, key, f"in use{f' by process {name}' if name else ''}"))
        except (StoreNotFound, StoreUnavailable):
            raise
        except ShardStoreError as error:
            self.skipped.append(Skipped(path, key, str(error), failed=True))

    def _look(self, key: str) -> None:
        from shardstore._postgres.whole import read_whole

        known, _ = read_whole(self._engine, key)
        if known.n:
            self._need(key, known)

    def _need(self, key: str, known: object) -> str | None:
        """Return what a session needs; note it as done."""
        journal = known.journal  # type: ignore[attr-defined]
        state, log = journal.state, journal.state.log
        age = time.time() - state.updated_at / 1e6
        if not state.exists:
            self.actions.append(Action("drop-tombstone", key, journal.end, "deleted", age, journal.end))
            return "drop"
        dead = log.settled.lines - (log.kept - log.dropped)
        if log.settled.file and 2 * dead > log.settled.lines:
            why = f"{dead:,} of {log.settled.lines:,} items were dropped"
            freed = log.settled.end * dead // log.settled.lines
            self.actions.append(Action("rewrite-log", key, journal.end + log.settled.end, why, age, freed))
            return "new-log"
        need = state.size + log.bytes + _OVERHEAD
        if journal.records > 1 and journal.end > _SLACK + 2 * need:
            why = f"{journal.records:,} records for {state.size:,} bytes"
            self.actions.append(Action("rewrite", key, journal.end, why, age, journal.end - need))
            return "rewrite"
        return None

    def _act(self, key: str, txn: PostgresTransaction) -> None:
        before = len(self.actions)
        need = self._need(key, txn.known) if txn.known.n else None
        try:
            if need == "drop":
                txn.remove()
            elif need is not None:
                txn.rewrite(new_log=need == "new-log")
        except BaseException:
            del self.actions[before:]
            raise


def erase_history(engine: PostgresEngine, key: str, timeout: float | None) -> EraseReport:
    """Implement Store.erase_history."""
    slot = engine.slot(key)
    with engine.transaction(key, timeout, create=False) as txn:
        txn.rewrite(new_log=bool(txn.state.log.settled.file))
        removed = [f"session/{slot.id.hex()}"]
        rows = engine.ask(f"SELECT n, place FROM {engine.sql.archive} WHERE id = $1::bytea", (slot.id,))
        for n, place in rows:
            if forget(engine, number(n)):
                removed.append(f"{(place or b'').decode()}/{number(n)}")
    return EraseReport(key, tuple(removed), _UNREACHED)


def stats(engine: PostgresEngine) -> StoreStats:
    """Implement Store.stats."""
    row = engine.ask(
        "SELECT count(*) FILTER (WHERE live), count(*) FILTER (WHERE NOT live AND n > 0),"
        " coalesce(sum(bytes) FILTER (WHERE live), 0)::bigint, coalesce(sum(journal + settled_bytes), 0)::bigint,"
        f" (SELECT count(*) FROM {engine.sql.archive} WHERE place = 'archive'),"
        f" (SELECT count(*) FROM {engine.sql.archive} WHERE place <> 'archive') FROM {engine.sql.session}"
    )[0]
    sessions, tombstones, live, total, kept, aside = map(number, row)
    return StoreStats(
        sessions=sessions,
        tombstones=tombstones,
        bytes_live=live,
        bytes_dead=max(0, total - live),
        bytes_total=total,
        pending_changes=0,
        archived=kept,
        quarantined=aside,
        damaged=(),
        index_unusable=None,
        format=FORMAT,
    )
