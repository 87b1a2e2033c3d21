"""Values that JSON holds as they are, and those that it holds as text: times, UUIDs, paths, decimals, enums."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath, PurePosixPath
from types import NoneType
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from shardstore import _codec as codec
from shardstore._typed.converter import Misfit, Pair, kind_of
from shardstore.errors import InvalidEntry

if TYPE_CHECKING:
    from collections.abc import Callable

_JSON: Final = (str, int, float, bool, NoneType)


def _exact(kind: type) -> Pair:
    title = "null" if kind is NoneType else kind.__name__

    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise Misfit(f"{kind_of(value)} where {title} belongs")
        return value

    return Pair(check, check, frozenset({kind}))


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not int or not codec.INT_MIN <= value <= codec.INT_MAX:
        raise Misfit(f"{kind_of(value)} where float belongs")
    return float(value)


def _text(kind: type, parse: Callable[[str], Any], form: Callable[[Any], str]) -> Pair:
    def load(value: Any) -> Any:
        if type(value) is not str:
            raise Misfit(f"{kind_of(value)} where the text of a {kind.__name__} belongs")
        try:
            return parse(value)
        except (ValueError, ArithmeticError) as error:
            raise Misfit(f"{value!r:.80} is no {kind.__name__}") from error

    def dump(value: Any) -> str:
        if not isinstance(value, kind):
            raise Misfit(f"{kind_of(value)} where a {kind.__name__} belongs")
        return form(value)

    return Pair(load, dump)


def _copied(value: Any) -> Any:
    try:
        return codec.loads(codec.encode_item(value, ""))
    except InvalidEntry as error:
        raise Misfit(error.reason, error.path) from None


ANYTHING: Final = Pair(lambda value: value, _copied)
PLAIN: Final[dict[Any, Pair]] = {
    **{kind: _exact(kind) for kind in (str, int, bool, NoneType)},
    float: Pair(_number, _number, frozenset({float})),
    datetime: _text(datetime, datetime.fromisoformat, datetime.isoformat),
    date: _text(date, date.fromisoformat, date.isoformat),
    time: _text(time, time.fromisoformat, time.isoformat),
    UUID: _text(UUID, UUID, str),
    Decimal: _text(Decimal, Decimal, str),
    **{kind: _text(kind, kind, str) for kind in (Path, PurePath, PurePosixPath)},
}


def enum_pair(kind: type[Enum]) -> Pair:
    """Return the pair of an enum, whose members stand for their values."""
    _check_values(kind.__name__, [member.value for member in kind])

    members = {(type(member.value), member.value): member for member in kind}

    def load(value: Any) -> Enum:
        found = members.get((type(value), value)) if type(value) in _JSON else None
        return found if found is not None else _looked_up(kind, value)

    def dump(value: Any) -> Any:
        if not isinstance(value, kind):
            raise Misfit(f"{kind_of(value)} where a {kind.__name__} belongs")
        return value.value

    return Pair(load, dump)


def _looked_up(kind: type[Enum], value: Any) -> Enum:
    """Return the member that the enum itself finds: combined flags, and values that its `_missing_` knows."""
    try:
        found = None if type(value) in (bool, float, dict, list) else kind(value)  # True is 1 to an enum
    except ValueError:
        found = None
    if found is None:
        raise Misfit(f"{value!r:.80} is no {kind.__name__}")
    return found


def literal_pair(choices: tuple[Any, ...]) -> Pair:
    """Return the pair of a Literal, which may name members of an enum."""
    stored = [choice.value if isinstance(choice, Enum) else choice for choice in choices]
    _check_values("a Literal", stored)
    loads = {(type(one), one): choice for one, choice in zip(stored, choices, strict=True)}
    dumps = {(type(choice), choice): one for one, choice in zip(stored, choices, strict=True)}

    def convert(value: Any, known: dict[tuple[type, Any], Any]) -> Any:
        try:
            return known[type(value), value]
        except (KeyError, TypeError):  # TypeError: not hashable
            raise Misfit(f"{value!r:.80} where one of {', '.join(map(repr, stored))} belongs") from None

    return Pair(lambda value: convert(value, loads), lambda value: convert(value, dumps))


def _check_values(title: str, values: list[Any]) -> None:
    if not all(type(value) in _JSON for value in values):
        raise TypeError(f"{title} has values that are not text, numbers, booleans or None")
