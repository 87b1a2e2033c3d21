"""The arguments of a list, and which rows answer it: the one definition, for every engine.

Values compare as JSON. A condition on another type than the value's does not match. A bool is no number, 5 and 5.0 are
equal, and text compares by code points. An absent field matches only `!=` and ("exists", False).
Order: by value (_order.py), absent fields last in both directions; rows with equal values by key, ascending.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._order import sort_key
from shardstore._row import COLUMNS, VALUE_BYTES_MAX, Candidate, Position, Row, fitting
from shardstore.errors import InvalidEntry, InvalidQuery
from shardstore.session import SessionInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardstore._model import State
    from shardstore._row import Answer
    from shardstore.types import Where

_ORDERED: Final = frozenset({int, float, str})
_LENGTH: Final = "log_length"
_INT_MAX: Final = 2**63 - 1  # of a column
_CURSOR_BYTES_MAX: Final = 1 << 30


class Bounds(NamedTuple):
    """Limits on the columns that every row has."""

    updated_since: int | None = None  # in the unit of State.updated_at: not before it
    updated_before: int | None = None  # before it
    larger_than: int | None = None  # bytes of the entry: more than that

    def admit(self, row: Row) -> bool:
        """Return whether a row is within the limits."""
        return (
            (self.updated_since is None or row.updated >= self.updated_since)
            and (self.updated_before is None or row.updated < self.updated_before)
            and (self.larger_than is None or row.size > self.larger_than)
        )


NO_BOUNDS: Final = Bounds()


class Condition(NamedTuple):
    """One condition on one field."""

    field: str
    operator: str
    operand: Any

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether an entry's values meet it."""
        if self.field not in values:
            return self.admits_absent
        return _OPERATORS[self.operator](values[self.field], self.operand)

    def on_number(self, column: str) -> str:
        """Return it in SQL, as SQLite and PostgreSQL have it, for a column of integers that every row has."""
        operands = self.operand if self.operator == "in" else [self.operand]
        numbers = [max(-_INT_MAX, min(one, _INT_MAX)) for one in operands if type(one) in (int, float)]
        if self.operator == "exists":
            return "1=1" if self.operand else "1=0"
        if not numbers:  # values of another type, which no number equals
            return "1=1" if self.operator == "!=" else "1=0"
        if self.operator in ("==", "in"):
            return f"{column} IN ({','.join(map(repr, numbers))})"
        return f"{column} {'<>' if self.operator == '!=' else self.operator} {numbers[0]!r}"

    @property
    def admits_absent(self) -> bool:
        """Whether an entry without the field meets it."""
        return self.operator == "!=" or (self.operator == "exists" and not self.operand)


class After(NamedTuple):
    """A place in an order: behind the row with this position and key."""

    position: Position
    key: str


class Query(NamedTuple):
    """The parsed arguments of a list."""

    prefix: str = ""
    conditions: tuple[Condition, ...] = ()
    order_by: str = "key"  # as the caller wrote it
    order: str = "key"  # a column's or a field's name
    descending: bool = False
    limit: int | None = None
    offset: int = 0
    bounds: Bounds = NO_BOUNDS
    after: After | None = None
    fields: tuple[str, ...] | None = None  # which fields the rows show, whole; None: the small ones
    lengths: tuple[Condition, ...] = ()  # on the length of the log, which is no field

    @property
    def by_column(self) -> bool:
        """Whether the order is by a column that every row has."""
        return self.order in COLUMNS

    @property
    def needed(self) -> tuple[str, ...]:
        """The fields whose values decide if a row answers, and in which place."""
        names = dict.fromkeys(condition.field for condition in self.conditions)
        if not self.by_column:
            names[self.order] = None
        return tuple(names)

    @property
    def stop(self) -> int | None:
        """How many rows, from the first, are needed."""
        return None if self.limit is None else self.offset + self.limit

    def candidate(self, row: Row, values: Mapping[str, Any]) -> Candidate | None:
        """Return the row with its position if it answers the query, else None. `values`: those of `needed`."""
        if not row.key.startswith(self.prefix) or not self.bounds.admit(row):
            return None
        if not all(condition.holds(values) for condition in self.conditions):
            return None
        if self.lengths and not all(condition.holds({_LENGTH: row.log_length}) for condition in self.lengths):
            return None
        found = Candidate(row, self.position(row, values))
        return found if self.after is None or self.rank(found) > self._rank(*self.after) else None

    def candidate_of(self, state: State) -> Candidate | None:
        """Return a session, whose state is at hand, with its position if it answers the query, else None."""
        entry = state.fields or {}
        shown = fitting({name: raw for name, raw in entry.items() if len(raw) <= VALUE_BYTES_MAX})
        hidden = [name for name in entry if name not in shown]
        row = Row(
            str(state.key), state.rev, state.version, state.created_at, state.updated_at, state.size,
            state.log_length, codec.join(entry), None, codec.kept(hidden) if hidden else None,
        )  # fmt: skip
        return self.candidate(row, {name: codec.loads(entry[name]) for name in self.needed if name in entry})

    def position(self, row: Row, values: Mapping[str, Any]) -> Position:
        """Return the value that a row is ordered by."""
        if self.by_column:
            return getattr(row, COLUMNS[self.order])  # type: ignore[no-any-return]
        return sort_key(values[self.order]) if self.order in values else None

    def rank(self, answer: Answer) -> Any:
        """Return the key by which answers sort, ascending."""
        return self._rank(answer.position, answer.key)

    def _rank(self, position: Position, key: str) -> Any:
        if position is None:
            return (True, None, key)
        if not self.descending:
            return (False, position, key)
        return (False, -position if type(position) is int else _Reversed(position), key)

    def info(self, candidate: Candidate) -> SessionInfo:
        """Return a row as the caller of a list gets it."""
        return SessionInfo(candidate, self.order_by, self.fields)


