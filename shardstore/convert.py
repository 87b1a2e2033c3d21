"""Convert Python values to JSON values, and parts to keys and back."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from shardstore import _codec as codec
from shardstore.errors import InvalidEntry, InvalidKey

_SEPARATOR: Final = ":"
_ESCAPED: Final = re.compile("[%:\0\ud800-\udfff]")
_ESCAPE: Final = re.compile("%(?:([0-9A-F]{2})|u(D[89A-F][0-9A-F]{2}))")


def jsonable(value: object) -> Any:
    """Return `value` as a session may hold it: None, bool, int, float, str, list and dict, nothing else.

    Enums become their values, tuples lists, UUIDs and paths text, datetimes, dates and times ISO 8601, dataclasses and
    pydantic models (whatever has a `model_dump`) dicts. Sets become lists, sorted where their values can be compared.
    Keys of mappings are text, or enums of text. The result shares nothing with `value`.

    Raises InvalidEntry, which names the place, for all else: bytes, functions, NaN, a value inside itself.

    >>> jsonable({"tags": {"b", "a"}, "size": (1, 2)})
    {'tags': ['a', 'b'], 'size': [1, 2]}
    """
    return _convert(value, "value", 0)


def _convert(value: Any, where: str, depth: int) -> Any:
    if depth > codec.DEPTH_MAX:
        raise InvalidEntry(where, f"nested more than {codec.DEPTH_MAX} levels deep, or inside itself")
    if isinstance(value, Mapping):
        return _members(value, where, depth)
    if isinstance(value, list | tuple):
        return [_convert(item, f"{where}[{n}]", depth + 1) for n, item in enumerate(value)]
    if isinstance(value, AbstractSet):
        return _sorted([_convert(item, f"{where}[{item!r:.50}]", depth + 1) for item in value])
    if isinstance(value, type):
        raise InvalidEntry(where, f"the class {value.__name__} cannot become JSON")
    if dataclasses.is_dataclass(value):
        return _members({one.name: getattr(value, one.name) for one in dataclasses.fields(value)}, where, depth)
    return _convert_one(value, where, depth)


def _convert_one(value: Any, where: str, depth: int) -> Any:
    """Convert a value that is no collection, or that has a conversion of its own."""
    if isinstance(value, Enum):
        return _convert(value.value, where, depth + 1)
    if isinstance(value, UUID | PurePath):
        value = str(value)
    elif isinstance(value, date | time):
        value = value.isoformat()
    elif callable(dump := getattr(value, "model_dump", None)):
        return _convert(dump(mode="json"), where, depth + 1)
    return _scalar(value, where)


def _scalar(value: Any, where: str) -> Any:
    """Return a plain value, not one of a class of its own."""
    if isinstance(value, str):
        text = str.__str__(value)
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise InvalidEntry(where, "text with a lone surrogate")
        return text
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidEntry(where, f"{value} is not a JSON number")
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not codec.INT_MIN <= value <= codec.INT_MAX:
            raise InvalidEntry(where, "integer outside 64 bits")
        return int(value)
    if value is not None and not isinstance(value, bool):
        raise InvalidEntry(where, f"{type(value).__name__} cannot become JSON; convert it first")
    return value


def _members(value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, child in value.items():
        name = key.value if isinstance(key, Enum) else key
        if not isinstance(name, str):
            raise InvalidEntry(where, f"field name {key!r} is {type(key).__name__}, not str")
        name = _scalar(name, where)
        if name in members:
            raise InvalidEntry(where, f"two fields would be called {name!r}")
        members[name] = _convert(child, f"{where}[{name!r}]", depth + 1)
    return members


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=codec.dumps)  # of several kinds: at least the same order each time


def join_key(*parts: str) -> str:
    """Return a session key made of parts, joined by ":"; `split_key` takes it apart again.

    Parts are any texts: ":" and "%", and characters that no key holds, are escaped, each by itself. So
    a prefix of the parts makes a prefix of the key, and `join_key("agent", "")` begins the keys of "agent" alone.

    Raises TypeError for a part that is no text, ValueError without parts.

    >>> join_key("agent", "telegram:42")
    'agent:telegram%3A42'
    """
    if not parts:
        raise ValueError("a key has at least one part")
    for part in parts:
        if not isinstance(part, str):
            raise TypeError(f"a part of a key is a str, not {type(part).__name__}")
    return _SEPARATOR.join(_ESCAPED.sub(_escape, part) for part in parts)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"%u{code:04X}" if code > 0xFF else f"%{code:02X}"  # noqa: PLR2004  # two digits


def split_key(key: str) -> tuple[str, ...]:
    """Return the parts that `join_key` made a key of. Raises InvalidKey for a "%" that it did not write.

    >>> split_key("agent:telegram%3A42")
    ('agent', 'telegram:42')
    """
    return tuple(_unescape(part, key) for part in key.split(_SEPARATOR))


def _unescape(part: str, key: str) -> str:
    if _ESCAPE.sub("", part).count("%"):
        raise InvalidKey(f"{key!r:.100} was not made by join_key: a % in it escapes nothing")
    return _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), part)
