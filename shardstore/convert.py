"""From values of Python to what JSON holds, on purpose; and keys made of parts."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Set
from datetime import date, datetime, time
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

    Enums become their values; tuples lists; sets lists, sorted where their values can be compared; UUIDs and paths
    text; datetimes, dates and times ISO 8601; dataclasses dicts; so do objects with a `model_dump`, as pydantic's models
    have. Keys of mappings are text, or enums of text. The result shares nothing with `value`.

    Raises InvalidEntry, which names the place, for all else: bytes, functions, NaN, a value inside itself.

    >>> jsonable({"tags": {"b", "a"}, "size": (1, 2)})
    {'tags': ['a', 'b'], 'size': [1, 2]}
    """
    return _convert(value, "value", 0)


def _convert(value: Any, where: str, depth: int) -> Any:
    if depth > codec.DEPTH_MAX:
        raise InvalidEntry(where, f"nested more than {codec.DEPTH_MAX} levels deep, or inside itself")
    if isinstance(value, Enum):
        return _convert(value.value, where, depth + 1)
    if value is None or isinstance(value, bool | str | int | float):
        return _scalar(value, where)
    if isinstance(value, Mapping):
        return _members(value, where, depth)
    if isinstance(value, list | tuple):
        return [_convert(item, f"{where}[{n}]", depth + 1) for n, item in enumerate(value)]
    if isinstance(value, Set):
        return _sorted([_convert(item, f"{where}[{item!r:.50}]", depth + 1) for item in value])
    if isinstance(value, UUID | PurePath):
        return _scalar(str(value), where)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return _convert_object(value, where, depth)


def _convert_object(value: Any, where: str, depth: int) -> Any:
    if not isinstance(value, type):
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return _members(fields, where, depth)
        dump = getattr(value, "model_dump", None)
        if callable(dump):
            return _convert(dump(mode="json"), where, depth + 1)
    raise InvalidEntry(where, f"{type(value).__name__} cannot become JSON; convert it first")


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

    Parts are any texts: what would be mistaken (":" and "%"), or is in no key, is escaped, each character by itself. So
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
