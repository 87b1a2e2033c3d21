"""The members of an object with known names, as dataclasses and TypedDicts have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardstore._typed.converter import Misfit, Pair, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class Members:
    """The names and types of an object's members. Members that it does not name are left out."""

    def __init__(self, title: str, pairs: Mapping[str, Pair], required: frozenset[str]) -> None:
        self._title = title
        self.pairs = pairs
        self.required = required
        self._members = [(name, *pair) for name, pair in pairs.items()]

    def load(self, value: Any) -> dict[str, Any]:
        """Return the members of an object, each loaded."""
        if type(value) is not dict:
            raise Misfit(f"{kind_of(value)} where an object for {self._title} belongs")
        found = {}
        for name, load, _, same in self._members:
            if name in value:
                one = value[name]
                try:
                    found[name] = one if type(one) is same else load(one)
                except Misfit as misfit:
                    raise misfit.inside(name)  # noqa: B904  # the same one
            elif name in self.required:
                raise self._missing(name)
        return found

    def dump(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return members as JSON; those that are not there, and need not be, stay away."""
        found = {}
        for name, _, dump, same in self._members:
            if name in values:
                one = values[name]
                try:
                    found[name] = one if type(one) is same else dump(one)
                except Misfit as misfit:
                    raise misfit.inside(name)  # noqa: B904  # the same one
            elif name in self.required:
                raise self._missing(name)
        return found

    def _missing(self, name: str) -> Misfit:
        return Misfit(f"missing, and {self._title} has no default for it").inside(name)
