"""Comparing the index with the shards, for verify. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shardstore._files.index.rows import Busy, Indexed
from shardstore._files.layout import PREFIXES
from shardstore._progress import track

if TYPE_CHECKING:
    from shardstore._files.index.catalog import Catalog
    from shardstore._files.index.rows import Found
    from shardstore._files.index.shards import ShardReader
    from shardstore._progress import Progress

_REVISION: Final = 1  # its place in what Catalog.row returns


class Audit:
    """One comparison. REQUIRES: a transaction of the catalog, until `problems` has returned."""

    def __init__(self, catalog: Catalog, shards: ShardReader, pending: set[str]) -> None:
        self._catalog = catalog
        self._shards = shards
        self._pending = pending  # shards that no list takes the catalog's word for

    def problems(self, progress: Progress | None) -> dict[str, str]:
        """Return the wrong rows, by the name of the shard. A shard that changes meanwhile may be among them."""
        found: dict[str, str] = {}
        for prefix in track(PREFIXES, progress):
            known = self._catalog.known(prefix)
            for name in sorted(known.keys() | self._shards.list_directory(prefix).keys()):
                wrong = None if name in self._pending else self._compare(name, known.get(name))
                if wrong is not None:
                    found[name] = wrong
        return found

    def _compare(self, name: str, key: str | None) -> str | None:
        """Return how a shard differs from its row; None where it does not."""
        row = None if key is None else self._catalog.row(key)
        found: Found = self._shards.read(name)
        if isinstance(found, Busy):
            return None
        if not isinstance(found, Indexed):
            return None if row is None else f"{key!r} is listed at revision {row[_REVISION]}; its shard is {found.kind}"
        shard = found.row
        if row is None:
            return f"{shard.key!r} is not listed; its shard is at revision {shard.rev}"
        width = len(shard)
        if row[:width] == shard and row[width + 1 :] == found.columns:
            return None  # the journal's length aside: maintenance may have shortened it
        return f"{shard.key!r} is listed as of revision {row[_REVISION]}; its shard is at revision {shard.rev}"
