"""The checks of arguments that several verbs share, before anything is locked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from shardstore.errors import InvalidEntry, InvalidQuery
from shardstore.log import ticks
from shardstore.query import Bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardstore.types import Row

_ENCODABLE: Final = re.compile("[^\ud800-\udfff]*", re.DOTALL)
_PAIR: Final = (2, 3)  # members
INDEXED_MAX: Final = 64  # each makes every refresh dearer
_V = TypeVar("_V")


def mapping(data: Mapping[str, _V]) -> Mapping[str, _V]:
    """Return `data`; raise InvalidEntry unless it is a mapping."""
    if not isinstance(data, Mapping):
        raise InvalidEntry("entry", f"{type(data).__name__} is not a mapping of fields")
    return data


def microseconds(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidQuery(f"a bound in time is a datetime with a time zone, not {moment!r}")
    return ticks(moment)


def bounds(since: datetime | None, before: datetime | None, larger_than: int | None) -> Bounds:
    return Bounds(microseconds(since), microseconds(before), larger_than)


def rows(
    pairs: Mapping[str, Mapping[str, object]] | Iterable[Row],
) -> Iterator[tuple[str, Mapping[str, object], int | None]]:
    """Yield key, entry and time of each pair. Raises TypeError, InvalidEntry, InvalidQuery."""
    for pair in pairs.items() if isinstance(pairs, Mapping) else pairs:
        if not isinstance(pair, tuple | list) or len(pair) not in _PAIR:
            raise TypeError(f"a pair is (key, entry) or (key, entry, at), not {pair!r:.100}")
        at = pair[2] if len(pair) == _PAIR[-1] else None
        yield pair[0], mapping(pair[1]), microseconds(at)


def skips(on_damage: str) -> bool:
    if on_damage not in ("raise", "skip"):
        raise ValueError(f'on_damage is "raise" or "skip", not {on_damage!r}')
    return on_damage == "skip"


def field_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of fields to be indexed, each once. Raises ValueError."""
    found = () if isinstance(names, str) else tuple(dict.fromkeys(names))
    if isinstance(names, str) or not all(type(name) is str and _ENCODABLE.fullmatch(name) for name in found):
        raise ValueError(f"indexed is a list of field names, not {names!r}")
    if len(found) > INDEXED_MAX:
        raise ValueError(f"{len(found)} fields to be indexed; at most {INDEXED_MAX} are allowed")
    return found
