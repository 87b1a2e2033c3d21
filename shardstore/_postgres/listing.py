"""Lists: narrowed and ordered in SQL, decided by the same code as in every engine, as of one moment of the database."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from shardstore._answers import RowSource
from shardstore._conditions import filter_of, parts_of
from shardstore._postgres import schema
from shardstore._postgres.conditions import POSTGRES, statement
from shardstore._postgres.connections import ANSWER_S
from shardstore._postgres.known import NOTHING, Slot, follow
from shardstore._postgres.values import number
from shardstore._row import COLUMNS, Candidate, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shardstore._conditions import Part, Term
    from shardstore._postgres.connection import Connection
    from shardstore._postgres.engine import PostgresEngine
    from shardstore._postgres.values import Value
    from shardstore.query import Query
    from shardstore.session import SessionInfo

_ROW: Final = ("key", "rev", "version", "created", "updated", "size", "log_length", "fields", "cut", "hidden")
_SELECT: Final = ", ".join(_ROW)
_SMALL: Final = _ROW.index("fields")
_POSITION: Final = len(_ROW)
_new: Final = tuple.__new__  # half the price of calling the class
_KEYS_AT_ONCE: Final = 1000
_AT_ONCE: Final = 1000  # rows


class Listing(RowSource):
    """Questions about all sessions, over one connection."""

    dialect = POSTGRES

    def __init__(self, engine: PostgresEngine, connection: Connection) -> None:
        self._engine = engine
        self._connection = connection
        self._store = engine.rows.store  # the settings of this list; other threads read the engine's anew meanwhile
        self._cursors = 0

    @property
    def indexed(self) -> Sequence[str]:
        """The fields that have columns."""
        return self._store.indexed if self._store.is_indexed else ()

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """See the database as it is at one moment."""
        connection = self._connection
        connection.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", deadline=time.monotonic() + ANSWER_S)
        try:
            self._store = self._engine.reread(connection).store
            yield
        finally:
            if not connection.is_closed:
                connection.script("ROLLBACK", deadline=time.monotonic() + ANSWER_S)

    def select(self, query: Query) -> list[SessionInfo]:
        """Return the sessions that answer a query."""
        if query.limit == 0:
            return []
        found = self._at_once(query)
        if found is not None:
            return self.shown(query, found)
        with self._moment():
            return super().select(query)

    def _at_once(self, query: Query) -> list[Candidate] | None:
        """Return what one statement answers, in one round trip; None where that takes more.

        The settings are read behind it. They only ever go up, so if they are as they were before, nobody changed them
        in between, and the rows are of these settings.
        """
        engine = self._engine
        filters, parts = filter_of(POSTGRES, query, self.indexed), parts_of(POSTGRES, query, self.indexed)
        if query.stop is None or not filters.exact or parts is None:
            return None
        asked = self._part_statement(parts[0], filters.terms, query.stop)
        answer, settings = self._connection.run_all(
            [asked, (engine.sql.settings, ())], planned=True, deadline=time.monotonic() + ANSWER_S
        )
        if schema.understood(settings.rows, engine.location) != self._store:
            return None
        if len(parts) > 1 and len(answer.rows) < query.stop:
            return None  # those without the field come behind them
        found = list(_read(answer.rows[query.offset :], query))
        if query.fields and any(one.row.cut is not None for one in found):
            return None  # some of the fields may have to be read from the lines
        return found

    def count(self, query: Query) -> int:
        """Return how many sessions answer a query, limits aside."""
        with self._moment():
            filters = filter_of(POSTGRES, query, self.indexed)
            if filters.exact:
                sql, values = statement(f"SELECT count(*) FROM {self._engine.sql.session}", filters.terms)
                return number(self._connection.run(sql, values, once=True).rows[0][0])
            return sum(1 for _ in self.answers(query)[0])

    def keys(self, after: str) -> tuple[list[str], str | None]:
        """Return the next keys in ascending order, and after which one to go on; None: there are no more."""
        terms = [*POSTGRES.prefixed(""), *(POSTGRES.behind_key(after, ">") if after else ())]
        tail = f"ORDER BY {POSTGRES.by_key()} LIMIT {_KEYS_AT_ONCE}"
        sql, values = statement(f"SELECT key FROM {self._engine.sql.session}", terms, tail)
        found = [(key or b"").decode() for (key,) in self._connection.run(sql, values).rows]
        return found, found[-1] if len(found) == _KEYS_AT_ONCE else None

    def narrowed(self, terms: Sequence[Term]) -> Iterator[Row]:
        """Return the rows that meet these conditions."""
        return map(_row, self._rows(*statement(f"SELECT {_SELECT} FROM {self._engine.sql.session}", terms)))

    def part(self, query: Query, part: Part, terms: Sequence[Term], most: int | None) -> Iterator[Candidate]:
        """Return the rows of one part of a query's order."""
        sql, values = self._part_statement(part, terms, most)
        rows = self._rows(sql, values) if most is None else self._connection.run(sql, values, once=True).rows
        yield from _read(rows, query)

    def _part_statement(self, part: Part, terms: Sequence[Term], most: int | None) -> tuple[str, list[Value]]:
        position = "" if part.position in _ROW else f", {part.position}"
        head = f"SELECT {_SELECT}{position} FROM {self._engine.sql.session}"
        limit = "" if most is None else f" LIMIT {most}"
        return statement(head, (*terms, *part.terms), f"ORDER BY {part.order}{limit}")

    def _rows(self, sql: str, values: Sequence[Value]) -> Iterator[tuple[bytes | None, ...]]:
        """Yield rows through a cursor, never many at once."""
        self._cursors += 1
        name = f"c{self._cursors}"
        self._connection.run(f"DECLARE {name} BINARY NO SCROLL CURSOR FOR {sql}", values, once=True)
        while True:
            rows = self._connection.run(f"FETCH {_AT_ONCE} FROM {name}", once=True).rows
            yield from rows
            if len(rows) < _AT_ONCE:
                return

    def fetch(self, row: Row, names: Sequence[str]) -> dict[str, bytes]:
        """Read a session's lines, as of the same moment as its row. Raises CorruptShard."""
        slot = Slot(row.key, "")
        found = self._connection.run(self._engine.sql.read, (slot.id, 0, "")).rows
        entry = follow(found, NOTHING, slot, self._engine.location).state.fields or {}
        return {name: entry[name] for name in names if name in entry}


def _read(rows: Iterable[tuple[bytes | None, ...]], query: Query) -> Iterator[Candidate]:
    """Yield what the rows of a part say."""
    if not query.by_column:
        return (_new(Candidate, (_row(row), row[_POSITION])) for row in rows)
    place = Row._fields.index(COLUMNS[query.order])
    return (_new(Candidate, (row, row[place])) for row in map(_row, rows))


def _row(raw: tuple[Any, ...], number: Callable[[bytes], int] = int.from_bytes) -> Row:
    """Return what a row says: its first columns are never NULL, and its numbers never negative."""
    key, rev, version, created, updated, size, log_length = raw[:_SMALL]
    known = (
        key.decode(), number(rev), version.decode(), number(created), number(updated), number(size),
        number(log_length), *raw[_SMALL:_POSITION],
    )  # fmt: skip
    return _new(Row, known)
