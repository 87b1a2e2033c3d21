"""Retention: choose by the rules, then archive or purge one locked session at a time. Knows engines by their protocol.

Each removal decides again inside the lock: a session that changed since it was chosen stays.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shardstore import query as queries
from shardstore.errors import InvalidQuery, LockTimeout, SessionNotFound, ShardStoreError, StoreNotFound
from shardstore.reports import Action, PruneReport, Skipped

if TYPE_CHECKING:
    from shardstore._retention import Removal, Retention
    from shardstore.engine import Engine, Progress
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
    """Do what Store.prune says."""
    query = queries.parse(rules.prefix, rules.where, "updated_at")
    removals = rules.plan(engine.select(query, refresh=not dry_run, progress=scan_progress))
    refused = None
    if purge and not trust_clock:
        refused = _clock_jumped(engine, rules, len(removals), refresh=not dry_run)
        if refused is not None and not dry_run:
            raise InvalidQuery(refused)
    actions: list[Action] = []
    skipped: list[Skipped] = []
    for done, removal in enumerate(removals):
        if progress is not None:
            progress(done, len(removals))
        if dry_run:
            actions.append(_action(removal, engine.size_of(removal.info.key), purge=purge))
            continue
        outcome = _remove(engine, removal, purge=purge)
        if isinstance(outcome, Action):
            actions.append(outcome)
        else:
            skipped.append(outcome)
    if progress is not None:
        progress(len(removals), len(removals))
    return PruneReport(dry_run, tuple(actions), sum(one.bytes_freed for one in actions), tuple(skipped), refused)


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


def _remove(engine: Engine, removal: Removal, *, purge: bool) -> Action | Skipped:
    """Archive or purge one session, unless it is in use, or changed since it was chosen."""
    key = removal.info.key
    try:
        with engine.transaction(key, 0.0, create=False) as txn:
            if txn.state.version != removal.info.version:
                return Skipped("", key, "changed since it was chosen")
            size = txn.size
            if purge:
                txn.remove()
            else:
                txn.archive()
            return _action(removal, size, purge=purge)
    except SessionNotFound:
        return Skipped("", key, "changed since it was chosen")
    except LockTimeout as error:
        return Skipped("", key, f"in use by process {error.pid}" if error.pid else "in use")
    except StoreNotFound:
        raise
    except (ShardStoreError, OSError) as error:
        return Skipped("", key, str(error), failed=True)


def _action(removal: Removal, size: int, *, purge: bool) -> Action:
    verb = "purge" if purge else "archive"
    return Action(verb, removal.info.key, size, removal.why, removal.age, size if purge else 0)
