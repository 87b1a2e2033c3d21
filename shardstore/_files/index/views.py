"""What a list is answered from: the catalog with the changed shards over it, or every shard.

Both give rows; the query decides over them, so both give the same answer.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from shardstore import _codec as codec
from shardstore._files.index.rows import Found, Indexed, is_damaged
from shardstore._files.layout import shard_name
from shardstore._projection import lacks
from shardstore.query import Candidate, Query
from shardstore.session import SessionInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shardstore._files.index.catalog import Catalog
    from shardstore._files.index.shards import ShardReader
    from shardstore._progress import Progress
    from shardstore.session import Row

T = TypeVar("T")

_KEYS_AT_ONCE = 1000


class View(Protocol):
    """Answers, each session as of some moment during the call."""

    def select(self, query: Query) -> list[SessionInfo]:
        """Answer a list."""

    def count(self, query: Query) -> int:
        """Count the sessions that a list would return, limits aside."""

    def keys(self, after: str) -> tuple[list[str], str | None]:
        """Return the next keys in ascending order, and after which one to go on; None: there are no more."""

    def totals(self) -> tuple[int, int, int]:
        """Return the number of sessions, the bytes of their entries and logs, and of their files."""

    def damaged(self) -> list[str]:
        """Return the names of the shards that cannot be read. REQUIRES: another question was asked before."""


class _Newer(Exception):
    """A session was read for its large fields and has another version than its row: decide again, with this."""

    def __init__(self, found: Found) -> None:
        self.found = found


class _Values:
    """The values of rows, read from the shards where the rows do not hold them."""

    def __init__(self, shards: ShardReader) -> None:
        self._shards = shards
        self._read: dict[str, tuple[str, dict[str, bytes]]] = {}  # by key: version, raw values

    def of(self, row: Row, needed: tuple[str, ...]) -> dict[str, Any]:
        """Return an entry's values, those of `needed` whatever their size. Raises _Newer."""
        if not needed:
            return {}
        values: dict[str, Any] = codec.loads(row.fields)
        missing = self._missing(row, needed)
        if missing:
            values.update({name: codec.loads(raw) for name, raw in self._fetch(row, missing).items()})
        return values

    def whole(self, row: Row, wanted: tuple[str, ...]) -> Row:
        """Return the row with these fields, whatever their size. Raises _Newer."""
        missing = self._missing(row, wanted)
        if not missing:
            return row
        small = codec.loads(row.fields)
        raw = {name: codec.dumps(small[name]) for name in wanted if name in small}
        return row._replace(fields=codec.join({**raw, **self._fetch(row, missing)}))

    @staticmethod
    def _missing(row: Row, names: tuple[str, ...]) -> tuple[str, ...]:
        if row.cut is None:
            return ()
        return tuple([name for name in names if lacks(row.cut, name)])

    def _fetch(self, row: Row, names: tuple[str, ...]) -> dict[str, bytes]:
        """Read a shard, at most once for each version of its row."""
        version, values = self._read.get(row.key, ("", {}))
        if version == row.version and all(name in values for name in names):
            return values
        found, values = self._shards.values(shard_name(row.key), names)
        if not isinstance(found, Indexed):
            raise _Newer(found)
        if found.row.version != row.version:
            found, values = self._shards.values(shard_name(row.key), names)
        self._read[row.key] = (found.row.version, values) if isinstance(found, Indexed) else ("", {})
        if not isinstance(found, Indexed) or found.row.version != row.version:
            raise _Newer(found)
        return values


