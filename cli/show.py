"""Show sizes, ages, times, keys and values as short text."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from .escape import text

__all__ = ["age", "count", "cut", "duration", "iso", "size", "text", "time", "value"]

_STEPS = ((60, "min"), (60, "h"), (24, "d"))
_THOUSAND = 1000
_CLOSE = 9.95  # below this one decimal is shown


def quoted(value: str) -> str:
    """Return a text between quotes, as the library's messages have it, with what a terminal would obey escaped."""
    return text(repr(value))


def cut(raw: str, limit: int = 120) -> str:
    """Show the beginning of a long text."""
    shown = text(raw)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def count(number: int, thing: str) -> str:
    """Show how many there are: `1 session`, `2,000 sessions`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def size(count: int) -> str:
    """Show bytes with three digits or so, in powers of 1000: `812 B`, `41.2 KB`, `3.4 GB`."""
    if abs(count) < _THOUSAND:
        return f"{count} B"
    amount = count / _THOUSAND
    units = ["KB", "MB", "GB", "TB"]
    while abs(amount) >= _THOUSAND - 0.05 and len(units) > 1:  # 999.96 would be shown as 1000.0
        amount /= _THOUSAND
        del units[0]
    return f"{amount:.1f} {units[0]}"


def duration(seconds: float) -> str:
    """Show a span in its largest unit: `12 s`, `5 min`, `3 h`, `41 d`."""
    amount, unit = max(0.0, seconds), "s"
    for step, larger in _STEPS:
        if round(amount) < step:
            break
        amount, unit = amount / step, larger
    return f"{amount:.1f} {unit}" if unit in ("h", "d") and amount < _CLOSE else f"{amount:.0f} {unit}"


def age(moment: datetime, now: datetime | None = None) -> str:
    """Show how long ago a moment was."""
    elapsed: timedelta = (now or datetime.now(UTC)) - moment
    return f"{duration(elapsed.total_seconds())} ago"


def time(moment: datetime) -> str:
    """Show a moment in UTC to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC, to the millisecond, for programs."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def value(data: Any, limit: int = 60) -> str:
    """Show a JSON value on one line of at most `limit` characters."""
    raw = text(json.dumps(data, ensure_ascii=False, separators=(",", ":"))[: limit + 1])
    return raw if len(raw) <= limit else f"{raw[: limit - 1]}…"
