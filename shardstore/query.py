"""What a list asks for, and which row answers it: the one definition, for rows of the catalogue and of a scan alike.

Values compare as JSON: a condition on another type than the value's does not match, a bool is no number, 5 and 5.0 are
equal, text compares by code points. An absent field matches only `!=` and ("exists", False).
Order: by value within a type; types in the order null, false, true, number, text, array, object; absent fields last in
both directions; what is equal by key, ascending.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._files.index.rows import CUT_ANY
from shardstore.errors import InvalidEntry, InvalidQuery
from shardstore.session import SessionInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardstore._files.index.rows import Row
    from shardstore._model import State
    from shardstore.types import Where

Fetch = Callable[["Row", "tuple[str, ...]"], "tuple[Row, dict[str, Any]] | None"]

COLUMNS: Final = {"key": "key", "updated_at": "updated", "created_at": "created", "size": "size", "rev": "rev"}
_ORDERED: Final = ("number", "text")
_TYPE_ORDER: Final = ("null", "bool", "number", "text", "array", "object")
_KINDS: Final = {
    type(None): "null",
    bool: "bool",
    int: "number",
    float: "number",
    str: "text",
    list: "array",
    dict: "object",
}


class Bounds(NamedTuple):
    """Limits on what is in every row."""

    updated_since: int | None = None  # microseconds since the epoch: not before it
    updated_before: int | None = None  # microseconds since the epoch: before it
    larger_than: int | None = None  # bytes of the entry: more than that

    def admit(self, row: Row) -> bool:
        """Tell whether a row is within the limits."""
        return (
            (self.updated_since is None or row.updated >= self.updated_since)
            and (self.updated_before is None or row.updated < self.updated_before)
            and (self.larger_than is None or row.size > self.larger_than)
        )


class Condition(NamedTuple):
    """One condition on one field."""

    field: str
    operator: str
    operand: Any

    def holds(self, values: dict[str, Any]) -> bool:
        """Tell whether an entry's values meet it."""
        if self.field not in values:
            return self.operator == "!=" or (self.operator == "exists" and not self.operand)
        return _OPERATORS[self.operator](values[self.field], self.operand)

    def needles(self) -> list[bytes] | None:
        """Give bytes one of which is in the projected fields of every row that meets it; None: not known.

        Only where a value has one spelling as JSON, which numbers have not.
        """
        operands = self.operand if self.operator == "in" else [self.operand]
        if self.operator not in ("==", "in") or any(_KINDS[type(o)] not in ("null", "bool", "text") for o in operands):
            return None
        return [codec.dumps(self.field) + b":" + codec.dumps(operand) for operand in operands]


class Query(NamedTuple):
    """A list, understood. Made by `parse`."""

    prefix: str
    conditions: tuple[Condition, ...]
    order: str  # a column's or a field's name
    descending: bool
    limit: int | None
    offset: int
    bounds: Bounds

    @property
    def by_column(self) -> bool:
        """Whether the order is one that every row has."""
        return self.order in COLUMNS

    @property
    def needed(self) -> tuple[str, ...]:
        """The fields whose values decide."""
        names = dict.fromkeys(condition.field for condition in self.conditions)
        if not self.by_column:
            names[self.order] = None
        return tuple(names)

    def sort_key(self, candidate: Candidate) -> Any:
        """Give what candidates are sorted by, ascending."""
        if self.by_column:
            value: Any = getattr(candidate.row, COLUMNS[self.order])
            return (_Reversed(value) if self.descending else value, candidate.row.key)
        if self.order not in candidate.values:
            return (True, None, candidate.row.key)
        rank = _rank(candidate.values[self.order])
        return (False, _Reversed(rank) if self.descending else rank, candidate.row.key)


class Candidate(NamedTuple):
    """A row, with the values that the query needs."""

    row: Row
    values: dict[str, Any]


