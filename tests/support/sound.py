"""What must hold of every store when its test ends, in terms of the public API alone."""

from __future__ import annotations

from shardstore import Store


def check_store(store: Store) -> None:
    """Check a quiet store: verify, list against the sessions themselves, stats, and a compact that changes nothing."""
    report = store.verify()
    assert report.ok, report.problems
    rows = {info.key: (info.version, info.updated_at) for info in store.list()}
    assert rows == {key: (store[key].version, store[key].updated_at) for key in store}
    stats = store.stats()
    assert (stats.sessions, len(stats.damaged), store.count()) == (len(rows), 0, len(rows)), stats
    housekeeping = store.compact(dry_run=True)
    assert housekeeping.ok, housekeeping.skipped
    dry = store.prune(max_entries=0, dry_run=True)
    assert dry.ok, dry.skipped
    assert sorted(action.key or "" for action in dry.actions if action.action == "archive") == sorted(rows)
