"""From a query to SQL, for every engine that keeps rows: the conditions that SQL can decide, and the order of rows.

A table `session` has a row for each session, and columns with the sort keys of the indexed fields. This module chooses
the conditions of a query; a dialect writes them for its database.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._order import sort_key, type_range
from shardstore._row import COLUMNS, CUT_ANY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardstore.query import Condition, Query

_VALUES_MAX: Final = 500  # in one IN; SQLite allows 32,766 for a statement, older ones 999
_TERMS_MAX: Final = 60  # in one statement: SQLite allows 32,766 values, and expressions of a depth of 1,000
_NEEDLES_MAX: Final = 8  # more are quicker to decide one by one
_INT_MAX: Final = 2**63 - 1
_BEFORE_SURROGATES, _AFTER_SURROGATES = 0xD7FF, 0xE000
_ONE_SPELLING: Final = frozenset({str, bool, type(None)})  # as JSON, which numbers have not


class Term(NamedTuple):
    """A condition in SQL and its values."""

    sql: str
    values: tuple[Any, ...] = ()


class Filter(NamedTuple):
    """The conditions of a query that SQL decides; every answer passes them."""

    terms: tuple[Term, ...]
    exact: bool  # every row that passes it is an answer


class Part(NamedTuple):
    """One of the statements whose rows, one statement after the other, come in a query's order."""

    position: str  # the column that rows are ordered by, or NULL
    terms: tuple[Term, ...]
    order: str


class Dialect(ABC):
    """How one database writes conditions on its table."""

    bounds: ClassVar[tuple[str, str, str]]  # updated since, updated before, larger than
    needle: ClassVar[str]  # that the small fields' JSON holds a text
    cut: ClassVar[str]  # that fields were left out of a row: any, or one of this name
    null: ClassVar[str]  # in place of a column of sort keys

    @abstractmethod
    def column(self, n: int) -> str:
        """Return the sort key of the indexed field at this place."""

    def start(self, column: str) -> str:
        """Return the part of a sort key that stands in an index."""
        return column

    @abstractmethod
    def prefixed(self, prefix: str) -> list[Term]:
        """Return the condition that a session is there, and its key begins with a prefix."""

    @abstractmethod
    def compared(self, column: str, operator: str, key: bytes) -> list[Term]:
        """Return a comparison of a sort key by =, <, <=, > or >=."""

    @abstractmethod
    def differs(self, column: str, key: bytes) -> Term:
        """Return that a field is another one, or absent."""

    @abstractmethod
    def among(self, column: str, keys: list[bytes]) -> list[Term]:
        """Return that a sort key is one of several."""

    @abstractmethod
    def behind_key(self, key: str, beyond: str) -> tuple[Term, ...]:
        """Return the condition that a key lies behind another one."""

    @abstractmethod
    def behind(self, column: str, beyond: str, position: Any, key: str) -> tuple[Term, ...]:
        """Return the condition that a row lies behind a place in the order of a column; keys ascend among equals."""

    @abstractmethod
    def by_key(self, way: str = "") -> str:
        """Return the order of keys; `way`: nothing, or DESC."""

    @abstractmethod
    def by_column(self, column: str, way: str) -> str:
        """Return the order of a column, and of keys among equals."""


def filter_of(dialect: Dialect, query: Query, indexed: Sequence[str]) -> Filter:
    """Return the conditions that SQL can decide, limits, order and place aside."""
    terms, exact = dialect.prefixed(query.prefix), True
    for bound, sql in zip(query.bounds, dialect.bounds, strict=True):
        if bound is not None:
            terms.append(Term(sql, (max(-_INT_MAX, min(bound, _INT_MAX)),)))
    terms += [Term(condition.on_number("log_length")) for condition in query.lengths]
    for condition in query.conditions:
        if len(terms) >= _TERMS_MAX:
            exact = False
            break
        column = dialect.column(indexed.index(condition.field)) if condition.field in indexed else None
        decided = None if column is None else _decided(dialect, column, condition)
        if decided is not None:
            terms += decided
        else:
            exact = False
            terms += _needles(dialect, condition)
    return Filter(tuple(terms), exact)


def behind_prefix(prefix: str) -> str | None:
    """Return the least text behind all with this prefix; None where there is none. Texts compare by code points."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    last = ord(stem[-1])
    return stem[:-1] + chr(_AFTER_SURROGATES if last == _BEFORE_SURROGATES else last + 1)  # surrogates have no UTF-8


def _decided(dialect: Dialect, column: str, condition: Condition) -> list[Term] | None:
    """Return the SQL of a condition by a column of sort keys; None if only the value itself decides it.

    Arrays and objects compare member by member, whatever the order of their members: their sort keys do not tell.
    """
    operator, operand = condition.operator, condition.operand
    if operator == "exists":
        return [Term(f"{dialect.start(column)} IS {'NOT ' if operand else ''}NULL")]
    if any(type(value) in (list, dict) for value in (operand if operator == "in" else [operand])):
        return None
    if operator == "in":
        return dialect.among(column, [sort_key(value) for value in operand]) if len(operand) <= _VALUES_MAX else None
    key = sort_key(operand)
    if operator in ("==", "!="):
        return dialect.compared(column, "=", key) if operator == "==" else [dialect.differs(column, key)]
    low, high = type_range(key)
    return [
        *dialect.compared(column, operator, key), *dialect.compared(column, ">=", low),
        *dialect.compared(column, "<", high),
    ]  # fmt: skip


def _needles(dialect: Dialect, condition: Condition) -> list[Term]:
    """Return a condition on the small fields' JSON that no answer fails; none where a value has several spellings."""
    operands = condition.operand if condition.operator == "in" else [condition.operand]
    if condition.operator not in ("==", "in") or not 0 < len(operands) <= _NEEDLES_MAX:
        return []
    if any(type(operand) not in _ONE_SPELLING for operand in operands):
        return []
    name = codec.dumps(condition.field)
    found = " OR ".join([dialect.needle] * len(operands))
    needles = tuple([name + b":" + codec.dumps(operand) for operand in operands])
    return [Term(f"({found} OR {dialect.cut})", (*needles, CUT_ANY, name))]


def parts_of(dialect: Dialect, query: Query, indexed: Sequence[str]) -> list[Part] | None:
    """Return the SQL for rows in a query's order, from its place on; None if no column has that order.

    Rows without an indexed field come last, in a statement of their own: so each can walk one index.
    """
    if not query.by_column and query.order not in indexed:
        return None
    column = COLUMNS[query.order] if query.by_column else dialect.column(indexed.index(query.order))
    way, beyond = (" DESC", "<") if query.descending else ("", ">")
    place = query.after
    if column == "key":
        return [Part("key", dialect.behind_key(place.key, beyond) if place else (), dialect.by_key(way))]
    terms: tuple[Term, ...] = () if query.by_column else (Term(f"{dialect.start(column)} IS NOT NULL"),)
    if place is not None and place.position is not None:
        terms = (*terms, *dialect.behind(column, beyond, place.position, place.key))
    first = Part(column, terms, dialect.by_column(column, way))
    if query.by_column:
        return [first]
    rest = Part(dialect.null, (Term(f"{dialect.start(column)} IS NULL"),), dialect.by_key())
    if place is not None and place.position is None:
        return [rest._replace(terms=(*rest.terms, *dialect.behind_key(place.key, ">")))]
    if any(c.field == query.order and not c.admits_absent for c in query.conditions):
        return [first]
    return [first, rest]
