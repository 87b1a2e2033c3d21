"""The changes between two revisions of a session: field by field, and of its log by its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shardstore import Session
    from shardstore.log import Log

_VALUE_MAX = 48  # characters of a value in text


@dataclass(frozen=True)
class Change:
    """One field: `kind` is "added", "changed" or "removed"; the values are JSON."""

    field: str
    kind: str
    before: Any = None
    after: Any = None

    def as_json(self) -> dict[str, Any]:
        """Return the change for JSON. It names no value where there was none; null would be a value."""
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
    """List the changed fields in the order of the entry, the removed ones last."""
    found = []
    for field, value in after.items():
        if field not in before:
            found.append(Change(field, "added", after=value))
        elif not same(before[field], value):
            found.append(Change(field, "changed", before[field], value))
    return found + [Change(field, "removed", before[field]) for field in before if field not in after]


@dataclass(frozen=True)
class LogChange:
    """A changed log: its length before and after, and how many items were dropped at its front."""

    before: int
    after: int
    dropped: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the change for JSON."""
        return {"from": self.before, "to": self.after, "dropped": self.dropped}

    def as_text(self) -> str:
        """Return the change in a few words: `2 items added`."""
        added = self.after + self.dropped - self.before
        parts = [f"{show.count(self.dropped, 'item')} dropped"] if self.dropped else []
        if added:
            parts.append(f"{show.count(abs(added), 'item')} {'added' if added > 0 else 'removed'}")
        return ", ".join(parts) or "items replaced"


def of_log(before: Log | None, after: Log) -> LogChange | None:
    """Return the change of a log; None if the two are the same. `before` is None where nothing came before."""
    from shardstore.log import is_same  # here: importing the library would slow every start

    if before is None:
        return LogChange(0, len(after)) if after else None
    if is_same(before, after):
        return None
    return LogChange(len(before), len(after), max(0, after.dropped - before.dropped))


@dataclass(frozen=True)
class Step:
    """A revision and its changes; `log` is None where the log stayed the same."""

    session: Session
    changes: list[Change]
    log: LogChange | None


def steps(history: Sequence[Session]) -> list[Step]:
    """Return each revision with its changes; the oldest one in the history is compared with nothing."""
    fields: Mapping[str, Any] = {}
    log: Log | None = None
    found = []
    for session in history:
        found.append(Step(session, between(fields, session.data), of_log(log, session.log)))
        fields, log = session.data, session.log
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
