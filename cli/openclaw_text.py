"""Read a sessions.json entry by entry: an odd entry is one entry's fault, a text that ends early is the file's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .openclaw_entries import Checked, Odd, unique

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = re.compile(r"[ \t\n\r]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_DECODER = json.JSONDecoder(object_pairs_hook=unique)


@dataclass(frozen=True)
class _Unreadable:
    """The stand-in for a value that is JSON, but that Python's reader cannot read."""

    reason: str


def check(text: str, *, repair: bool) -> Checked:
    """Check every entry of the file's one object. Raises ValueError if the text is no such object."""
    found = Checked()
    members = list(_members(text))
    last = {key: n for n, (key, _, _) in enumerate(members)}
    for n, (key, value, raw) in enumerate(members):
        if last[key] != n:  # OpenClaw itself reads the last one
            found.odd.append(Odd(key, "key", "the key stands twice; the last entry under it counts", raw))
        elif isinstance(value, _Unreadable):
            found.odd.append(Odd(key, "entry", value.reason, raw))
        else:
            found.add(key, value, raw, repair=repair)
    return found


def _members(text: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (key, value, its text) of every member of the object that the text is. Raises ValueError."""
    position = _expect(text, 0, "{")
    closing = _space(text, position)
    if text[closing : closing + 1] == "}":
        _end(text, closing + 1)
        return
    while True:
        key, position = _key(text, _space(text, position))
        start = _space(text, _expect(text, position, ":"))
        value, position = _value(text, start)
        yield key, value, text[start:position]
        position = _space(text, position)
        if text[position : position + 1] == "}":
            _end(text, position + 1)
            return
        position = _expect(text, position, ",")


def _key(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        raise json.JSONDecodeError("Expecting a session key in double quotes", text, position)
    key, position = _DECODER.raw_decode(text, position)
    return str(key), position


def _value(text: str, start: int) -> tuple[Any, int]:
    """Return the value at `start` and where it ends. Raises JSONDecodeError where it is no JSON or does not end."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        return _Unreadable("nested too deeply"), _skip(text, start)
    except ValueError as error:  # a number of more digits than Python converts
        return _Unreadable(str(error)), _skip(text, start)


def _skip(text: str, start: int) -> int:
    """Return where a value ends that Python's reader gives up on: behind its last bracket or digit."""
    depth = 0
    if text[start] not in "[{":
        return re.compile(r"[^\s,}]*").match(text, start).end()  # type: ignore[union-attr]  # matches the empty text
    for token in _TOKEN.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise json.JSONDecodeError("Unterminated value", text, start)


def _space(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]  # matches the empty text


def _expect(text: str, position: int, sign: str) -> int:
    position = _space(text, position)
    if text[position : position + 1] != sign:
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, position)
    return position + 1


def _end(text: str, position: int) -> None:
    """Raise JSONDecodeError unless nothing but space is left."""
    if _space(text, position) != len(text):
        raise json.JSONDecodeError("Extra data", text, _space(text, position))
