"""What a user reaches of the package, found by walking it: exported names, their methods, and what those return."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import shardstore
from shardstore import aio, errors, otel, typed

# What these modules export is where the walk begins.
DOORS = {
    shardstore: shardstore.__all__,
    errors: errors.__all__,
    otel: otel.__all__,
    typed: typed.__all__,
    aio: [
        name for name, made in vars(aio).items() if name[0] != "_" and getattr(made, "__module__", "") == aio.__name__
    ],
}
# Public by name and reached by the walk, but no user calls them. The walk goes no further here.
NOT_FOR_USERS = {
    "Draft.accept": "the store passes it what a mutator returned",
    "Draft.change": "the store asks for it at the end of a mutator",
    "Draft.committed": "the store calls it after the commit",
    "DraftLog.add_encoded": "the store adds items that are JSON already",
    "DraftLog.change": "the store asks for it at the end of a mutator",
    "Edit.end_of_block": "`with` calls it",
    "Edit.leave": "an ExitStack calls it",
    "Engine": "for those who write an engine: CONTRIBUTING.md",
    "LockTimeout.of": "AsyncStore makes one error of another",
    "Options": "the keywords of AsyncStore, for type checkers",
    "TypedDraft.accept": "the store passes it what a mutator returned",
    "View": "the keywords of AsyncStore.using, for type checkers",
    "Watch.look": "iterating and `ready` call it",
    "Watch.may_have_news": "iterating and `ready` call it",
    "Watch.pause": "iterating calls it",
}


class Member(NamedTuple):
    """One function, class, method or property that a user reaches."""

    name: str  # "Store.update"
    made: Any
    owner: type | None  # the class that a method or property is reached through
    text: str  # the docstring


@cache
def classes() -> dict[str, type]:
    """Return every class of the package by its name; of two with one name, that of a public module."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(shardstore.__path__, "shardstore."):
        if "_postgres" not in module.name:  # needs psycopg
            for made in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(made) and made.__module__ == module.name and made.__name__[0] != "_":
                    if "._" not in module.name or made.__name__ not in found:
                        found[made.__name__] = made
    return found


def function_of(made: Any) -> FunctionType | None:
    """Return the function of a method or property of ours; None for anything else in a class."""
    function = made.fget if isinstance(made, property) else getattr(made, "__func__", made)
    is_ours = isinstance(function, FunctionType) and function.__module__.partition(".")[0] == "shardstore"
    return function if is_ours else None


def attributes(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield names and values in a class and its bases, each name once."""
    for name in dict.fromkeys(name for base in kind.__mro__ for name in vars(base)):
        yield name, inspect.getattr_static(kind, name)


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class that a user may use, inherited ones too."""
    for name, made in attributes(kind):
        if name[0] != "_" and function_of(made) is not None and f"{kind.__name__}.{name}" not in NOT_FOR_USERS:
            yield name, made


def results(kind: type) -> set[str]:
    """Return the words in what methods return, among them names of classes; so do entering and iterating."""
    entered = [(name, made) for name, made in attributes(kind) if name in ("__enter__", "__next__")]
    functions = [function_of(made) for _, made in [*methods(kind), *entered]]
    notes = [str(function.__annotations__.get("return", "")) for function in functions if function is not None]
    return set(re.findall(r"\w+", " ".join(notes)))


@cache
def members() -> tuple[Member, ...]:
    """Return all that a user reaches, in the order in which it is found."""
    waiting = [getattr(module, name) for module, names in DOORS.items() for name in names]
    seen: dict[str, Any] = {}
    for made in waiting:  # grows
        if (inspect.isclass(made) or function_of(made)) and made.__module__.partition(".")[0] == "shardstore":
            if made.__name__ not in seen and made.__name__ not in NOT_FOR_USERS:
                seen[made.__name__] = made
                if inspect.isclass(made):
                    waiting += [classes()[name] for name in sorted(results(made)) if name in classes()]
    return tuple(one for made in seen.values() for one in _of(made))


def _of(made: Any) -> Iterator[Member]:
    yield Member(made.__name__, made, None, made.__doc__ or "")
    if inspect.isclass(made):
        for name, member in methods(made):
            yield Member(f"{made.__name__}.{name}", member, made, member.__doc__ or "")
