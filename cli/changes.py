"""What changed between two revisions of a session, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shardstore import Session

_VALUE_MAX = 48  # characters of a value in text


@dataclass(frozen=True)
class Change:
    """One field: `kind` is "added", "changed" or "removed"; the values are what JSON holds."""

    field: str
    kind: str
    before: Any = None
    after: Any = None

    def as_json(self) -> dict[str, Any]:
        """Return the change for JSON; a value that there was not is left out, which null could not say."""
        values = {"from": self.before, "to": self.after}
        left_out = {"added": "from", "removed": "to"}.get(self.kind)
        return {
            "field": self.field,
            "change": self.kind,
            **{n: v for n, v in values.items() if n != left_out},
        }

    def as_text(self) -> str:
        """Return the change as a line."""
        name, after = show.text(self.field), show.value(self.after, _VALUE_MAX)
        if self.kind == "added":
            return f"+ {name}: {after}"
        if self.kind == "removed":
            return f"- {name}"
        return f"~ {name}: {show.value(self.before, _VALUE_MAX)} -> {after}"


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """List the changed fields in the order of the entry, what was removed last."""
    found = []
    for field, value in after.items():
        if field not in before:
            found.append(Change(field, "added", after=value))
        elif not same(before[field], value):
            found.append(Change(field, "changed", before[field], value))
    return found + [Change(field, "removed", before[field]) for field in before if field not in after]


def steps(history: Sequence[Session]) -> list[tuple[Session, list[Change]]]:
    """Pair each revision with what it changed; the oldest kept one is compared with nothing."""
    previous: Mapping[str, Any] = {}
    found = []
    for session in history:
        found.append((session, between(previous, session.data)))
        previous = session.data
    return found


def same(left: Any, right: Any) -> bool:
    """Compare as JSON does: 1, 1.0 and true are three values; the order of an object's fields is none."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[name]) for name, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
