"""Dataclasses. A field with init=False is derived by the class itself, so it is not stored."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from shardstore._typed.converter import Misfit, Pair, kind_of
from shardstore._typed.members import Members

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def dataclass_fields(cls: type) -> dict[str, bool]:
    """Return the names of the stored fields, and whether each has to be there."""
    return {
        field.name: field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        for field in dataclasses.fields(cls)
        if field.init
    }


def dataclass_pair(cls: Any, hints: Mapping[str, Any], pair_of: Callable[[Any], Pair]) -> tuple[Pair, Members]:
    """Return both directions for a dataclass, and its members. Raises TypeError where it cannot be made of fields."""
    if any(isinstance(hint, dataclasses.InitVar) for hint in hints.values()):
        raise TypeError(f"{cls.__name__} has an InitVar, which is not stored; give it a default and a field instead")
    stored = dataclass_fields(cls)
    members = Members(
        cls.__name__,
        {name: pair_of(hints[name]) for name in stored},
        frozenset(name for name, is_required in stored.items() if is_required),
        getattr,
    )

    def load(value: Any) -> Any:
        found = members.load(value)
        try:
            return cls(**found)
        except (TypeError, ValueError) as error:  # from __post_init__
            raise Misfit(f"{cls.__name__}: {error}") from error

    def dump(value: Any) -> dict[str, Any]:
        if not isinstance(value, cls):
            raise Misfit(f"{kind_of(value)} where a {cls.__name__} belongs")
        return members.dump(value)

    return Pair(load, dump), members
