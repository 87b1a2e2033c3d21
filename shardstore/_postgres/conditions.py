"""From a query to SQL over the table `session`: the conditions that SQL can decide, and the order of rows.

Sort keys of indexed fields stand in the array `keys`. They may be long, so an index holds how they begin: a condition
names the beginning, for the index, and the whole, which decides. Keys are treated the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._order import sort_key, type_range
from shardstore._postgres.schema import PREFIX
from shardstore._projection import CUT_ANY
from shardstore.session import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardstore._postgres.values import Value
    from shardstore.query import Condition, Query

_NEEDLES_MAX: Final = 8  # more are quicker to decide one by one
_VALUES_MAX: Final = 500  # in one IN
_INT_MAX: Final = 2**63 - 1
_BEFORE_SURROGATES, _AFTER_SURROGATES = 0xD7FF, 0xE000
_ONE_SPELLING: Final = frozenset({str, bool, type(None)})  # as JSON, which numbers have not


class Term(NamedTuple):
    """A condition in SQL, with %s for each value."""

    sql: str
    values: tuple[Value, ...] = ()


class Filter(NamedTuple):
    """The conditions of a query that SQL decides; every answer passes them."""

    terms: tuple[Term, ...]
    exact: bool  # every row that passes it is an answer


def column_of(n: int) -> str:
    """Return the sort key of the indexed field at this place."""
    return f"keys[{n + 1}]"


def start_of(column: str) -> str:
    """Return how a sort key begins: what an index holds."""
    return f"substr({column}, 1, {PREFIX})"


KEY_START: Final = f"left(key, {PREFIX})"


def filter_of(query: Query, indexed: Sequence[str]) -> Filter:
    """Return the conditions that SQL can decide, limits, order and place aside."""
    terms, exact = [Term("live"), *_prefix_terms(query.prefix)], True
    for bound, sql in zip(
        query.bounds, ("updated >= %s::bigint", "updated < %s::bigint", "size > %s::bigint"), strict=True
    ):
        if bound is not None:
            terms.append(Term(sql, (max(-_INT_MAX, min(bound, _INT_MAX)),)))
    terms += [Term(condition.on_number("log_length")) for condition in query.lengths]
    for condition in query.conditions:
        decided = _decided(column_of(indexed.index(condition.field)), condition) if condition.field in indexed else None
        if decided is not None:
            terms += decided
        else:
            exact = False
            terms += _needles(condition)
    return Filter(tuple(terms), exact)


def _prefix_terms(prefix: str) -> list[Term]:
    """Return the condition that a key begins with a prefix. Keys compare by their UTF-8, so by code points."""
    if not prefix:
        return []
    short = prefix[:PREFIX]
    terms = [Term(f"{KEY_START} >= %s::text", (short,))]
    after = _after(short)
    if after is not None:
        terms.append(Term(f"{KEY_START} < %s::text", (after,)))
    if len(prefix) > PREFIX:
        terms.append(Term("starts_with(key, %s::text)", (prefix,)))
    return terms


def _after(prefix: str) -> str | None:
    """Return the least text behind all with this prefix; None where there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    last = ord(stem[-1])
    return stem[:-1] + chr(_AFTER_SURROGATES if last == _BEFORE_SURROGATES else last + 1)  # surrogates have no UTF-8


def _compared(column: str, operator: str, key: bytes) -> list[Term]:
    """Return a comparison of a sort key: of how it begins, for the index, and of all of it."""
    loose = {"<": "<=", ">": ">="}.get(operator, operator)
    return [
        Term(f"{start_of(column)} {loose} %s::bytea", (key[:PREFIX],)),
        Term(f"{column} {operator} %s::bytea", (key,)),
    ]


def _decided(column: str, condition: Condition) -> list[Term] | None:  # noqa: PLR0911  # one return an operator
    """Return the SQL of a condition by a column of sort keys; None if only the value itself decides it.

    Arrays and objects compare member by member, whatever the order of their members: their sort keys do not tell.
    """
    operator, operand = condition.operator, condition.operand
    if operator == "exists":
        return [Term(f"{start_of(column)} IS {'NOT ' if operand else ''}NULL")]
    if any(type(value) in (list, dict) for value in (operand if operator == "in" else [operand])):
        return None
    if operator == "in":
        if len(operand) > _VALUES_MAX:
            return None
        keys = [sort_key(value) for value in operand]
        return [
            Term(f"{start_of(column)} = ANY (%s::bytea[])", ([key[:PREFIX] for key in keys],)),
            Term(f"{column} = ANY (%s::bytea[])", (keys,)),
        ]
    key = sort_key(operand)
    if operator == "!=":
        return [Term(f"{column} IS DISTINCT FROM %s::bytea", (key,))]
    if operator == "==":
        return _compared(column, "=", key)
    low, high = type_range(key)
    return [*_compared(column, operator, key), *_compared(column, ">=", low), *_compared(column, "<", high)]


