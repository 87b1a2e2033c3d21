"""From a query to SQL over the table `session` of a catalog.

Columns i0, i1 ... hold the sort keys of indexed fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._order import sort_key, type_range
from shardstore._projection import CUT_ANY
from shardstore.session import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardstore.query import Condition, Query

_VALUES_MAX: Final = 500  # in one IN; SQLite allows 32,766 for a statement, older ones 999
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

    def where(self, *more: Term) -> tuple[str, list[Any]]:
        """Return the WHERE clause and its values."""
        terms = (*self.terms, *more)
        clause = " WHERE " + " AND ".join(term.sql for term in terms) if terms else ""
        return clause, [value for term in terms for value in term.values]


def filter_of(query: Query, indexed: Sequence[str]) -> Filter:
    """Return the conditions that SQL can decide, limits, order and place aside."""
    terms, exact = key_terms(query.prefix), True
    for bound, sql in zip(query.bounds, ("updated>=?", "updated<?", "size>?"), strict=True):
        if bound is not None:
            terms.append(Term(sql, (max(-_INT_MAX, min(bound, _INT_MAX)),)))
    terms += [Term(condition.on_number("log_length")) for condition in query.lengths]
    for condition in query.conditions:
        column = f"i{indexed.index(condition.field)}" if condition.field in indexed else None
        decided = None if column is None else _decided(column, condition)
        if decided is not None:
            terms += decided
        else:
            exact = False
            terms += _needles(condition)
    return Filter(tuple(terms), exact)


def key_terms(prefix: str) -> list[Term]:
    """Return the condition that a key begins with a prefix; SQLite compares text by its UTF-8, so by code points."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return [Term("key>=?", (prefix,))] if prefix else []
    last = ord(stem[-1])
    after = _AFTER_SURROGATES if last == _BEFORE_SURROGATES else last + 1  # surrogates have no UTF-8
    return [Term("key>=?", (prefix,)), Term("key<?", (stem[:-1] + chr(after),))]


def _decided(column: str, condition: Condition) -> list[Term] | None:
    """Return the SQL of a condition by a column of sort keys; None if only the value itself decides it.

    Arrays and objects compare member by member, whatever the order of their members: their sort keys do not tell.
    """
    operator, operand = condition.operator, condition.operand
    if operator == "exists":
        return [Term(f"{column} IS {'NOT ' if operand else ''}NULL")]
    if any(type(value) in (list, dict) for value in (operand if operator == "in" else [operand])):
        return None
    if operator == "in":
        if len(operand) > _VALUES_MAX:
            return None
        return [Term(f"{column} IN ({','.join('?' * len(operand))})", tuple(map(sort_key, operand)))]
    key = sort_key(operand)
    if operator in ("==", "!="):
        return [Term(f"{column} {'=' if operator == '==' else 'IS NOT'} ?", (key,))]
    low, high = type_range(key)
    return [Term(f"{column}{operator}?", (key,)), Term(f"{column}>=?", (low,)), Term(f"{column}<?", (high,))]


def _needles(condition: Condition) -> list[Term]:
    """Return a condition on the small fields' JSON that no answer fails; none where a value has several spellings."""
    operands = condition.operand if condition.operator == "in" else [condition.operand]
    if condition.operator not in ("==", "in") or not 0 < len(operands) <= _NEEDLES_MAX:
        return []
    if any(type(operand) not in _ONE_SPELLING for operand in operands):
        return []
    name = codec.dumps(condition.field)
    found = " OR ".join("instr(fields,?)" for _ in operands)
    needles = tuple([name + b":" + codec.dumps(operand) for operand in operands])
    return [Term(f"({found} OR (cut IS NOT NULL AND (cut=? OR instr(cut,?))))", (*needles, CUT_ANY, name))]


class Part(NamedTuple):
    """One of the statements whose rows, one statement after the other, come in a query's order."""

    position: str  # the column that rows are ordered by, or NULL
    terms: tuple[Term, ...]
    order: str


def parts_of(query: Query, indexed: Sequence[str]) -> list[Part] | None:
    """Return the SQL for rows in a query's order, from its place on; None if no column has that order.

    Rows without an indexed field come last, in a statement of their own: so each can walk one SQL index.
    """
    if not query.by_column and query.order not in indexed:
        return None
    column = COLUMNS[query.order] if query.by_column else f"i{indexed.index(query.order)}"
    direction, beyond = (" DESC", "<") if query.descending else ("", ">")
    place = query.after
    if column == "key":
        terms = (Term(f"key{beyond}?", (place.key,)),) if place else ()
        return [Part("key", terms, f" ORDER BY key{direction}")]
    present: tuple[Term, ...] = () if query.by_column else (Term(f"{column} IS NOT NULL"),)
    if place is not None and place.position is not None:
        value = place.position
        tie = Term(f"({column}{beyond}? OR key>?)", (value, place.key))
        present = (*present, Term(f"{column}{beyond}=?", (value,)), tie)
    first = Part(column, present, f" ORDER BY {column}{direction},key")
    if query.by_column:
        return [first]
    rest = Part("NULL", (Term(f"{column} IS NULL"),), " ORDER BY key")
    if place is not None and place.position is None:
        return [rest._replace(terms=(*rest.terms, Term("key>?", (place.key,))))]
    if any(c.field == query.order and not c.admits_absent for c in query.conditions):
        return [first]
    return [first, rest]
