"""What maintenance tells: frozen dataclasses, plain values throughout."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that compact did, or would do."""

    action: str  # rewrite, trim, archive, purge, drop-tombstone, sweep-temp, refresh-index
    key: str | None
    size: int  # bytes of the file it concerns
    why: str
    age: float | None = None  # seconds since the session's last change
    bytes_freed: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """One thing that compact left alone."""

    path: str  # relative to the root
    key: str | None
    why: str
    failed: bool = False  # it should have been done and could not be; a busy session is not a failure


@dataclass(frozen=True, slots=True)
class CompactReport:
    """The outcome of Store.compact."""

    dry_run: bool
    actions: tuple[Action, ...]
    bytes_freed: int
    skipped: tuple[Skipped, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not any(item.failed for item in self.skipped)


@dataclass(frozen=True, slots=True)
class Kept:
    """One file in archive/ or quarantine/."""

    place: str  # "archive" or "quarantine"
    path: str  # relative to the root
    key: str | None  # None where the file is too damaged to tell
    size: int  # bytes
    moved_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """The outcome of Store.purge_archive."""

    dry_run: bool
    removed: tuple[Kept, ...]
    bytes_freed: int
    skipped: tuple[Skipped, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.skipped


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that verify found."""

    path: str  # relative to the root
    key: str | None
    kind: str  # a problem: damaged, misplaced, unreadable, index; a note: temp, foreign, mode
    detail: str
    repaired: bool = False
    lost: bool = False  # no record of the session is whole; the damaged file is kept in quarantine/


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome of Store.verify. Notes are no damage: temps, foreign files, files that others may open."""

    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()
    shards: int = 0
    records: int = 0
    sessions: int = 0

    @property
    def ok(self) -> bool:
        """Whether there is no damage left."""
        return all(problem.repaired for problem in self.problems)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """The outcome of Store.stats. Sizes in bytes."""

    sessions: int
    tombstones: int
    bytes_live: int
    bytes_dead: int
    bytes_total: int
    pending_changes: int  # shards that the next list reads
    archived: int
    quarantined: int
    damaged: tuple[str, ...]  # shards, relative to the root, that could not be read
    index_unusable: str | None  # why every shard had to be read; None: the index answered
    format: int
