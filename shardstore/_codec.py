"""Strict JSON: a value comes out as it went in, or it is refused.

The only module that imports orjson, which by itself turns NaN into null, tuples into lists and enums into their
values without a word, and keeps the last of two equal keys. Here each of these is an error.
"""

from __future__ import annotations

import marshal
import math
import re
from functools import lru_cache
from typing import Any

import orjson

from shardstore.errors import InvalidEntry

JSONDecodeError = orjson.JSONDecodeError

ENTRY_BYTES_MAX = 64 * 1024 * 1024
DEPTH_MAX = 200  # containers inside containers; orjson's own limit is 254, and a record adds a few
INT_MIN, INT_MAX = -(2**63), 2**64 - 1

_STRICT = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = frozenset({str, bool, type(None)})

loads = orjson.loads
dumps = orjson.dumps  # of a value that is known to be JSON already; compactly


def kept(value: Any) -> bytes:
    """Return the same bytes as `dumps`, in no more memory than they need.

    The bytes that orjson returns keep the room they were written in: 4 KB for a number, 13 times its size for a text.
    Whoever keeps them copies them first; the hot paths write `b"%b" % dumps(value)` themselves.
    """
    return b"%b" % orjson.dumps(value)


def encode(value: Any, field: str) -> bytes:
    """Encode the value of one top-level field; raise InvalidEntry unless JSON holds it exactly."""
    kind = type(value)
    try:
        raw = b"%b" % orjson.dumps(value, None, _STRICT)  # as in `kept`
    except (TypeError, ValueError, RecursionError) as error:
        _explain(value, field, str(error))
    if kind is int or kind in _PLAIN:
        return raw
    if not _is_exact(value, raw):
        _explain(value, field, f"{kind.__name__} is not a JSON value")
    if raw.rfind(b"{") > 0 or raw.rfind(b"[") > 0:  # behind the first byte: containers in containers, perhaps
        check_depth(raw, field)
    return raw


def encode_item(value: Any, path: str, number: int | None = None) -> bytes:
    """Encode an item of a log. `path`, with `number`, names it in the InvalidEntry if JSON cannot hold it."""
    try:
        return encode(value, "")
    except InvalidEntry as error:
        where = path if number is None else f"{path}[{number}]"
        raise InvalidEntry(where + error.path.removeprefix("entry['']"), error.reason) from None


def _is_exact(value: Any, raw: bytes) -> bool:
    """Return whether nothing was converted on the way: `raw` reads back equal, and every type is a builtin itself.

    The first finds NaN, tuples and UUIDs; the second enums, which equal their values, by the one C routine of the
    standard library that refuses subclasses.
    """
    try:
        marshal.dumps(value, 2)
    except ValueError:
        return False
    return bool(orjson.loads(raw) == value)


def check_depth(raw: bytes, field: str) -> None:
    """Raise InvalidEntry when containers nest deeper than every reader of the file is sure to follow."""
    if raw.count(b"[") + raw.count(b"{") <= DEPTH_MAX:
        return
    stack: list[tuple[Any, int]] = [(orjson.loads(raw), 1)]
    while stack:
        value, depth = stack.pop()
        if depth > DEPTH_MAX:
            raise InvalidEntry(f"entry[{field!r}]", f"nested more than {DEPTH_MAX} levels deep")
        children = value.values() if type(value) is dict else value
        stack.extend((child, depth + 1) for child in children if type(child) in (dict, list))


def encode_key(key: Any, path: str = "entry") -> bytes:
    """Encode a field's name; raise InvalidEntry unless it is text."""
    if type(key) is not str:
        raise InvalidEntry(path, f"field name {key!r} is {type(key).__name__}, not str")
    try:
        return orjson.dumps(key)
    except TypeError:
        raise InvalidEntry(path, f"field name {key!r} holds a lone surrogate") from None


def encode_entry(fields: Any) -> dict[str, bytes]:
    """Encode a whole entry, field by field. Raises InvalidEntry."""
    encoded = {}
    for key, value in fields.items():
        encode_key(key)
        encoded[key] = encode(value, key)
    return encoded


def _explain(value: Any, field: str, reason: str) -> None:
    """Raise InvalidEntry for the first value, depth first, that JSON cannot hold."""
    path = f"entry[{field!r}]"
    stack: list[tuple[Any, str, int]] = [(value, path, 1)]
    while stack:
        item, where, depth = stack.pop()
        problem = _problem(item, depth)
        if problem is not None:
            raise InvalidEntry(where, problem)
        if type(item) is dict:
            for key, child in reversed(item.items()):
                encode_key(key, where)
                stack.append((child, f"{where}[{key!r}]", depth + 1))
        elif type(item) is list:
            stack.extend((child, f"{where}[{n}]", depth + 1) for n, child in reversed([*enumerate(item)]))
    raise InvalidEntry(path, reason)


def _problem(item: Any, depth: int) -> str | None:
    """Return why JSON cannot hold this one value, its children aside."""
    kind = type(item)
    problem = None
    if kind is float:
        problem = None if math.isfinite(item) else f"{item} is not a JSON number"
    elif kind is int:
        problem = None if INT_MIN <= item <= INT_MAX else "integer outside 64 bits"
    elif kind is str:
        problem = "text with a lone surrogate" if _SURROGATE.search(item) else None
    elif kind is dict or kind is list:
        problem = None if depth <= DEPTH_MAX else f"nested more than {DEPTH_MAX} levels deep, or inside itself"
    elif kind not in _PLAIN:
        problem = f"{kind.__name__} is not a JSON value; shardstore.jsonable converts many types"
    return problem


@lru_cache(maxsize=4096)
def member(name: str) -> bytes:
    """Return the start of an object's member: the quoted name and a colon. The same few names come again and again."""
    return orjson.dumps(name) + b":"


def join(fields: dict[str, bytes]) -> bytes:
    """Return a JSON object of fields that are raw JSON."""
    if len(fields) == 1:  # most changes
        [(name, raw)] = fields.items()
        return b"{%b%b}" % (member(name), raw)
    return b"{" + b",".join([member(name) + raw for name, raw in fields.items()]) + b"}"
