"""The index for maintenance: its state, its check against the shards, and tidying it up."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from shardstore import _events as events
from shardstore._files.change_file.file import Unusable
from shardstore._files.direct.rows import Busy, SessionRow
from shardstore._files.index.directories import NOTHING
from shardstore._files.index.rebuild import sweep
from shardstore._files.index.refresh import is_sealed, refresh, where_usable, write_seal
from shardstore._files.layout import PREFIXES
from shardstore._progress import track

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.change_file.file import Pending
    from shardstore._files.direct.shards import ShardReader
    from shardstore._files.index.catalog import Catalog, Meta
    from shardstore._files.index.lister import Lister
    from shardstore._progress import Progress

T = TypeVar("T")

_WORTH_IT: Final = 0.25  # share of the catalog that is unused
_LOOKS: Final = 5
_WAIT_S: Final = 0.25  # seconds that compact waits for whoever uses the index
_PAUSE_S: Final = 0.001


def look(lister: Lister, read: Callable[[Catalog, Pending], T]) -> tuple[T, Meta, Pending]:
    """Read from a catalog that can be believed; return also what it goes with, and the changes when that was done.

    `read` gets the changes from before. Raises Unusable, OSError, sqlite3.Error.
    """
    place = lister.place
    with place.connection(write=False) as catalog:
        meta, file, before = lister.begin(catalog)
        found, pending = read(catalog, before), file.read(meta.mark)
        if not is_sealed(place, meta, pending) or not file.is_named():
            raise Unusable("the catalog is not as it was sealed")
        catalog.end()
        return found, meta, pending


class Believed(NamedTuple):
    """What the catalog says of a session."""

    key: str
    rev: int
    version: str
    marked: bool  # a writer has marked it as changed since: a list reads its shard


def believed(lister: Lister) -> dict[str, Believed]:
    """Return what the catalog says of each session, by its shard's name; nothing where it cannot be believed."""

    def read(catalog: Catalog, _: Pending) -> dict[str, Believed]:
        names = [name for prefix in PREFIXES for name in catalog.fingerprints(prefix)]
        rows = {name: row for name in names if (row := catalog.row(name)) is not None}
        return {name: Believed(row.key, row.rev, row.version, marked=False) for name, row in rows.items()}

    with where_usable():
        rows, _, pending = look(lister, read)
        return {name: row._replace(marked=name in pending.names) for name, row in rows.items()}
    return {}


def audit(lister: Lister, progress: Progress | None = None) -> list[tuple[str, str]]:
    """Return (name of the shard, problem) for every row that a list would wrongly believe.

    An index that is missing, damaged or behind is no problem: it knows that it is, and is rebuilt or refreshed.
    """
    shards = lister.place.shards

    def read(catalog: Catalog, pending: Pending) -> dict[str, str]:
        found: dict[str, str] = {}
        for prefix in track(PREFIXES, progress):
            names = catalog.fingerprints(prefix).keys() | shards.list_directory(prefix).keys()
            for name in sorted(names - pending.names):
                wrong = _compare(name, catalog, shards)
                if wrong is not None:
                    found[name] = wrong
        return found

    for _ in range(_LOOKS):
        with where_usable():
            found, _, pending = look(lister, read)
            # What was marked as changed while we looked is no mistake.
            return [(name, wrong) for name, wrong in found.items() if name not in pending.names]
    return []


def _compare(name: str, catalog: Catalog, shards: ShardReader) -> str | None:
    """Return how a shard differs from its row; None where it does not."""
    row, found = catalog.row(name), shards.read(name, keep=False)
    if isinstance(found, Busy):
        return None
    if not isinstance(found, SessionRow):
        return None if row is None else f"{row.key!r} is listed at revision {row.rev}; its shard is {found.kind}"
    shard = found.row
    if row is None:
        return f"{shard.key!r} is not listed; its shard is at revision {shard.rev}"
    if catalog.holds(found):
        return None
    if row.rev == shard.rev:
        return f"{shard.key!r} is listed with other values than its shard has"
    return f"{shard.key!r} is listed as of revision {row.rev}; its shard is at revision {shard.rev}"


def refresh_all(lister: Lister, progress: Progress | None = None) -> None:
    """Refresh, and compare every directory: that finds shards added or removed by hand. Raises StoreIOError."""
    lister.answer(lambda _: None, refresh=True, progress=progress)  # it is usable by now, or cannot be
    deadline = time.monotonic() + _WAIT_S
    while not _refreshed_whole(lister):
        if time.monotonic() > deadline or not lister.wait(deadline):
            events.note("index", events.WARNING, "the index was in use and is not refreshed whole; compact again")
            return
        time.sleep(_PAUSE_S)


def _refreshed_whole(lister: Lister) -> bool:
    """Compare every directory and refresh, both under the index lock; return whether that was possible."""
    place = lister.place
    with where_usable(), place.connection(write=True) as catalog:
        _, file, _ = lister.begin(catalog)
        catalog.end()

        def compare() -> None:
            place.directories.compare_all(place.shards, catalog, catalog.begin())
            catalog.end()

        return refresh(place, catalog, file, compare) and place.directories.found is NOTHING
    return False


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
    with place.connection(write=True) as catalog:
        meta, file, _ = lister.begin(catalog)
        catalog.end()
        if not file.lock():
            return
        try:
            if catalog.meta() != meta or not file.is_named():
                return
            sweep(place.directory)
            if catalog.vacuum(_WORTH_IT):
                write_seal(place, file, meta.mark)
        finally:
            file.unlock()


def _size(directory: str) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return 0
