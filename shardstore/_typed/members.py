"""The members of an object with known names, as dataclasses and TypedDicts have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shardstore import _codec as codec
from shardstore._typed.converter import Misfit, Pair, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_MISSING: Final[Any] = object()


class Members:
    """The names and types of an object's members. Members that it does not name are left out."""

    def __init__(
        self, title: str, pairs: Mapping[str, Pair], required: frozenset[str], get: Callable[[Any, str, Any], Any]
    ) -> None:
        """`get`: returns a member of an object, by its name, or the default: `getattr` or `dict.get`."""
        self._title = title
        self._pairs = pairs
        self._get = get
        self.names = frozenset(pairs)
        self._members = [(name, *pair, name in required) for name, pair in pairs.items()]

    def load(self, value: Any) -> dict[str, Any]:
        """Return the members of an object, each loaded."""
        if type(value) is not dict:
            raise Misfit(f"{kind_of(value)} where an object for {self._title} belongs")
        found = {}
        for name, load, _, same, is_required in self._members:
            if name in value:
                one = value[name]
                found[name] = one if type(one) in same else _converted(load, one, name)
            elif is_required:
                raise self._missing(name)
        return found

    def dump(self, value: Any) -> dict[str, Any]:
        """Return members as JSON; those that are not there, and need not be, stay away."""
        get, found = self._get, {}
        for name, _, dump, same, is_required in self._members:
            one = get(value, name, _MISSING)
            if one is not _MISSING:
                found[name] = one if type(one) in same else _converted(dump, one, name)
            elif is_required:
                raise self._missing(name)
        return found

    def again(self, fields: Mapping[str, bytes], names: Collection[str]) -> dict[str, Any]:
        """Return those of these members that stand in the fields as they are dumped when they were loaded."""
        found = {}
        for name in names:
            if name in fields:
                load, dump, same = self._pairs[name]
                one = codec.loads(fields[name])
                found[name] = one if type(one) in same else dump(load(one))
        return found

    def _missing(self, name: str) -> Misfit:
        return Misfit(f"missing, and {self._title} has no default for it").inside(name)


def _converted(way: Callable[[Any], Any], value: Any, name: str) -> Any:
    try:
        return way(value)
    except Misfit as misfit:
        raise misfit.inside(name)  # noqa: B904  # the same one