class CatalogView:
    """The catalog, with newer rows of some shards."""

    def __init__(self, catalog: Catalog, shards: ShardReader, changed: dict[str, Found]) -> None:
        self._catalog = catalog
        self._values = _Values(shards)
        self._changed = changed
        self._without: set[str] = set()  # keys whose rows in the catalog are superseded
        for name in changed:
            self._supersede(name)

    def _supersede(self, name: str) -> None:
        key = self._catalog.key_of(name)
        if key is not None:
            self._without.add(key)

    @property
    def _fresh(self) -> list[Row]:
        return [found.row for found in self._changed.values() if isinstance(found, Indexed)]

    def _decide(self, ask: Callable[[Query], T], query: Query) -> T:
        """Return an answer, once no session is newer than its row any more."""
        while True:
            try:
                return ask(query)
            except _Newer as newer:
                self._changed[newer.found.name] = newer.found
                self._supersede(newer.found.name)

    def select(self, query: Query) -> list[SessionInfo]:
        """Answer a list."""
        return self._decide(self._select, query)

    def _select(self, query: Query) -> list[SessionInfo]:
        if query.limit == 0:
            return []
        found, ordered = self._candidates(query)
        if not ordered:
            found = _sorted(query, found)
        chosen = islice(found, query.offset, query.stop)
        if query.fields:
            wanted = query.fields
            chosen = (Candidate(self._values.whole(row, wanted), position) for row, position in chosen)  # type: ignore[assignment]
        order_by, fields = query.order_by, query.fields
        return [SessionInfo(row, order_by, position, fields) for row, position in chosen]

    def _candidates(self, query: Query) -> tuple[Iterator[Candidate], bool]:
        """Return the answers, and whether they come in order."""
        rows, exact, ordered = self._catalog.candidates(query, len(self._without))
        found = self._decided(query, rows, exact=exact, ordered=ordered)
        fresh = list(self._admitted(query, self._fresh))
        if not fresh:
            return found, ordered
        if ordered:
            return heapq.merge(found, sorted(fresh, key=query.rank), key=query.rank), True
        return (candidate for part in (found, fresh) for candidate in part), False

    def _decided(
        self, query: Query, rows: Iterator[Candidate | Row], *, exact: bool, ordered: bool
    ) -> Iterator[Candidate]:
        """Leave out the catalog's rows that are superseded, and those that do not answer the query after all."""
        if not ordered:
            return self._admitted(query, (row for row in rows if row.key not in self._without))  # type: ignore[union-attr,misc]
        found: Iterator[Candidate] = rows  # type: ignore[assignment]
        if self._without:
            found = (candidate for candidate in found if candidate.row.key not in self._without)
        return found if exact else self._holding(query, found)

    def _holding(self, query: Query, found: Iterable[Candidate]) -> Iterator[Candidate]:
        needed = tuple(dict.fromkeys(condition.field for condition in query.conditions))
        for candidate in found:
            values = self._values.of(candidate.row, needed)
            if all(condition.holds(values) for condition in query.conditions):
                yield candidate

    def _admitted(self, query: Query, rows: Iterable[Row]) -> Iterator[Candidate]:
        for row in rows:
            candidate = query.candidate(row, self._values.of(row, query.needed))
            if candidate is not None:
                yield candidate

    def count(self, query: Query) -> int:
        """Count the sessions that a list would return, limits aside."""
        return self._decide(self._count, query)

    def _count(self, query: Query) -> int:
        counted = self._catalog.count(query, list(self._without))
        if counted is not None:
            return counted + sum(1 for _ in self._admitted(query, self._fresh))
        return sum(1 for _ in self._candidates(query)[0])

    def keys(self, after: str) -> tuple[list[str], str | None]:
        """Return the next keys in ascending order, and after which one to go on."""
        found = self._catalog.keys(after, _KEYS_AT_ONCE)
        last = found[-1] if len(found) == _KEYS_AT_ONCE else None
        keys = [key for key in found if key not in self._without]
        keys += [row.key for row in self._fresh if row.key > after and (last is None or row.key <= last)]
        return sorted(keys), last

    def totals(self) -> tuple[int, int, int]:
        """Return the number of sessions, the bytes of their entries and logs, and of their files."""
        count, size, end = self._catalog.totals(list(self._without))
        fresh = [found for found in self._changed.values() if isinstance(found, Indexed)]
        return count + len(fresh), size + sum(f.live for f in fresh), end + sum(f.end for f in fresh)

    def damaged(self) -> list[str]:
        """Return the names of the shards that cannot be read."""
        before = [name for name in self._catalog.damaged() if name not in self._changed]
        return sorted([*before, *(name for name, found in self._changed.items() if is_damaged(found))])


class ScanView:
    """Every shard, read without a lock: what there is when there is no index."""

    def __init__(self, shards: ShardReader, marked: set[str], progress: Progress | None) -> None:
        self._shards = shards
        self._marked = marked
        self._progress = progress
        self._damaged: list[str] = []

    def select(self, query: Query) -> list[SessionInfo]:
        """Answer a list."""
        return [query.info(one) for one in islice(_sorted(query, self._answers(query)), query.offset, query.stop)]

    def _answers(self, query: Query) -> Iterator[Candidate]:
        needed = query.needed
        wanted = query.fields or ()
        for found, raw in self._found((*needed, *wanted)):
            values = {name: codec.loads(raw[name]) for name in needed if name in raw}
            candidate = query.candidate(found.row, values)
            if candidate is None:
                continue
            if wanted:
                shown = codec.join({name: raw[name] for name in wanted if name in raw})
                candidate = candidate._replace(row=candidate.row._replace(fields=shown))
            yield candidate

    def _found(self, needed: tuple[str, ...]) -> Iterator[tuple[Indexed, dict[str, bytes]]]:
        self._damaged = []
        for names in self._shards.names(self._marked, self._progress):
            for name in sorted(names):
                found, values = self._shards.values(name, needed, keep=False)
                if isinstance(found, Indexed):
                    yield found, values
                elif is_damaged(found):
                    self._damaged.append(name)

    def count(self, query: Query) -> int:
        """Count the sessions that a list would return, limits aside."""
        return sum(1 for _ in self._answers(query))

    def keys(self, after: str) -> tuple[list[str], str | None]:
        """Return the next keys in ascending order, and after which one to go on."""
        return sorted(found.row.key for found, _ in self._found(()) if found.row.key > after), None

    def totals(self) -> tuple[int, int, int]:
        """Return the number of sessions, the bytes of their entries and logs, and of their files."""
        count = size = end = 0
        for found, _ in self._found(()):
            count, size, end = count + 1, size + found.live, end + found.end
        return count, size, end

    def damaged(self) -> list[str]:
        """Return the names of the shards that cannot be read."""
        return self._damaged


def _sorted(query: Query, found: Iterable[Candidate]) -> Iterator[Candidate]:
    """Sort answers; never more than the limit's are in memory."""
    if query.stop is None:
        return iter(sorted(found, key=query.rank))
    return iter(heapq.nsmallest(query.stop, found, key=query.rank))
