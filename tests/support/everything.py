"""Every question that a whole store answers, asked while one of its files may be anything."""

from __future__ import annotations

from shardstore import Store


def ask_everything(store: Store) -> None:
    """Ask for lists, figures and maintenance without changes: none of them may fail for one bad file."""
    rows = {info.key for info in store.list()}
    assert rows == set(store)
    assert store.count() == len(rows)
    stats = store.stats()
    assert stats.sessions == len(rows)
    assert stats.tombstones >= 0
    store.compact(dry_run=True)
    store.verify()
    store.prune(max_entries=0, dry_run=True)
    store.archive.list()
