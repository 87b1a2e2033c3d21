"""OpenClaw's entries: the check that the store takes them, the repair, the time of the last change."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shardstore import _codec as codec
from shardstore import _keys
from shardstore.errors import InvalidEntry, InvalidKey

_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_NUMBER = re.compile(r"\d{1,20}(?:\.\d{1,9})?", re.ASCII)
# A number is the unit in which it lies between 1973 and 5138: the ranges of the four do not overlap.
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))


@dataclass(frozen=True)
class Odd:
    """An entry, or a line of a transcript, that the store cannot hold; `raw` is its text in the source."""

    key: str
    where: str  # the value in the entry, or the transcript's file
    reason: str
    raw: str
    line: int = 0  # in the transcript; 0: it is an entry

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.where}, line {self.line}" if self.line else self.where

    def as_json(self) -> dict[str, Any]:
        """Return its place and the reason, for programs."""
        place = {"path": self.where, "line": self.line} if self.line else {"path": self.where}
        return {"key": self.key, **place, "reason": self.reason}

    def as_line(self) -> str:
        """Return the entry as a line of JSON, exactly as the source has it; as `text` where that is no JSON."""
        place = json.dumps(self.as_json())
        entry = f'"entry": {_one_line(self.raw)}' if _is_json(self.raw) else f'"text": {json.dumps(self.raw)}'
        return f"{place[:-1]}, {entry}}}"


@dataclass(frozen=True)
class Replaced:
    """A place where half a surrogate pair became U+FFFD."""

    key: str
    where: str


@dataclass
class Checked:
    """The entries of a source that the store takes, and the odd ones with their reasons."""

    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    times: dict[str, datetime] = field(default_factory=dict)
    odd: list[Odd] = field(default_factory=list)
    replaced: list[Replaced] = field(default_factory=list)

    def add(self, key: str, value: Any, raw: str, *, repair: bool, updated_at: Any = None) -> None:
        """Take an entry, repaired on demand, or put it with the odd ones."""
        replaced: list[Replaced] = []
        try:
            name = repaired(key, f"key {key!r}", key, replaced) if repair else key
            value = repaired(value, "entry", key, replaced) if repair else value
            _check(name, value)
            if name in self.entries:
                raise InvalidEntry("entry", "another session has this key once it is repaired")
        except (InvalidKey, InvalidEntry) as error:
            where = error.path if isinstance(error, InvalidEntry) else "key"
            reason = error.reason if isinstance(error, InvalidEntry) else str(error)
            self.odd.append(Odd(key, where, reason, raw))
            return
        except RecursionError:
            self.odd.append(Odd(key, "entry", "nested too deeply", raw))
            return
        self.entries[name] = value
        self.replaced += replaced
        moment = last_change(value.get("updatedAt")) or last_change(updated_at)
        if moment is not None:
            self.times[name] = moment


class Repeated(dict[str, Any]):
    """A JSON object in which one name stands twice: one of its values would be lost without a word."""

    def __init__(self, pairs: list[tuple[str, Any]], name: str) -> None:
        super().__init__(pairs)
        self.name = name


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object of its members, as a hook of json.loads."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    return Repeated(pairs, next(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]


def _check(key: str, entry: Any) -> None:
    """Raise InvalidKey or InvalidEntry unless the store takes this session exactly as it is."""
    _keys.check_key(key)
    if not isinstance(entry, dict):
        raise InvalidEntry("entry", f"{json.dumps(entry)[:40]} is not an object")
    try:
        codec.encode_entry(entry)  # it refuses subclasses of dict inside, with a reason that helps nobody
        twice = entry if isinstance(entry, Repeated) else None
    except InvalidEntry:
        twice = next((found for found in _objects(entry) if isinstance(found, Repeated)), None)
        if twice is None:
            raise
    if twice is not None:
        raise InvalidEntry("entry", f"name {twice.name!r} stands twice in one object")


def _objects(entry: Any) -> list[Any]:
    """Return every object in a value, the outermost first."""
    found, stack = [], [entry]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            found.append(value)
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return found


def repaired(value: Any, where: str, key: str, replaced: list[Replaced]) -> Any:
    """Return the value with U+FFFD for every half of a surrogate pair; note each place. Raises InvalidEntry."""
    if isinstance(value, str):
        if _SURROGATE.search(value) is None:
            return value
        replaced.append(Replaced(key, where))
        return _SURROGATE.sub(_REPLACEMENT, value)
    if isinstance(value, list):
        return [repaired(one, f"{where}[{n}]", key, replaced) for n, one in enumerate(value)]
    if not isinstance(value, dict) or isinstance(value, Repeated):
        return value
    found: dict[str, Any] = {}
    for name, one in value.items():
        whole = repaired(name, f"{where}, name {name!r}", key, replaced)
        if whole in found:
            raise InvalidEntry(where, f"name {whole!r} stands twice once it is repaired")
        found[whole] = repaired(one, f"{where}[{whole!r}]", key, replaced)
    return found


def last_change(moment: Any) -> datetime | None:
    """Return the moment that an `updatedAt` means, or None: OpenClaw's tools wrote it in several ways.

    A number is seconds, milliseconds, microseconds or nanoseconds since 1970, as its magnitude says: below 10^11
    it is seconds, below 10^14 milliseconds, and so on. A text is such a number, or ISO 8601; in UTC if without a zone.
    """
    if isinstance(moment, str):
        if not _NUMBER.fullmatch(moment.strip()):
            return _iso(moment.strip())
        moment = float(moment)
    if isinstance(moment, bool) or not isinstance(moment, (int, float)) or not 0 < moment < _UNITS[-1][0]:
        return None
    seconds = next(moment / unit for end, unit in _UNITS if moment < end)
    return datetime.fromtimestamp(seconds, UTC)


def _iso(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment.timestamp() > 0 else None


def _one_line(raw: str) -> str:
    """Put JSON on one line; its strings hold no line ends."""
    return re.sub(r"\s*[\r\n]\s*", " ", raw)


def _is_json(raw: str) -> bool:
    try:
        json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(name)
