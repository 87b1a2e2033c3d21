"""Lists, tuples, sets and dicts of values that have a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shardstore import _codec as codec
from shardstore._typed.converter import Misfit, Pair, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TEXT: Final = frozenset({str})


def array_pair(make: type, taken: Any, item: Pair) -> Pair:
    """Return the pair of collections of one type; sets have an order in JSON, so that equal ones look equal."""

    def load(value: Any) -> Any:
        if type(value) is not list:
            raise Misfit(f"{kind_of(value)} where a list belongs")
        found = list(value) if _are(item.same, value) else _each(item.load, value)
        try:
            return found if make is list else make(found)
        except TypeError as error:  # not hashable
            raise Misfit(f"a {make.__name__} cannot hold such items: {error}") from error

    def dump(value: Any) -> list[Any]:
        if not isinstance(value, taken):
            raise Misfit(f"{kind_of(value)} where a {make.__name__} belongs")
        found = list(value) if _are(item.same, value) else _each(item.dump, value)
        return sorted(found, key=codec.dumps) if make in (set, frozenset) else found

    return Pair(load, dump)


def tuple_pair(items: list[Pair]) -> Pair:
    """Return the pair of tuples with a type for each place."""

    def convert(value: Any, taken: Any, ways: list[Callable[[Any], Any]]) -> list[Any]:
        if not isinstance(value, taken) or len(value) != len(ways):
            raise Misfit(f"{kind_of(value)} where {len(ways)} items belong")
        return _each(lambda both: both[0](both[1]), zip(ways, value, strict=True))

    loads, dumps = [item.load for item in items], [item.dump for item in items]
    return Pair(lambda value: tuple(convert(value, list, loads)), lambda value: convert(value, tuple, dumps))


def object_pair(key: Pair, item: Pair) -> Pair:
    """Return the pair of dicts, whose keys are text or become text."""

    def load(value: Any) -> dict[Any, Any]:
        if type(value) is not dict:
            raise Misfit(f"{kind_of(value)} where an object belongs")
        if _are(key.same, value) and _are(item.same, value.values()):
            return dict(value)
        return {_member(key.load, name, name): _member(item.load, one, name) for name, one in value.items()}

    def dump(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Misfit(f"{kind_of(value)} where a dict belongs")
        if _are(key.same & _TEXT, value) and _are(item.same, value.values()):
            return dict(value)
        found = {}
        for given, one in value.items():
            name = _member(key.dump, given, given)
            if type(name) is not str:
                raise Misfit(f"a member's name is text, not {kind_of(name)}").inside(given)
            found[name] = _member(item.dump, one, name)
        return found

    return Pair(load, dump)


def _are(same: frozenset[type], values: Iterable[Any]) -> bool:
    """Return whether all of these values are what JSON has, as in most collections: a call for each costs more."""
    return same.issuperset(map(type, values))


def _member(way: Callable[[Any], Any], value: Any, name: Any) -> Any:
    try:
        return way(value)
    except Misfit as misfit:
        raise misfit.inside(name)  # noqa: B904  # the same one


def _each(way: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    try:
        for value in values:
            found.append(way(value))  # noqa: PERF401  # its length is the index of the one that does not fit
    except Misfit as misfit:
        raise misfit.inside(len(found))  # noqa: B904  # the same one
    return found
