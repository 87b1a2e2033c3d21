"""Figures of a store, from its index and its directories: no shard is opened that did not change."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shardstore._files.layout import FORMAT, PREFIXES, SHARDS, count_shards, log_owner
from shardstore.errors import raise_io_error
from shardstore.reports import StoreStats

if TYPE_CHECKING:
    from pathlib import Path

    from shardstore._files.engine import FileEngine
    from shardstore._files.layout import Layout
    from shardstore._progress import Progress


def stats(engine: FileEngine, *, refresh: bool, progress: Progress | None = None) -> StoreStats:
    """Implement Store.stats."""
    (sessions, live, journals), damaged, pending, problem = engine.index.lister.answer(
        lambda view: (view.totals(), view.damaged(), view.pending, view.problem), refresh=refresh, progress=progress
    )
    files = sum(_shards(engine.layout, prefix) for prefix in PREFIXES)
    return StoreStats(
        sessions=sessions,
        tombstones=max(0, files - sessions - len(damaged)),
        bytes_live=live,
        bytes_dead=max(0, journals - live),
        bytes_total=journals,
        pending_changes=pending,
        archived=_count(engine.layout.archive),
        quarantined=_count(engine.layout.quarantine),
        damaged=tuple(f"{SHARDS}/{name}" for name in damaged),
        index_unusable=problem,
        format=FORMAT,
    )


def _shards(layout: Layout, prefix: str) -> int:
    """Count the shards of one prefix. Copies that other tools left beside them have other names."""
    try:
        return count_shards(prefix, os.listdir(layout.shard_path(prefix)))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise_io_error(error, "listing the shards", layout.shard_path(prefix))


def _count(directory: Path) -> int:
    try:
        return sum(log_owner(name) is None for name in os.listdir(directory))
    except OSError:
        return 0  # not there, or not a directory, which verify reports
