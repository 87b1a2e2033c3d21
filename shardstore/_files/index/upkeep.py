"""The index for maintenance: its state, its check, and tidying it up."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore._files.index.audit import Audit
from shardstore._files.index.catalog import fingerprint, stamp
from shardstore._files.index.changes import Unusable
from shardstore._files.index.rebuild import sweep
from shardstore._files.index.refresh import FAILURES, seal_of, where_usable
from shardstore._files.layout import PREFIXES
from shardstore.errors import ShardStoreError

if TYPE_CHECKING:
    from shardstore._files.index.catalog import Meta
    from shardstore._files.index.changes import ChangeFile, Pending
    from shardstore._files.index.lister import Lister
    from shardstore._progress import Progress

_WORTH_IT: Final = 0.25  # share of the catalog that is unused
_LOOKS: Final = 5


def pending(lister: Lister) -> tuple[int, str | None]:
    """Return how many shards the next list reads, and why it cannot go by the catalog, or None."""
    problem = "it does not stand still"
    for _ in range(_LOOKS):
        try:
            return _pending(lister), None
        except ShardStoreError:
            raise
        except FAILURES as error:
            problem = str(error)
    return 0, problem


def _pending(lister: Lister) -> int:
    return len(marked(lister)[2].names)


def marked(lister: Lister) -> tuple[Meta, ChangeFile, Pending]:
    """Return what the catalog goes with, which can be believed. Raises Unusable, OSError, sqlite3.Error."""
    with closing(lister.place.take(write=False)) as catalog:
        meta, file, pending = lister.begin(catalog)
        if pending.seal != seal_of(meta.mark, fingerprint(lister.place.catalog_path)) or not file.is_named():
            raise Unusable("the catalog is not as it was sealed")
        return meta, file, pending


def audit(lister: Lister, progress: Progress | None) -> list[tuple[str, str]]:
    """Return (name of the shard, problem) for every row that a list would wrongly believe.

    An index that is missing, damaged or behind is no problem: it knows that it is, and is rebuilt or refreshed.
    """
    place = lister.place
    with where_usable():
        for _ in range(_LOOKS):
            with closing(place.take(write=False)) as catalog:
                meta, file, changes = lister.begin(catalog)
                found = Audit(catalog, place.shards, changes.names).problems(progress)
                seal = seal_of(meta.mark, fingerprint(place.catalog_path))
                # What was marked as changed while we looked is no mistake.
                changes = file.read(meta.mark)
                if changes.seal == seal and file.is_named():
                    return [(name, wrong) for name, wrong in found.items() if name not in changes.names]
    return []


class Believed(NamedTuple):
    """What the catalog says of a session."""

    key: str
    rev: int
    version: str
    marked: bool  # a writer has marked it as changed since: a list reads its shard


def believed(lister: Lister) -> dict[str, Believed]:
    """Return what the catalog holds of each session, by the name of its shard; nothing where it cannot be believed."""
    place = lister.place
    with where_usable(), closing(place.take(write=False)) as catalog:
        meta, file, _ = lister.begin(catalog)
        rows = {}
        for prefix in PREFIXES:
            for name, key in catalog.known(prefix).items():
                row = None if key is None else catalog.row(key)
                if row is not None:
                    rows[name] = Believed(row[0], row[1], row[2], marked=False)
        changes = file.read(meta.mark)
        if changes.seal != seal_of(meta.mark, fingerprint(place.catalog_path)) or not file.is_named():
            return {}
        return {name: row._replace(marked=name in changes.names) for name, row in rows.items()}
    return {}


def vacuum(lister: Lister) -> int:
    """Delete leftovers in index/, and give unused space back; return the bytes freed.

    Nothing where somebody refreshes, or without the right to write.
    """
    before = _size(lister.place.directory)
    with where_usable():  # else the next list rebuilds it
        _vacuum(lister)
    return max(0, before - _size(lister.place.directory))


def _vacuum(lister: Lister) -> None:
    place = lister.place
    with closing(place.take(write=True)) as catalog:
        meta, file, _ = lister.begin(catalog)
        catalog.end()
        if not file.lock():
            return
        try:
            if (file.file, meta) != (catalog.meta().file, catalog.meta()):
                return
            sweep(place.directory)
            if catalog.vacuum(_WORTH_IT):
                file.append(f"= {seal_of(meta.mark, stamp(place.catalog_path))}")
        finally:
            file.unlock()


def _size(directory: str) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return 0
