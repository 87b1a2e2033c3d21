"""What a list is answered from: the catalogue with the changed shards over it, or every shard.

Both give rows; query.select decides over them, so both give the same answer.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Protocol

from shardstore._files.index.rows import Other, Row, digest_of
from shardstore._files.index.shards import Busy
from shardstore.query import Candidate, Query, matching, select

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore._files.index.catalogue import Catalogue
    from shardstore._files.index.progress import Progress
    from shardstore._files.index.shards import Shards
    from shardstore.session import SessionInfo

_KEYS_AT_ONCE = 1000


class View(Protocol):
    """Answers, as of one moment."""

    def select(self, query: Query) -> list[SessionInfo]:
        """Answer a list."""

    def count(self, query: Query) -> int:
        """Count the sessions that a list would give, limits aside."""

    def keys(self, after: str | None) -> tuple[list[str], bool]:
        """Give the next keys in ascending order, and whether there may be more."""

    def totals(self) -> tuple[int, int, int]:
        """Give the number of sessions, the bytes of their entries and of their journals."""

    def damaged(self) -> list[str]:
        """Give the names of the shards that cannot be read."""


class CatalogueView:
    """The catalogue, with what is known better of some shards."""

    def __init__(self, catalogue: Catalogue, shards: Shards, changed: dict[str, Row | Other | Busy]) -> None:
        self._catalogue = catalogue
        self._shards = shards
        self._changed = changed
        self._without = {
            digest_of(name) for name, row in changed.items() if isinstance(row, Row) or not catalogue.is_copy(name)
        }
        self._fresh = [row for row in changed.values() if isinstance(row, Row)]

    def select(self, query: Query) -> list[SessionInfo]:
        """Give the lines that a query asks for."""
        rows, ordered = self._rows(query)
        return select(query, rows, self._shards.fetch, ordered=ordered)

    def _rows(self, query: Query) -> tuple[Iterator[Row], bool]:
        rows, ordered = self._catalogue.rows(query, self._without)
        if not self._fresh:
            return rows, ordered

        def key(row: Row) -> Any:
            return query.sort_key(Candidate(row, {}))

        if not ordered:
            return (row for part in (rows, self._fresh) for row in part), False
        return heapq.merge(rows, sorted(self._fresh, key=key), key=key), True

    def count(self, query: Query) -> int:
        """Count the lines that a query asks for."""
        if not (query.prefix or query.conditions or any(bound is not None for bound in query.bounds)):
            return self.totals()[0]
        rows, _ = self._rows(query)
        return sum(1 for _ in matching(query, rows, self._shards.fetch))

    def keys(self, after: str | None) -> tuple[list[str], bool]:
        """Give some keys behind `after`, in order, and whether there may be more."""
        wanted = _KEYS_AT_ONCE + len(self._without)
        found = self._catalogue.keys(after, wanted)
        keys = [key for digest, key in found if digest not in self._without]
        last = found[-1][1] if len(found) == wanted else None
        keys += [r.key for r in self._fresh if (after is None or r.key > after) and (last is None or r.key <= last)]
        return sorted(keys), last is not None

    def totals(self) -> tuple[int, int, int]:
        """Give the number of sessions, the bytes of their entries and those of their journals."""
        count, size, end = self._catalogue.totals(self._without)
        return count + len(self._fresh), size + sum(r.size for r in self._fresh), end + sum(r.end for r in self._fresh)

    def damaged(self) -> list[str]:
        """Name the shards that cannot be read."""
        found = {
            other.name for digest, other in self._catalogue.others("damaged").items() if digest not in self._without
        }
        return sorted(found.union(name for name, row in self._changed.items() if is_damaged(row)))


class ScanView:
    """Every shard, read without a lock: what there is when there is no index."""

    def __init__(self, shards: Shards, noted: set[str], progress: Progress | None = None) -> None:
        self._shards = shards
        self._noted = noted
        self._progress = progress
        self._damaged: list[str] | None = None  # not known yet

    def select(self, query: Query) -> list[SessionInfo]:
        """Give the lines that a query asks for."""
        return select(query, self._rows(), self._shards.fetch, ordered=False)

    def _rows(self) -> Iterator[Row]:
        damaged: list[str] = []
        for names in self._shards.names(self._noted, self._progress):
            for name in sorted(names):
                row = self._shards.read(name)
                if isinstance(row, Row):
                    yield row
                elif is_damaged(row):
                    damaged.append(name)
        self._damaged = damaged

    def count(self, query: Query) -> int:
        """Count the lines that a query asks for."""
        return sum(1 for _ in matching(query, self._rows(), self._shards.fetch))

    def keys(self, after: str | None) -> tuple[list[str], bool]:
        """Give some keys behind `after`, in order, and whether there may be more."""
        return sorted(row.key for row in self._rows() if after is None or row.key > after), False

    def totals(self) -> tuple[int, int, int]:
        """Give the number of sessions, the bytes of their entries and those of their journals."""
        count = size = end = 0
        for row in self._rows():
            count, size, end = count + 1, size + row.size, end + row.end
        return count, size, end

    def damaged(self) -> list[str]:
        """Name the shards that cannot be read."""
        if self._damaged is None:
            for _ in self._rows():
                pass
        return self._damaged or []


def is_damaged(row: Row | Other | Busy) -> bool:
    """Tell whether a shard could not be read, by anybody or by this process."""
    return isinstance(row, Busy) or (isinstance(row, Other) and row.kind == "damaged")
