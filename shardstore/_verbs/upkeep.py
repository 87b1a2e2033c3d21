"""The verbs that maintain a store, beside running writers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore import _events as events
from shardstore._imports import late_imports
from shardstore._verbs.arguments import field_names
from shardstore._verbs.opened import Opened, typed_errors
from shardstore.errors import InvalidQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from shardstore.archive import Archive
    from shardstore.reports import CompactReport, EraseReport, PruneReport, StoreStats, VerifyReport
    from shardstore.types import Where


class Upkeep(Opened):
    """Housekeeping, retention, checks."""

    def compact(self, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None) -> CompactReport:
        """Run the housekeeping: rewrite grown journals, give unused space back, sweep dead files, tend the index.

        Removes no session; `prune` does. Runs beside writers: it locks one session at a time, and skips and reports a
        busy one. If it is interrupted, nothing is lost: run it again.

        dry_run: report the plan, and change nothing. progress(done, total) is called along the way.
        Raises StoreNotFound, StoreIOError.

        >>> report = store.compact()
        >>> report.ok, report.bytes_freed
        (True, 0)
        """
        self._check_writable(harmless=dry_run)
        with typed_errors("compacting"):
            report = self._engine.compact(dry_run=dry_run, progress=progress, scan_progress=self._scan_progress)
        _note_maintenance("compact", report)
        return report

    def prune(  # noqa: PLR0913  # each is a rule of its own
        self,
        *,
        older_than: timedelta | float | None = None,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        where: Where | None = None,
        prefix: str | None = None,
        keep: Iterable[str] = (),
        purge: bool = False,
        trust_clock: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> PruneReport:
        """Move sessions out of the store by the given rules: to the archive, or with `purge` for good.

        older_than: a timedelta, or seconds since the last change.
        max_entries, max_bytes: how many sessions, and bytes of entries, may stay; those changed longest ago go first.
        where, prefix: only sessions that match may be removed, and only they are counted.
        keep: keys, and prefixes that end in "*", that are never touched.
        trust_clock: True purges even if every session would go, since all are older than `older_than`. Without it that
            is refused: after a jump of the clock, all sessions look old.
        dry_run: report the plan, and change nothing. progress(done, total) is called along the way.

        A session that is in use, or changed since it was chosen, stays and is reported. If it is interrupted, run it
        again.

        Raises InvalidQuery without a rule, for a malformed one, and for a purge that needs trust_clock, before anything
        is removed.

        >>> report = store.prune(older_than=30 * 86400, where={"status": "done"}, keep=["agent:main"])
        >>> report.ok, report.actions
        (True, ())
        """
        with late_imports:
            from shardstore._prune import prune
            from shardstore._retention import Retention

        rules = Retention.parse(older_than, max_entries, max_bytes, where, prefix, keep)
        if not rules.removes:
            raise InvalidQuery("prune needs a rule: older_than, max_entries, max_bytes or where")
        self._check_writable(harmless=dry_run)
        with typed_errors("pruning"):
            report = prune(
                self._engine,
                rules,
                purge=purge,
                trust_clock=trust_clock,
                dry_run=dry_run,
                progress=progress,
                scan_progress=self._scan_progress,
            )
        _note_maintenance("prune", report)
        return report

    @property
    def archive(self) -> Archive:
        """The sessions that `prune` moved out of the store: list, restore, restore_many, purge.

        >>> report = store.prune(max_entries=0, prefix="agent:chat")
        >>> session = store.archive.restore("agent:chat")
        >>> session.log.ids()
        ['m-1']
        """
        with late_imports:
            from shardstore.archive import Archive

        return Archive(self._engine, self.lock_timeout, self._check_writable)

    def verify(self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Check every session, every record, and the index against the sessions.

        repair: True makes the whole parts of a damaged session readable again, and moves the damaged original to
            quarantine; nothing is deleted. False changes no session. Unless this Store is read-only, lists learn of
            the damage, and `stats().damaged` names it from then on.
        progress(done, total) is called along the way. Raises StoreNotFound, StoreIOError.

        >>> report = store.verify()
        >>> report.ok, report.sessions
        (True, 2)
        """
        if repair:
            self._check_writable()
        with typed_errors("verifying"):
            report = self._engine.verify(repair=repair, note=not self._read_only, progress=progress)
        for one in report.problems:
            events.note(
                "damage", events.WARNING, "verify: %s: %s%s", one.path, one.detail, " (repaired)" * one.repaired
            )
        return report

    def stats(self) -> StoreStats:
        """Return counts and sizes of the sessions, and of the work that waits for maintenance.

        Raises StoreNotFound, StoreIOError.

        >>> stats = store.stats()
        >>> stats.sessions, stats.tombstones, stats.damaged
        (2, 0, ())
        """
        with typed_errors("counting"):
            return self._engine.stats(refresh=not self._read_only, progress=self._scan_progress)

    def reindex(self, fields: Iterable[str]) -> None:
        """Index these fields instead of the present ones, in every process that has the store open.

        fields: at most 64 names. Reads every session once, beside running writers.
        Raises ValueError for anything but a list of names, StoreIOError.

        >>> store.reindex(["status", "user"])
        """
        names = field_names(fields)
        self._check_writable()
        with typed_errors("indexing"):
            self._engine.reindex(names, self._scan_progress)

    def erase_history(self, key: str) -> EraseReport:
        """Remove the past of a session for good: old revisions, dropped and replaced items, copies in the archive.

        The session stays as it is. The report names the removed files, and the places that the store cannot reach.
        Raises SessionNotFound; otherwise as `update`.

        >>> report = store.erase_history("agent:chat")
        >>> report.unreached[0]
        'backups, and copies that somebody made of the files'
        """
        self._check_writable()
        with typed_errors("erasing history"):
            return self._engine.erase_history(key, self.lock_timeout)


def _note_maintenance(verb: str, report: CompactReport | PruneReport) -> None:
    """Log how many actions were done, and how many failed."""
    failed = sum(skipped.failed for skipped in report.skipped)
    level = events.WARNING if failed else events.INFO
    if not report.dry_run:
        message = "%s: %d done, %d failed, %d bytes freed"
        events.note("maintenance", level, message, verb, len(report.actions), failed, report.bytes_freed)
