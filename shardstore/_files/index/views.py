"""What a list is answered from: a catalog with the changed shards over it."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, TypeVar

from shardstore._answers import RowSource
from shardstore._conditions import filter_of
from shardstore._files.direct.rows import Found, SessionRow, is_damaged
from shardstore._files.index.catalog import IN_MEMORY
from shardstore._files.index.sql import SQLITE
from shardstore._files.layout import shard_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shardstore._conditions import Part, Term
    from shardstore._files.direct.shards import ShardReader
    from shardstore._files.index.catalog import Catalog
    from shardstore._row import Answer, Row
    from shardstore.query import Query
    from shardstore.session import SessionInfo

T = TypeVar("T")

_KEYS_AT_ONCE = 1000


class _Newer(Exception):
    """A session was read for its large fields and has another version than its row: decide again, with this."""

    def __init__(self, found: Found) -> None:
        self.found = found


class View(RowSource):
    """A catalog, with newer rows of some shards: each session as of some moment during the call.

    REQUIRES: a transaction of the catalog.
    """

    dialect = SQLITE

    def __init__(
        self, catalog: Catalog, shards: ShardReader, changed: dict[str, Found], problem: str | None = None
    ) -> None:
        """`problem`: why every shard was read for this catalog; None: it is that of the index."""
        self.problem = problem
        self.pending = 0 if problem else len(changed)  # shards that were read besides the catalog
        self._catalog = catalog
        self._shards = shards
        self._changed = changed
        self._without: set[str] = set()  # keys whose rows in the catalog are superseded
        self._fields: tuple[str, ...] = ()  # that the query may need
        # By key, of sessions that were newer than their row: a version, and the raw values of those fields. If it were
        # read again for them, a session that is written all the time would be newer each time.
        self._fetched: dict[str, tuple[str, dict[str, bytes]]] = {}
        for name in changed:
            self._supersede(name)

    def _supersede(self, name: str) -> None:
        key = self._catalog.key_of(name)
        if key is not None:
            self._without.add(key)

    @property
    def indexed(self) -> Sequence[str]:
        """The fields that have columns."""
        return self._catalog.indexed

    def _settled(self, ask: Callable[[Query], T], query: Query) -> T:
        """Return an answer, once no session is newer than its row any more."""
        self._fields = (*query.needed, *(query.fields or ()))
        while True:
            try:
                return ask(query)
            except _Newer as newer:
                self._changed[newer.found.name] = newer.found
                self._supersede(newer.found.name)

    def select(self, query: Query) -> list[SessionInfo]:
        """Answer a list."""
        return self._settled(super().select, query)

    def answers(self, query: Query) -> tuple[Iterator[Answer], bool]:
        """Return the answers, and whether they come in order."""
        if self.problem:  # the last resort leaves nothing to SQL, which refuses what is too long for it
            return self.admitted(query, self.narrowed(())), False
        found, ordered = super().answers(query)
        fresh = list(self.admitted(query, self._fresh)) if self._changed else []
        if not fresh:
            return found, ordered
        if ordered:
            return heapq.merge(found, sorted(fresh, key=query.rank), key=query.rank), True
        return (answer for part in (found, fresh) for answer in part), False

    @property
    def _fresh(self) -> list[Row]:
        return [found.row for found in self._changed.values() if isinstance(found, SessionRow)]

    def part(self, query: Query, part: Part, terms: Sequence[Term], most: int | None) -> Iterator[Answer]:
        """Return the catalog's rows of one part of a query's order, but for those that are superseded."""
        without = self._without
        found = self._catalog.part(query, part, terms, None if most is None else most + len(without))
        return (row for row in found if row.key not in without) if without else found

    def narrowed(self, terms: Sequence[Term]) -> Iterator[Row]:
        """Return the catalog's rows that meet these conditions, but for those that are superseded."""
        return (packed.row for packed in self._catalog.narrowed(terms) if packed.key not in self._without)

    def fetch(self, row: Row, names: Sequence[str]) -> dict[str, bytes]:
        """Read a shard for its values. Raises _Newer where it is newer than the row."""
        version, values = self._fetched.get(row.key, ("", {}))
        if version != row.version:
            found, state = self._shards.state(shard_name(row.key), keep=self.problem is None)
            entry = state.fields or {}
            values = {name: entry[name] for name in self._fields if name in entry}
            if not isinstance(found, SessionRow) or found.row.version != row.version:
                self._fetched[row.key] = (state.version, values)
                raise _Newer(found)
        return {name: values[name] for name in names if name in values}

    def count(self, query: Query) -> int:
        """Count the sessions that a list would return, limits aside."""
        return self._settled(self._count, query)

    def _count(self, query: Query) -> int:
        filters = filter_of(SQLITE, query, self.indexed)
        if self.problem or not filters.exact:
            return sum(1 for _ in self.answers(query)[0])
        (count,) = self._catalog.sums("count(*)", filters.terms, self._without)
        return count + sum(1 for _ in self.admitted(query, self._fresh))

    def keys(self, after: str) -> tuple[list[str], str | None]:
        """Return the next keys in ascending order, and after which one to go on; None: there are no more."""
        most = -1 if self._catalog.path == IN_MEMORY else _KEYS_AT_ONCE  # where every shard was read for this page
        found = self._catalog.keys(after, most)
        last = found[-1] if len(found) == most else None
        keys = [key for key in found if key not in self._without]
        keys += [row.key for row in self._fresh if row.key > after and (last is None or row.key <= last)]
        return sorted(keys), last

    def totals(self) -> tuple[int, int, int]:
        """Return the number of sessions, the bytes of their entries and logs, and of their files."""
        count, live, end = self._catalog.sums('count(*),total(live),total("end")', (), self._without)
        fresh = [found for found in self._changed.values() if isinstance(found, SessionRow)]
        return count + len(fresh), live + sum(f.live for f in fresh), end + sum(f.end for f in fresh)

    def damaged(self) -> list[str]:
        """Return the names of the shards that cannot be read."""
        before = [name for name in self._catalog.damaged() if name not in self._changed]
        return sorted([*before, *(name for name, found in self._changed.items() if is_damaged(found))])
