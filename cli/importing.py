"""Importing sessions into a store: new ones are created, the others compared, and their logs get the missing lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import receipts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from shardstore import Session, Store

    from .openclaw import Source
    from .transcripts import Line


@dataclass
class Outcome:
    """How many of the source's sessions were, or would be, imported, and how."""

    created: int = 0
    unchanged: int = 0
    overwritten: int = 0
    transcripts: int | None = 0  # that were read; None: they were not asked for
    items: int = 0  # of transcripts
    conflicts: list[str] = field(default_factory=list)


class Import:
    """One import. `logs` are the transcripts by key, None without any; `store` is None where a dry run finds none."""

    def __init__(
        self, source: Source, logs: dict[str, list[Line]] | None, store: Store | None, *, dry_run: bool, overwrite: bool
    ) -> None:
        self._source = source
        self._logs = logs or {}
        self._store = store
        self._to = None if dry_run else store  # where it writes; None changes nothing
        self._overwrite = overwrite
        self._new: list[str] = []  # keys that were absent, and have no transcript
        self._outcome = Outcome(transcripts=None if logs is None else len(logs))

    def run(self, shown: Callable[[int, int], None]) -> Outcome:
        """Import each session in a commit of its own; those without a transcript share their syncs."""
        rows = self._rows(shown)
        if self._to is None:
            for _ in rows:
                pass
            self._outcome.created += len(self._new)
            return self._outcome
        made = self._to.create_many(rows, on_exists="skip")
        self._outcome.created += made
        if made < len(self._new):
            self._compare_again(made)
        self._to.count()  # leaves the index ready for the first list
        return self._outcome

    def _rows(self, shown: Callable[[int, int], None]) -> Iterator[tuple[str, dict[str, Any], datetime | None]]:
        """Yield a row for `create_many` for each session that is absent, or there already and the same.

        One that is there is synced with the others: an earlier run may have died before it was.
        """
        entries = self._source.entries
        for done, (key, entry) in enumerate(entries.items()):
            shown(done, len(entries))
            lines = self._logs.get(key, [])
            current = receipts.before(self._store, key) if self._store is not None else None
            if current is None and lines:
                current = self._create_with_log(key, entry, lines)
                if current is None:
                    continue
            if current is None:
                self._new.append(key)
            elif not self._merge(current, lines):
                continue
            yield key, entry, self._source.times.get(key)

    def _create_with_log(self, key: str, entry: dict[str, Any], lines: list[Line]) -> Session | None:
        """Create the session with its transcript. Return the one that another process created meanwhile, or None."""
        from . import transcripts

        self._outcome.items += len(lines)
        if self._to is None or transcripts.bring(self._to, key, entry, lines, at=self._source.times.get(key)):
            self._outcome.created += 1
            return None
        return self._to[key]

    def _merge(self, current: Session, lines: list[Line]) -> bool:
        """Compare a session with its source, and add the lines that its log lacks. Return whether it is the same.

        The fields come first: `expect` would refuse them once the log has grown.
        """
        from . import transcripts

        key, entry = current.key, self._source.entries[current.key]
        same = _same(current, entry)
        if same:
            self._outcome.unchanged += 1
        elif not self._overwritten(current, entry):
            return False  # it stays as it is, its log too
        new = transcripts.missing(current, lines) if lines else 0
        self._outcome.items += new
        if new and self._to is not None:
            transcripts.bring(self._to, key, entry, lines, at=self._source.times.get(key))
        return same

    def _overwritten(self, current: Session, entry: dict[str, Any]) -> bool:
        """Let the source win if --overwrite was given; otherwise record the conflict and return False."""
        if not self._overwrite:
            self._outcome.conflicts.append(current.key)
            return False
        self._outcome.overwritten += 1
        if self._to is not None:
            self._to.replace(current.key, entry, expect=current)
        return True

    def _compare_again(self, made: int) -> None:
        """Compare the new sessions that another process created first: they may be the same, or differ.

        made: how many of the new ones this process created.
        """
        met = len(self._new) - made
        for key, current in self._to.get_many(self._new).items() if self._to is not None else ():
            if not _same(current, self._source.entries[key]):
                met -= 1
                self._overwritten(current, self._source.entries[key])
        self._outcome.unchanged += max(0, met)


def _same(session: Session, entry: dict[str, Any]) -> bool:
    from .changes import same

    return same(dict(session.data), entry)
