"""From the rows of a table to the answers of a query: for every engine that keeps rows in a database.

SQL narrows and orders them as far as it can (_conditions.py). What it cannot decide, the query itself decides here.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar

from shardstore import _codec as codec
from shardstore._conditions import filter_of, parts_of
from shardstore._row import Candidate, lacks
from shardstore.session import SessionInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shardstore._conditions import Dialect, Part, Term
    from shardstore._row import Answer, Row
    from shardstore.query import Query


class RowSource(ABC):
    """The rows of all sessions, as of one moment."""

    dialect: ClassVar[Dialect]

    @property
    @abstractmethod
    def indexed(self) -> Sequence[str]:
        """The fields that have columns."""

    @abstractmethod
    def narrowed(self, terms: Sequence[Term]) -> Iterator[Row]:
        """Return the rows that meet these conditions, in any order."""

    @abstractmethod
    def part(self, query: Query, part: Part, terms: Sequence[Term], most: int | None) -> Iterator[Answer]:
        """Return the rows of one part of a query's order; no more than `most` of them are used."""

    @abstractmethod
    def fetch(self, row: Row, names: Sequence[str]) -> dict[str, bytes]:
        """Return the raw values of those of these fields that a session has: they are not in its row."""

    def select(self, query: Query) -> list[SessionInfo]:
        """Return the sessions that answer a query."""
        if query.limit == 0:
            return []
        found, ordered = self.answers(query)
        if not ordered:
            found = _sorted(query, found)
        return self.shown(query, islice(found, query.offset, query.stop))

    def shown(self, query: Query, answers: Iterable[Answer]) -> list[SessionInfo]:
        """Return answers as the caller of a list gets them."""
        order_by, fields = query.order_by, query.fields
        if fields:
            answers = (Candidate(self._whole(one.row, fields), one.position) for one in answers)
        return [SessionInfo(one, order_by, fields) for one in answers]

    def answers(self, query: Query) -> tuple[Iterator[Answer], bool]:
        """Return the answers, and whether they come in order."""
        filters, parts = filter_of(self.dialect, query, self.indexed), parts_of(self.dialect, query, self.indexed)
        if parts is None:
            return self.admitted(query, self.narrowed(filters.terms)), False
        most = query.stop if filters.exact else None
        found = chain.from_iterable(self.part(query, part, filters.terms, most) for part in parts)
        return (found if filters.exact else self._holding(query, found)), True

    def admitted(self, query: Query, rows: Iterable[Row]) -> Iterator[Candidate]:
        """Yield those rows that answer a query, whatever SQL said of them."""
        needed = query.needed
        for row in rows:
            candidate = query.candidate(row, self._values(row, needed))
            if candidate is not None:
                yield candidate

    def _holding(self, query: Query, found: Iterable[Answer]) -> Iterator[Answer]:
        """Yield those that meet the conditions on fields, of rows that meet all others."""
        needed = tuple(dict.fromkeys(condition.field for condition in query.conditions))
        for one in found:
            values = self._values(one.row, needed)
            if all(condition.holds(values) for condition in query.conditions):
                yield one

    def _values(self, row: Row, needed: Sequence[str]) -> dict[str, Any]:
        """Return an entry's values, those of `needed` whatever their size."""
        if not needed:
            return {}
        values: dict[str, Any] = codec.loads(row.fields)
        missing = _missing(row, needed)
        if missing:
            values.update({name: codec.loads(raw) for name, raw in self.fetch(row, missing).items()})
        return values

    def _whole(self, row: Row, wanted: Sequence[str]) -> Row:
        """Return the row with these fields, whatever their size."""
        missing = _missing(row, wanted)
        if not missing:
            return row
        small = codec.loads(row.fields)
        raw = {name: codec.dumps(small[name]) for name in wanted if name in small}
        return row._replace(fields=codec.join({**raw, **self.fetch(row, missing)}))


def _missing(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return () if row.cut is None else tuple([name for name in names if lacks(row.cut, name)])


def _sorted(query: Query, found: Iterable[Answer]) -> Iterator[Answer]:
    """Sort answers; never more than the limit's are in memory."""
    if query.stop is None:
        return iter(sorted(found, key=query.rank))
    return iter(heapq.nsmallest(query.stop, found, key=query.rank))
