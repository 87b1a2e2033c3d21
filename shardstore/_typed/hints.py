"""From a type hint to both directions for its values, without any library: for dataclasses and TypedDicts.

Strict, as the store is: 1 is no bool and True no int. An int is welcome where a float belongs.
"""

from __future__ import annotations

import collections.abc
import typing
from enum import Enum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, ForwardRef, Literal, NewType, TypeVar, Union, get_args, get_origin

from shardstore._typed import scalars
from shardstore._typed.containers import array_pair, object_pair, tuple_pair
from shardstore._typed.converter import Misfit, Pair, kind_of
from shardstore._typed.dataclass_model import dataclass_fields, dataclass_pair
from shardstore._typed.typeddict_model import is_typeddict, typeddict_fields, typeddict_pair
from shardstore.types import JSON

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._typed.members import Members

_ARRAYS: Final[dict[Any, tuple[type, Any]]] = {  # what is made of a list, and what is taken as one
    list: (list, list),
    collections.abc.Sequence: (list, (list, tuple)),
    collections.abc.MutableSequence: (list, list),
    set: (set, set),
    collections.abc.Set: (set, collections.abc.Set),
    collections.abc.MutableSet: (set, set),
    frozenset: (frozenset, frozenset),
}
_OBJECTS: Final = frozenset({dict, collections.abc.Mapping, collections.abc.MutableMapping})


class _Later:
    """Both directions for a type that may contain itself, until its pair is made."""

    pair: Pair | None = None

    def load(self, value: Any) -> Any:
        return self.pair.load(value) if self.pair is not None else value

    def dump(self, value: Any) -> Any:
        return self.pair.dump(value) if self.pair is not None else value


class Compiler:
    """Makes the pairs for the hints of one model. `foreign` makes those of classes that have a library of their own."""

    def __init__(self, foreign: Callable[[Any], Pair | None]) -> None:
        self._foreign = foreign
        self._known: dict[Any, Pair] = {}
        self.members: dict[Any, Members] = {}  # of each class
        self.is_strict = True  # whether dumping refuses all that loading would not accept again

    def pair(self, hint: Any) -> Pair:
        """Return both directions for the values of a hint. Raises TypeError for one that JSON has no form for."""
        for form in (self._simple, self._choice, self._collection, self._named):
            found = form(hint)
            if found is not None:
                return found
        raise TypeError(f"a typed session cannot hold {_shown(hint)}; use a type that converts to JSON")

    def _simple(self, hint: Any) -> Pair | None:
        if hint in (Any, object, JSON) or (isinstance(hint, ForwardRef) and hint.__forward_arg__ == "JSON"):
            return scalars.ANYTHING
        if isinstance(hint, type) and issubclass(hint, Enum):
            return scalars.enum_pair(hint)
        found = scalars.PLAIN.get(NoneType if hint is None else hint)
        return found or (self.pair(hint.__supertype__) if isinstance(hint, NewType) else None)

    def _choice(self, hint: Any) -> Pair | None:
        origin, args = get_origin(hint), get_args(hint)
        if origin is Literal:
            return scalars.literal_pair(args)
        if origin is typing.Annotated:
            return self.pair(args[0])
        if origin in (Union, UnionType):
            return self._union(args)
        return None

    def _collection(self, hint: Any) -> Pair | None:
        origin, args = get_origin(hint) or hint, get_args(hint)
        if origin in _ARRAYS:
            return array_pair(*_ARRAYS[origin], self.pair(args[0] if args else Any))
        if origin in _OBJECTS:
            key, value = args or (str, Any)
            return object_pair(self.pair(key), self.pair(value))
        if origin is tuple:
            if not args or args[-1] is Ellipsis:
                return array_pair(tuple, tuple, self.pair(args[0] if args else Any))
            return tuple_pair([self.pair(one) for one in args])
        return None

    def _named(self, hint: Any) -> Pair | None:
        """Return the pair of a named type, which may contain itself."""
        if hint in self._known:
            return self._known[hint]
        if isinstance(hint, TypeVar | ForwardRef) or get_origin(hint) is not None:
            return None
        later = _Later()
        self._known[hint] = Pair(later.load, later.dump)
        if hasattr(hint, "__value__"):  # type Name = ..., from Python 3.12 on
            later.pair = self.pair(hint.__value__)
        elif hasattr(hint, "__dataclass_fields__"):
            later.pair, self.members[hint] = dataclass_pair(hint, hints_of(hint), self.pair)
            self.is_strict &= not hasattr(hint, "__post_init__")
        elif is_typeddict(hint):
            later.pair, self.members[hint] = typeddict_pair(hint, hints_of(hint), self.pair)
        else:
            later.pair = self._foreign(hint)
            self.is_strict = False
        return later.pair

    def _union(self, args: tuple[Any, ...]) -> Pair:
        """Return the pair of the first of several types that fits."""
        _check_told_apart([one for one in args if hasattr(one, "__dataclass_fields__") or is_typeddict(one)])
        pairs = [self.pair(one) for one in args if one is not NoneType]
        titles = " or ".join(_shown(one) for one in args)
        load, dump = _first([pair.load for pair in pairs], titles), _first([pair.dump for pair in pairs], titles)
        if len(pairs) == len(args):
            return Pair(load, dump, pairs[0].same)
        if len(pairs) == 1:
            load, dump = pairs[0].load, pairs[0].dump
        return Pair(_optional(load), _optional(dump), pairs[0].same | {NoneType})


def hints_of(cls: Any) -> dict[str, Any]:
    """Return the hints of a class, with its bases'. Raises TypeError where a name in them is not known."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{cls.__name__}: its annotations name {error.name!r}, which its module does not have"
        ) from error


def _optional(way: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else way(value)


def _first(ways: list[Callable[[Any], Any]], titles: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        misfits = []
        for way in ways:
            try:
                return way(value)
            except Misfit as misfit:
                misfits.append(misfit)
        deepest = max(misfits, key=lambda misfit: len(misfit.path))
        raise deepest if deepest.path else Misfit(f"{kind_of(value)} where {titles} belongs")

    return convert


def _check_told_apart(classes: list[Any]) -> None:
    """Raise TypeError unless each of several classes has a member, of the same name, with a Literal of its own.

    Members that a class does not know are left alone, so data of one class may fit another one as well.
    """
    if len(classes) < 2:  # noqa: PLR2004  # nothing to be mistaken for
        return
    tags = [_tags(cls) for cls in classes]
    for name in tags[0]:
        values = [tag.get(name) for tag in tags]
        if all(values) and len(set[Any]().union(*values)) == sum(len(one) for one in values if one):  # type: ignore[arg-type]
            return
    names = " and ".join(cls.__name__ for cls in classes)
    raise TypeError(
        f"{names} in one union need a member of the same name, each with a Literal of its own, without default"
    )


def _tags(cls: Any) -> dict[str, frozenset[Any]]:
    """Return the members that have to be there and are Literals, with their values."""
    hints = hints_of(cls)
    if is_typeddict(cls):
        found = {name: hint for name, (hint, is_required) in typeddict_fields(cls, hints).items() if is_required}
    else:
        found = {name: hints[name] for name in dataclass_fields(cls)}  # without a default it is told apart as well
    return {name: frozenset(get_args(hint)) for name, hint in found.items() if get_origin(hint) is Literal}


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
