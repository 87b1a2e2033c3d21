"""Which sessions compact may remove: a pure function from rules and a list of sessions to a plan."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from shardstore.errors import InvalidQuery

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shardstore.session import SessionInfo


class Removal(NamedTuple):
    """One session to be removed, and why."""

    info: SessionInfo
    age: float  # seconds since its last change
    why: str


class Retention(NamedTuple):
    """Rules, checked. Without any of the first three and `where`, nothing is removed."""

    older_than: float | None = None  # seconds
    max_entries: int | None = None
    max_bytes: int | None = None  # of entries as compact JSON
    where: Mapping[str, Any] | None = None
    prefix: str | None = None
    keep: tuple[str, ...] = ()

    @classmethod
    def parse(  # noqa: PLR0913  # one parameter a rule
        cls,
        older_than: object,
        max_entries: object,
        max_bytes: object,
        where: Mapping[str, Any] | None,
        prefix: str | None,
        keep: Iterable[str],
    ) -> Retention:
        """Check the rules. Raises InvalidQuery: a malformed limit must never remove anything."""
        if isinstance(keep, str):
            raise InvalidQuery(f"keep is a list of keys and prefixes, not the text {keep!r}")
        kept = tuple(keep)
        if not all(isinstance(pattern, str) and pattern for pattern in kept):
            raise InvalidQuery(f"keep holds something that is neither a key nor a prefix: {kept!r}")
        return cls(
            seconds(older_than),
            _count("max_entries", max_entries),
            _count("max_bytes", max_bytes),
            where or None,
            prefix,
            kept,
        )

    @property
    def removes(self) -> bool:
        """Whether these rules can remove anything."""
        return any(rule is not None for rule in self[:4])

    def keeps(self, key: str) -> bool:
        """Return whether the key is protected."""
        return any(key.startswith(rule[:-1]) if rule.endswith("*") else key == rule for rule in self.keep)

    def plan(self, matching: list[SessionInfo]) -> list[Removal]:
        """Choose from the sessions that match `where` and `prefix`, given oldest change first."""
        if not self.removes:
            return []
        now = time.time()
        entries, size = len(matching), sum(info.size for info in matching)
        removals = []
        for info in matching:
            age = now - info.updated_at.timestamp()
            why = self._why(age, entries, size)
            if why is not None and not self.keeps(info.key):
                removals.append(Removal(info, age, why))
                entries, size = entries - 1, size - info.size
        return removals

    def _why(self, age: float, entries: int, size: int) -> str | None:
        if self.older_than is not None and age > self.older_than:
            return f"older than {_days(self.older_than)}"
        if self.max_entries is not None and entries > self.max_entries:
            return f"more than {self.max_entries:,} sessions"
        if self.max_bytes is not None and size > self.max_bytes:
            return f"more than {self.max_bytes:,} bytes"
        if self.where is not None and self[:3] == (None, None, None):
            return "matches the filter"
        return None


def seconds(value: object) -> float | None:
    """Check `older_than`; raise InvalidQuery if it is no span of time."""
    if value is None:
        return None
    given = value.total_seconds() if isinstance(value, timedelta) else value
    if type(given) not in (int, float) or not 0 <= given <= sys.float_info.max:  # type: ignore[operator]
        raise InvalidQuery(f"older_than is a timedelta or a number of seconds from 0 on, not {value!r}")
    return float(given)  # type: ignore[arg-type]


def _count(name: str, value: object) -> int | None:
    if value is None or (type(value) is int and value >= 0):
        return value
    raise InvalidQuery(f"{name} is a whole number from 0 on, not {value!r}")


def _days(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"