class _Reversed:
    """Sorts the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]


NO_BOUNDS = Bounds()


def parse(  # noqa: PLR0913  # the arguments of a list
    prefix: str | None,
    where: Where | None,
    order_by: str = "key",
    limit: int | None = None,
    offset: int = 0,
    bounds: Bounds = NO_BOUNDS,
) -> Query:
    """Understand the arguments of a list. Raises InvalidQuery for everything that means nothing."""
    if prefix is not None and type(prefix) is not str:
        raise InvalidQuery(f"prefix is a str, not {type(prefix).__name__}")
    if type(order_by) is not str or not order_by.removeprefix("-"):
        raise InvalidQuery(f"order_by is a field's name, or '-' and a field's name, not {order_by!r}")
    if limit is not None and not _is_count(limit):
        raise InvalidQuery(f"limit is None or an int that is not negative, not {limit!r}")
    if not _is_count(offset):
        raise InvalidQuery(f"offset is an int that is not negative, not {offset!r}")
    for name, bound in zip(bounds._fields, bounds, strict=True):
        if bound is not None and type(bound) is not int:
            raise InvalidQuery(f"{name} is None or an int, not {bound!r}")
    order = order_by.removeprefix("-")
    return Query(prefix or "", _conditions(where), order, order != order_by, limit, offset, bounds)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _conditions(where: Where | None) -> tuple[Condition, ...]:
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise InvalidQuery(f"where is a mapping of fields to values or (operator, value), not {type(where).__name__}")
    return tuple(_condition(field, wanted) for field, wanted in where.items())


def _condition(field: Any, wanted: Any) -> Condition:
    if type(field) is not str:
        raise InvalidQuery(f"where: a field's name is a str, not {field!r}")
    if not isinstance(wanted, tuple):
        return Condition(field, "==", _json(field, wanted))
    if len(wanted) != 2 or wanted[0] not in _OPERATORS:  # noqa: PLR2004 - an operator and a value
        raise InvalidQuery(f"where[{field!r}]: (operator, value) with one of {' '.join(_OPERATORS)}, not {wanted!r}")
    operator, operand = wanted
    if operator == "exists":
        if type(operand) is not bool:
            raise InvalidQuery(f"where[{field!r}]: exists takes True or False, not {operand!r}")
        return Condition(field, operator, operand)
    if operator == "in":
        if not isinstance(operand, list | tuple | set | frozenset):
            raise InvalidQuery(f"where[{field!r}]: in takes a list of values, not {operand!r}")
        return Condition(field, operator, [_json(field, item) for item in operand])
    operand = _json(field, operand)
    if operator not in ("==", "!=") and _KINDS[type(operand)] not in _ORDERED:
        raise InvalidQuery(f"where[{field!r}]: {operator} compares numbers or texts, not {operand!r}")
    return Condition(field, operator, operand)


def _json(field: str, value: Any) -> Any:
    try:
        return codec.loads(codec.encode(value, field))
    except InvalidEntry as error:
        raise InvalidQuery(f"where[{field!r}]: {error}") from None


def _same(a: Any, b: Any) -> bool:
    """Compare two JSON values; True is not 1, at any depth."""
    kind = _KINDS[type(a)]
    if kind != _KINDS[type(b)]:
        return False
    if kind == "array":
        return len(a) == len(b) and all(map(_same, a, b))
    if kind == "object":
        return a.keys() == b.keys() and all(_same(value, b[name]) for name, value in a.items())
    return bool(a == b)


def _comparable(a: Any, b: Any) -> bool:
    return _KINDS[type(a)] == _KINDS[type(b)]


_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": _same,
    "!=": lambda a, b: not _same(a, b),
    "<": lambda a, b: _comparable(a, b) and a < b,
    "<=": lambda a, b: _comparable(a, b) and a <= b,
    ">": lambda a, b: _comparable(a, b) and a > b,
    ">=": lambda a, b: _comparable(a, b) and a >= b,
    "in": lambda a, b: any(_same(a, item) for item in b),
    "exists": lambda _, wanted: bool(wanted),
}


def _rank(value: Any) -> tuple[int, Any]:
    """Give what a value is sorted by, whatever its type."""
    kind = _KINDS[type(value)]
    shown = codec.dumps(value) if kind in ("array", "object") else 0 if kind == "null" else value
    return _TYPE_ORDER.index(kind), shown


def matching(query: Query, rows: Iterable[Row], fetch: Fetch) -> Iterator[Candidate]:
    """Yield the rows that answer the query, in the order they come in.

    `fetch(row, fields)` reads a session whose row lacks a field that decides; None when it is gone by now.
    """
    needed = query.needed
    if not (needed or query.prefix or query.bounds != NO_BOUNDS):
        for row in rows:
            yield Candidate(row, {})
        return
    for row in rows:
        if not row.key.startswith(query.prefix) or not query.bounds.admit(row):
            continue
        if not needed:
            yield Candidate(row, {})
            continue
        found: tuple[Row, dict[str, Any]] | None = (row, codec.loads(row.fields))
        if row.cut is not None and any(lacks(row.cut, name) for name in needed):
            found = fetch(row, needed)
        if found is None or not query.bounds.admit(found[0]):
            continue
        if all(condition.holds(found[1]) for condition in query.conditions):
            yield Candidate(*found)


def lacks(cut: bytes, name: str) -> bool:
    """Tell whether a field of this name may be among those that were cut."""
    return cut == CUT_ANY or codec.dumps(name) in cut


def select(query: Query, rows: Iterable[Row], fetch: Fetch, *, ordered: bool) -> list[SessionInfo]:
    """Answer a list. `ordered`: the rows come in the query's order already."""
    stop = None if query.limit is None else query.offset + query.limit
    found: Iterable[Candidate] = () if query.limit == 0 else matching(query, rows, fetch)
    if not ordered:
        # Never more than the answer in memory, however many rows there are.
        found = sorted(found, key=query.sort_key) if stop is None else heapq.nsmallest(stop, found, query.sort_key)
    return [_info(candidate.row) for candidate in islice(found, query.offset, stop)]


def _info(row: Row) -> SessionInfo:
    return SessionInfo(row.key, row.rev, row.version, row.created, row.updated, row.size, row.fields)


def select_states(query: Query, states: Iterable[State]) -> list[SessionInfo]:
    """Answer a list from the states of sessions themselves, for an engine that has them at hand."""
    from shardstore._files.index.rows import Projection, Row

    projection = Projection(None)
    whole = {str(state.key): state for state in states}
    rows = [
        Row(b"", key, s.rev, s.version, s.created_at, s.updated_at, s.size, 0, *projection.of_raw(s.fields or {}))
        for key, s in whole.items()
    ]

    def fetch(row: Row, names: tuple[str, ...]) -> tuple[Row, dict[str, Any]]:
        fields = whole[row.key].fields or {}
        return row, {name: codec.loads(fields[name]) for name in names if name in fields}

    return select(query, rows, fetch, ordered=False)