def _needles(condition: Condition) -> list[Term]:
    """Return a condition on the small fields' JSON that no answer fails; none where a value has several spellings."""
    operands = condition.operand if condition.operator == "in" else [condition.operand]
    if condition.operator not in ("==", "in") or not 0 < len(operands) <= _NEEDLES_MAX:
        return []
    if any(type(operand) not in _ONE_SPELLING for operand in operands):
        return []
    name = codec.dumps(condition.field)
    found = " OR ".join("position(%s::bytea IN fields) > 0" for _ in operands)
    needles = tuple([name + b":" + codec.dumps(operand) for operand in operands])
    cut = "(cut IS NOT NULL AND (cut = %s::bytea OR position(%s::bytea IN cut) > 0))"
    return [Term(f"({found} OR {cut})", (*needles, CUT_ANY, name))]


class Part(NamedTuple):
    """One of the statements whose rows, one statement after the other, come in a query's order."""

    position: str  # what rows are ordered by
    terms: tuple[Term, ...]
    order: str


def parts_of(query: Query, indexed: Sequence[str]) -> list[Part] | None:
    """Return the SQL for rows in a query's order, from its place on; None if no column has that order.

    Rows without an indexed field come last, in a statement of their own: so each can walk one index.
    """
    if not query.by_column and query.order not in indexed:
        return None
    column = COLUMNS[query.order] if query.by_column else column_of(indexed.index(query.order))
    way, beyond = (" DESC", "<") if query.descending else ("", ">")
    place = query.after
    by_key = f"{KEY_START}, key"
    if column == "key":
        terms = behind_key(place.key, beyond) if place else ()
        return [Part("key", terms, f"{KEY_START}{way}, key{way}")]
    if query.by_column:
        behind: tuple[Term, ...] = ()
        if place is not None and isinstance(place.position, int):
            tie = Term(f"({column} {beyond} %s::bigint OR key > %s::text)", (place.position, place.key))
            behind = (Term(f"{column} {beyond}= %s::bigint", (place.position,)), tie)
        return [Part(column, behind, f"{column}{way}, key")]
    return _parts_of_field(query, column, f"{start_of(column)}{way}, {column}{way}, key", by_key)


def _parts_of_field(query: Query, column: str, order: str, by_key: str) -> list[Part]:
    place, beyond = query.after, "<" if query.descending else ">"
    start = start_of(column)
    present: tuple[Term, ...] = (Term(f"{start} IS NOT NULL"),)
    rest = Part("NULL::bytea", (Term(f"{start} IS NULL"),), by_key)
    if place is not None and place.position is None:
        return [rest._replace(terms=(*rest.terms, *behind_key(place.key, ">")))]
    if place is not None and isinstance(place.position, bytes):
        tie = Term(f"({column} {beyond} %s::bytea OR key > %s::text)", (place.position, place.key))
        present = (*present, *_compared(column, f"{beyond}=", place.position), tie)
    first = Part(column, present, order)
    if any(c.field == query.order and not c.admits_absent for c in query.conditions):
        return [first]
    return [first, rest]


def behind_key(key: str, beyond: str) -> tuple[Term, ...]:
    """Return the condition that a key lies behind another one."""
    return (Term(f"{KEY_START} {beyond}= %s::text", (key[:PREFIX],)), Term(f"key {beyond} %s::text", (key,)))


def statement(head: str, terms: Sequence[Term], tail: str = "") -> tuple[str, list[Value]]:
    """Return a statement and its values: each %s becomes $1, $2 ..."""
    clause = " AND ".join(term.sql for term in terms)
    pieces = f"{head} WHERE {clause} {tail}".split("%s")
    numbered = "".join(piece + (f"${n}" if n < len(pieces) else "") for n, piece in enumerate(pieces, 1))
    return numbered, [value for term in terms for value in term.values]