class _Reversed:
    """A value that sorts in reverse."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.value < self.value)

    def __gt__(self, other: _Reversed) -> bool:
        return bool(other.value > self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]


def parse(  # noqa: PLR0913  # the arguments of a list
    prefix: str | None = None,
    where: Where | None = None,
    order_by: str = "key",
    limit: int | None = None,
    offset: int = 0,
    bounds: Bounds = NO_BOUNDS,
    after: SessionInfo | str | None = None,
    fields: Iterable[str] | None = None,
) -> Query:
    """Parse the arguments of a list. Raises InvalidQuery for malformed ones."""
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
    if after is not None and offset:
        raise InvalidQuery("after and offset both say where to begin; give one of them")
    order = order_by.removeprefix("-")
    conditions = _conditions(where)
    return Query(
        prefix or "", tuple([c for c in conditions if c.field != _LENGTH]), order_by, order, order != order_by, limit,
        offset, bounds, _after(after, order_by), _names(fields), tuple([c for c in conditions if c.field == _LENGTH]),
    )  # fmt: skip


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _names(fields: Iterable[str] | None) -> tuple[str, ...] | None:
    if fields is None:
        return None
    names = () if isinstance(fields, str) else tuple(fields)
    if isinstance(fields, str) or not all(type(name) is str for name in names):
        raise InvalidQuery(f"fields is a list of field names, not {fields!r}")
    return names


def _after(after: SessionInfo | str | None, order_by: str) -> After | None:
    """Parse the place to continue from. Raises InvalidQuery for a cursor of another order."""
    if after is None:
        return None
    cursor = after.cursor if isinstance(after, SessionInfo) else after
    if type(cursor) is not str or len(cursor) > _CURSOR_BYTES_MAX:
        raise InvalidQuery(f"after is a SessionInfo or its cursor, not {type(after).__name__}")
    try:
        made_for, kind, text, key = codec.loads(base64.urlsafe_b64decode(cursor.encode()))
        position = _POSITIONS[kind](text)
    except (ValueError, TypeError, KeyError):
        raise InvalidQuery("after is no cursor of a SessionInfo") from None
    if type(key) is not str or type(made_for) is not str or type(position) is not _position_type(made_for, kind):
        raise InvalidQuery("after is no cursor of a SessionInfo")
    if made_for != order_by:
        raise InvalidQuery(f"after belongs to a list with order_by={made_for!r}, not {order_by!r}")
    return After(position, key)


_POSITIONS: Final[dict[str, Callable[[Any], Position]]] = {
    "column": lambda value: value,
    "field": bytes.fromhex,
    "absent": lambda _: None,
}


def _position_type(order_by: str, kind: str) -> type:
    column = order_by.removeprefix("-")
    if (kind == "column") != (column in COLUMNS):
        return InvalidQuery  # the type of no position
    if kind == "column":
        return str if column == "key" else int
    return bytes if kind == "field" else type(None)


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
    if len(wanted) != 2 or type(wanted[0]) is not str or wanted[0] not in _OPERATORS:  # noqa: PLR2004 - a pair
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
    if operator not in ("==", "!=") and type(operand) not in _ORDERED:
        raise InvalidQuery(f"where[{field!r}]: {operator} compares numbers or texts, not {operand!r}")
    return Condition(field, operator, operand)


def _json(field: str, value: Any) -> Any:
    try:
        return codec.loads(codec.encode(value, field))
    except InvalidEntry as error:
        raise InvalidQuery(f"where[{field!r}]: {error}") from None


def _kind(value: Any) -> type:
    """Return the type that a value compares as: the numbers are one."""
    kind: type = type(value)
    return float if kind is int else kind


def _same(a: Any, b: Any) -> bool:
    """Compare two JSON values; True is not 1, at any depth."""
    kind = _kind(a)
    if kind != _kind(b):
        return False
    if kind is list:
        return len(a) == len(b) and all(map(_same, a, b))
    if kind is dict:
        return a.keys() == b.keys() and all(_same(value, b[name]) for name, value in a.items())
    return bool(a == b)


_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": _same,
    "!=": lambda a, b: not _same(a, b),
    "<": lambda a, b: _kind(a) == _kind(b) and a < b,
    "<=": lambda a, b: _kind(a) == _kind(b) and a <= b,
    ">": lambda a, b: _kind(a) == _kind(b) and a > b,
    ">=": lambda a, b: _kind(a) == _kind(b) and a >= b,
    "in": lambda a, b: any(_same(a, item) for item in b),
    "exists": lambda _, wanted: bool(wanted),
}
