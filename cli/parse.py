"""Parse typed text: durations, sizes, conditions, assignments. A malformed one is a usage error (exit 2)."""

from __future__ import annotations

import codecs
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import typer

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for suffix, base in (("", 1000), ("b", 1000), ("ib", 1024))
}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:min|[smhdw])\s*)+", re.IGNORECASE | re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(min|[smhdw])", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d+)?", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)", re.IGNORECASE | re.ASCII)

_COMPARISON = re.compile(r"(?P<field>[^=!<>]*[^=!<>\s])\s*(?P<op>==|=|!=|<=|>=|<|>)\s*(?P<value>.*)", re.DOTALL)
_OPERATORS = ("=", "<", ">", "!=")  # the beginnings of them all
_MEMBER = re.compile(r"(?P<field>\S+)\s+in\s+(?P<value>.+)", re.DOTALL)
_EXISTS = re.compile(r"(?P<field>\S+)\s+(?P<word>exists|missing)")
_ABSENT = re.compile(r"!\s*(?P<field>[^\s=!<>]+)")


def duration(text: str, option: str) -> timedelta:
    """Parse `90s`, `15m`, `2h`, `30d`, `1w`, `1d12h`; always with a unit, always more than nothing."""
    compact = text.strip()
    if not _DURATION.fullmatch(compact):
        _refuse(f"{text!r} is not a duration; write 90s, 15m, 2h, 30d or 1w", option)
    total = sum(float(number) * _SECONDS[unit.lower()] for number, unit in _DURATION_PART.findall(compact))
    try:
        parsed = timedelta(seconds=total)
    except OverflowError:
        _refuse(f"{text!r} is longer than any session can be old", option)
    if not parsed:
        _refuse(f"{text!r} is no time at all", option)
    return parsed


def moment(text: str, option: str) -> datetime:
    """Parse a time: ISO 8601, local where it names no zone, or how long ago it was (`2h`, `30d`)."""
    if _DURATION.fullmatch(text.strip()):
        return datetime.now(UTC) - duration(text, option)
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        _refuse(f"{text!r} is not a time; write 2026-03-01, 2026-03-01T18:00, or an age such as 2h", option)


def size(text: str, option: str) -> int:
    """Parse `500MB` (10^6), `64KiB` (2^10) or plain bytes; at least 1. Returns bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in _BYTES:
        _refuse(f"{text!r} is not a size; write 100KB, 500MB, 2GiB or a number of bytes", option)
    parsed = int(float(match[1]) * _BYTES[match[2].lower()])
    if parsed < 1:
        _refuse(f"{text!r} is less than a byte", option)
    return parsed


def number(text: str, option: str, *, least: int = 0) -> int:
    """Parse a whole number of at least `least`."""
    if not _WHOLE.fullmatch(text) or int(text) < least:
        _refuse(f"{text!r} is not a number from {least} on", option)
    return int(text)


def seconds(text: str, option: str) -> float:
    """Parse a number of seconds, 0 or more; finite."""
    if not _NUMBER.fullmatch(text):
        _refuse(f"{text!r} is not a number of seconds", option)
    return float(text)


def conditions(texts: list[str] | None, option: str = "--where") -> dict[str, Any] | None:
    """Parse conditions into the `where` of `Store.list`; None where there are none."""
    found: dict[str, Any] = {}
    for text in texts or ():
        field, condition = _condition(text, option)
        if field in found:
            _refuse(f"two conditions on {field!r}; only one a field is possible", option)
        found[field] = condition
    return found or None


def _condition(text: str, option: str) -> tuple[str, tuple[str, Any]]:
    """Parse one condition to (field, (operator, value))."""
    text = text.strip()
    if match := _EXISTS.fullmatch(text):
        return match["field"], ("exists", match["word"] == "exists")
    if match := _ABSENT.fullmatch(text):
        return match["field"], ("exists", False)
    if match := _COMPARISON.fullmatch(text):
        operator = "==" if match["op"] == "=" else match["op"]
        return match["field"], (operator, _compared(match, option))
    if not (match := _MEMBER.fullmatch(text)):
        _refuse(f"{text!r} is not a condition; write FIELD=VALUE, 'FIELD>=5', 'FIELD in A,B', 'FIELD exists'", option)
    return match["field"], ("in", _members(match["value"], option))


def _compared(match: re.Match[str], option: str) -> Any:
    """Parse the value of a comparison. One that begins with an operator is a slip of the finger: `n>>5`, `n=>5`."""
    value = match["value"]
    if value.startswith(_OPERATORS):
        quoted = f"{match['field']}{match['op']}{json.dumps(value, ensure_ascii=False)}"
        _refuse(f"{match[0]!r} has two operators; write one, or to compare with that text: {quoted}", option)
    return scalar(value)


def _members(text: str, option: str) -> list[Any]:
    """Parse `a,b,c` or a JSON array."""
    if not text.lstrip().startswith("["):
        return [scalar(part.strip()) for part in text.split(",")]
    try:
        members = json.loads(text, parse_constant=_constant)
    except ValueError as error:
        _refuse(f"{text!r} is not a JSON array: {error}", option)
    return list(members)


def scalar(text: str) -> Any:
    """Read a JSON scalar (`5`, `true`, `null`, `"5"`), or take the text as it stands."""
    try:
        value = json.loads(text, parse_constant=_constant)
    except ValueError:
        return text
    return text if isinstance(value, (dict, list)) else value


def assignments(texts: list[str] | None, option: str = "FIELD=JSON") -> dict[str, Any]:
    """Parse `field=json` pairs; text that is no JSON is taken as a string, unless it looks like broken JSON."""
    fields: dict[str, Any] = {}
    for text in texts or ():
        field, equals, value = text.partition("=")
        if not equals or not field:
            advice = "write FIELD=JSON, for example status=x; to replace the whole entry use `set`"
            _refuse(f"{text!r} is not an assignment; {advice}", option)
        if field in fields:
            _refuse(f"{field!r} is set twice", option)
        fields[field] = _json_or_text(value, field, option)
    return fields


def _json_or_text(text: str, field: str, option: str) -> Any:
    try:
        return strict_json(text)
    except ValueError as error:
        if text[:1] in ("{", "[", '"') or text in ("NaN", "Infinity", "-Infinity"):
            _refuse(f"the value of {field!r} is not JSON: {error}", option)
        return text


def lines(data: bytes) -> list[tuple[int, str]]:
    """Return each line that is not blank, with its number, without the carriage return and the BOM of Windows.

    Only a line feed ends a line: JSON may hold U+2028.
    """
    text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def strict_json(text: str | bytes) -> Any:
    """Parse JSON; ValueError for NaN, Infinity and duplicate keys too, which Python's reader would let pass."""
    try:
        return json.loads(text, parse_constant=_constant, object_pairs_hook=_unique)
    except RecursionError:
        message = "nested too deeply"
        raise ValueError(message) from None


def _constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; two equal names mean that one of the values would be lost without a word."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        message = f"key {twice!r} stands twice in one object"
        raise ValueError(message)
    return fields


def _refuse(message: str, option: str) -> NoReturn:
    raise typer.BadParameter(message, param_hint=option)
