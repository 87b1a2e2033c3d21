"""Retention: choose by the rules, then archive or purge one locked session at a time. Knows engines by their protocol.

Each removal decides again inside the lock: a session that changed since it was chosen stays. Syncs are shared, and a
report names only synced removals.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shardstore import query as queries
from shardstore._progress import track
from shardstore.errors import (
    CommitUncertain,
    InvalidQuery,
    LockTimeout,
    SessionNotFound,
    ShardStoreError,
    StoreNotFound,
)
from shardstore.reports import Action, PruneReport, Skipped

if TYPE_CHECKING:
    from shardstore._progress import Progress
    from shardstore._retention import Removal, Retention
    from shardstore.engine import Batch, Engine
    from shardstore.session import SessionInfo


def prune(  # noqa: PLR0913  # what Store.prune is asked, and what it knows of its caller
    engine: Engine,
    rules: Retention,
    *,
    purge: bool,
    trust_clock: bool,
    dry_run: bool,
    progress: Progress | None,
    scan_progress: Progress | None,
) -> PruneReport:
    """Implement Store.prune."""
    query = queries.parse(rules.prefix, rules.where, "updated_at")
    removals = rules.plan(engine.select(query, refresh=not dry_run, progress=scan_progress))
    refused = None
    if purge and not trust_clock:
        refused = _clock_jumped(engine, rules, len(removals), refresh=not dry_run)
        if refused is not None and not dry_run:
            raise InvalidQuery(refused)
    if dry_run:
        done = [_action(one, engine.size_of(one.info.key), purge=purge) for one in track(removals, progress)]
        return PruneReport(dry_run, tuple(done), sum(one.bytes_freed for one in done), (), refused)
    with engine.batch(durable=True) as batch:
        run = _Run(batch, purge=purge)
        for removal in track(removals, progress):
            run.remove(removal)
        run.sync()
    return PruneReport(dry_run, tuple(run.actions), sum(one.bytes_freed for one in run.actions), tuple(run.skipped))


def _clock_jumped(engine: Engine, rules: Retention, count: int, *, refresh: bool) -> str | None:
    """Return why a purge is refused that looks as one by a wrong clock does: everything is old, and all of it goes."""
    if not rules.older_than or not count:  # 0 is a wish for everything, whatever the clock shows
        return None
    newest = engine.select(queries.parse(None, None, order_by="-updated_at", limit=1), refresh=refresh, progress=None)
    if not newest or _age(newest[0]) <= rules.older_than:
        return None
    if count < engine.count(queries.parse(None, None), refresh=refresh, progress=None):
        return None
    return (
        f"all {count:,} sessions would be purged, and none changed within the limit: the clock of this machine may be "
        "wrong; pass trust_clock=True (--trust-clock) if it is right, or archive instead of purging"
    )


def _age(info: SessionInfo) -> float:
    return time.time() - info.updated_at.timestamp()


class _Run:
    """One run. `actions` has only synced actions."""

    def __init__(self, batch: Batch, *, purge: bool) -> None:
        self._batch = batch
        self._purge = purge
        self._waiting: list[Action] = []  # done, and not synced yet
        self.actions: list[Action] = []
        self.skipped: list[Skipped] = []

    def remove(self, removal: Removal) -> None:
        """Archive or purge one session, unless it is in use, or changed since it was chosen."""
        if self._batch.due:
            self.sync()
        key = removal.info.key
        txn = self._batch.transaction(key, 0.0, create=False)
        try:
            with txn:
                if txn.state.version != removal.info.version:
                    raise SessionNotFound(key)
                size = txn.size
                if self._purge:
                    txn.remove()
                else:
                    txn.archive()
            self._waiting.append(_action(removal, size, purge=self._purge))
        except SessionNotFound:
            self.skipped.append(Skipped("", key, "changed since it was chosen"))
        except LockTimeout as error:
            self.skipped.append(Skipped("", key, f"in use by process {error.pid}" if error.pid else "in use"))
        except StoreNotFound:
            raise
        except (ShardStoreError, OSError) as error:
            self.skipped.append(Skipped("", key, str(error), failed=True))
        except BaseException:
            txn.abandon()
            raise

    def sync(self) -> None:
        """Sync the group, and report its actions as done, or as failed if the sync failed."""
        waiting, self._waiting = self._waiting, []
        try:
            self._batch.sync()
        except CommitUncertain as error:
            self.skipped += [Skipped("", one.key, str(error), failed=True) for one in waiting]
        else:
            self.actions += waiting


def _action(removal: Removal, size: int, *, purge: bool) -> Action:
    verb = "purge" if purge else "archive"
    return Action(verb, removal.info.key, size, removal.why, removal.age, size if purge else 0)
