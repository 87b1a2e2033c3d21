"""The reports of maintenance: frozen dataclasses of plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that compact or prune did, or would do."""

    # compact: rewrite, rewrite-log, trim, drop-tombstone, sweep-temp, sweep-log, refresh-index; prune: archive, purge
    action: str
    key: str | None
    size: int  # bytes of the file it concerns
    why: str  # for people
    age: float | None = None  # seconds since the session's last change
    bytes_freed: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """One thing that compact or prune left alone."""

    path: str  # relative to the root
    key: str | None
    why: str  # for people
    failed: bool = False  # it should have been done and could not be; a busy session is not a failure


@dataclass(frozen=True, slots=True)
class CompactReport:
    """The outcome of Store.compact.

    >>> report = store.compact(dry_run=True)
    >>> for action in report.actions:
    ...     print(action.action, action.key, action.size, action.why)
    >>> report.ok, report.bytes_freed
    (True, 0)
    """

    dry_run: bool
    actions: tuple[Action, ...]
    bytes_freed: int
    skipped: tuple[Skipped, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not any(item.failed for item in self.skipped)


@dataclass(frozen=True, slots=True)
class PruneReport:
    """The outcome of Store.prune.

    >>> report = store.prune(max_entries=1, dry_run=True)
    >>> [(action.action, action.key) for action in report.actions]
    [('archive', 'agent:main')]
    >>> report.ok, [(skipped.key, skipped.why) for skipped in report.skipped]
    (True, [])
    """

    dry_run: bool
    actions: tuple[Action, ...]
    bytes_freed: int
    skipped: tuple[Skipped, ...] = ()
    refused: str | None = None  # in a dry run: why the same call without it would be refused

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not any(item.failed for item in self.skipped)


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """The outcome of Store.archive.restore_many.

    >>> report = store.archive.restore_many("agent:")
    >>> report.ok, report.restored, report.skipped
    (True, (), ())
    """

    restored: tuple[str, ...]  # keys
    skipped: tuple[Skipped, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed; a session that is there already, or busy, is no failure."""
        return not any(item.failed for item in self.skipped)


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One file in archive/ or quarantine/."""

    place: str  # "archive" or "quarantine"
    path: str  # relative to the root
    key: str | None  # None where the file is too damaged to tell
    size: int  # bytes
    moved_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """The outcome of Store.archive.purge.

    >>> report = store.archive.purge(older_than=30 * 86400, dry_run=True)
    >>> report.ok, [file.key for file in report.removed], report.bytes_freed
    (True, [], 0)
    """

    dry_run: bool
    removed: tuple[ArchivedFile, ...]
    bytes_freed: int
    skipped: tuple[Skipped, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.skipped


@dataclass(frozen=True, slots=True)
class EraseReport:
    """The outcome of Store.erase_history.

    >>> session = store.patch("agent:main", {"status": "secret"}, unset=["turns"])
    >>> report = store.erase_history("agent:main")
    >>> report.key, len(report.removed) > 0
    ('agent:main', True)
    """

    key: str
    removed: tuple[str, ...]  # files, relative to the root, that are gone or were written again
    unreached: tuple[str, ...]  # for people: where old values may still stand


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that verify found."""

    path: str  # relative to the root
    key: str | None
    # A problem: damaged, log, line-endings, misplaced, unreadable, incomplete, lost, index.
    # A note: torn, unused-log, future, temp, foreign, mode.
    kind: str
    detail: str  # for people
    repaired: bool = False  # or, of kind lost, acknowledged: nothing came back, and it is not named again
    lost: bool = False  # an acknowledged change cannot be brought back; quarantine/ has the bytes that were found


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome of Store.verify. Notes are no damage: temps, foreign files, files that others may open.

    >>> report = store.verify()
    >>> for problem in report.problems:
    ...     print(problem.path, problem.kind, problem.detail)
    >>> report.ok, report.sessions
    (True, 2)
    """

    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()
    shards: int = 0  # files that were read
    records: int = 0  # that were read in them
    sessions: int = 0  # that exist

    @property
    def ok(self) -> bool:
        """Whether there is no damage left."""
        return all(problem.repaired for problem in self.problems)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """The outcome of Store.stats. Sizes in bytes.

    >>> stats = store.stats()
    >>> stats.sessions, stats.tombstones, stats.archived, stats.damaged
    (2, 0, 0, ())
    """

    sessions: int
    tombstones: int  # deleted sessions whose file is still there
    bytes_live: int  # of the entries, as compact JSON, and of the items of their logs
    bytes_dead: int  # of the files beyond that: older records, and the overhead of each record
    bytes_total: int  # of the journals
    pending_changes: int  # shards that the next list reads
    archived: int  # files in archive/
    quarantined: int  # files in quarantine/
    damaged: tuple[str, ...]  # shards, relative to the root, that could not be read
    index_unusable: str | None  # why every shard had to be read; None: the index answered
    format: int  # of the files, as shardstore.json has it


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A held lock of one session."""

    key: str | None  # None where the file does not show it
    path: str  # of the file that is locked
    pid: int  # of the process that holds it


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that doctor tried."""

    name: str
    status: Literal["pass", "warn", "fail"]
    detail: str  # for people


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """The findings of doctor about a directory."""

    directory: str
    file_system: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "fail" for check in self.checks)
