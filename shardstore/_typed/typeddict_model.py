"""TypedDicts, those of `typing` and of `typing_extensions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from shardstore._typed.converter import Misfit, Pair, kind_of
from shardstore._typed.members import Members

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_QUALIFIERS: Final = {"Required": True, "NotRequired": False, "ReadOnly": None}


def is_typeddict(cls: object) -> bool:
    """Return whether this is a TypedDict of any library."""
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def typeddict_fields(cls: Any, hints: Mapping[str, Any]) -> dict[str, tuple[Any, bool]]:
    """Return the type of each member, and whether it has to be there.

    `__required_keys__` is wrong where annotations are texts (`from __future__ import annotations`), so a qualifier
    that stands in the hint comes first.
    """
    found = {}
    for name, given in hints.items():
        hint, is_required = given, name in cls.__required_keys__
        while (qualifier := getattr(get_origin(hint), "_name", None)) in _QUALIFIERS:
            said = _QUALIFIERS[qualifier]
            is_required = is_required if said is None else said
            hint = get_args(hint)[0]
        found[name] = hint, is_required
    return found


def typeddict_pair(cls: Any, hints: Mapping[str, Any], pair_of: Callable[[Any], Pair]) -> tuple[Pair, Members]:
    """Return both directions for a TypedDict, and its members. Dumping refuses a member that it does not name."""
    fields = typeddict_fields(cls, hints)
    members = Members(
        cls.__name__,
        {name: pair_of(hint) for name, (hint, _) in fields.items()},
        frozenset(name for name, (_, is_required) in fields.items() if is_required),
        dict.get,
    )

    def dump(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Misfit(f"{kind_of(value)} where a {cls.__name__} belongs")
        if not value.keys() <= members.names:
            unknown = next(name for name in value if name not in members.names)
            raise Misfit(f"{cls.__name__} has no member of this name").inside(unknown)
        return members.dump(value)

    return Pair(members.load, dump), members
