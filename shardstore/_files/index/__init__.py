"""The index: exact lists of all sessions, at the cost of the changes since the last list (docs/internals/index.md).

Derived from the shards; any file of it may be deleted, cut off or overwritten at any moment, and no answer changes.
get and update never ask it: a commit only marks its shard as changed, inside the session's lock.

What a commit needs is imported here; the rest, SQLite above all, only by the first list.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from shardstore._files.index import changes
from shardstore._files.index.tracker import ChangeTracker
from shardstore._imports import late_imports
from shardstore.errors import DamagedSessions, StoreBusy, warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore._files.index.lister import Lister
    from shardstore._files.index.upkeep import Believed
    from shardstore._files.index.views import View
    from shardstore._files.layout import Layout
    from shardstore._progress import Progress
    from shardstore.query import Query
    from shardstore.session import SessionInfo

__all__ = ["Index", "Status", "Totals"]


class Totals(NamedTuple):
    """Sums over all sessions, in bytes."""

    sessions: int
    bytes_live: int  # of the entries, as compact JSON, and of the items of their logs
    bytes_journal: int  # of the journals, without the space preallocated at their ends


class Status(NamedTuple):
    """How the index is doing."""

    pending: int  # shards that the next list reads
    totals: Totals
    damaged: tuple[str, ...]  # names of shards that could not be read
    problem: str | None  # why every shard has to be read, each time; None: the index answers


class OpenShards(Protocol):
    """What a process has open of a store."""

    def close_idle(self) -> int:
        """Close unused files, for their descriptors; return how many."""


class Index:
    """The index of one store in one process. Its threads share it; none waits for another."""

    _opening: ClassVar = False  # by the thread that holds `late_imports`

    def __init__(self, layout: Layout, indexed: tuple[str, ...] | None, open_shards: OpenShards) -> None:
        """`indexed`: the fields that have SQL indexes."""
        self._layout = layout
        self._indexed = tuple(indexed or ())
        self._free_descriptors = open_shards.close_idle
        self._tracker = ChangeTracker(os.fspath(layout.index), open_shards.close_idle)
        self._lister: Lister | None = None
        self.mark_changed: Callable[..., None] = self._tracker.mark_changed

    def lister(self) -> Lister:
        """Import and make what answers lists."""
        if self._lister is not None:
            return self._lister
        with late_imports:
            if Index._opening:
                raise StoreBusy("the first list of this process")
            Index._opening = True
            try:
                from shardstore._files.index import upkeep  # noqa: F401  # for later, when locks may be held
                from shardstore._files.index.lister import Lister
                from shardstore._files.index.place import Place

                if self._lister is None:
                    self._lister = Lister(Place(self._layout, self._indexed, self._free_descriptors))
            finally:
                Index._opening = False
        return self._lister

    def select(self, query: Query, *, refresh: bool = True, progress: Progress | None = None) -> list[SessionInfo]:
        """List sessions, each as of some moment during the call.

        refresh=False writes nothing, for the same answer. `progress(done, total)`, here and below, counts directories
        whenever every shard has to be read; rebuilding the index calls it under the index lock. Warns
        (DamagedSessions) where sessions are left out. Raises StoreNotFound, StoreIOError.
        """
        found, damaged = self.lister().answer(
            lambda view: (view.select(query), view.damaged()), refresh=refresh, progress=progress
        )
        _warn(damaged)
        return found

    def count(self, query: Query, *, refresh: bool = True, progress: Progress | None = None) -> int:
        """Count the sessions that `select` would return, limits aside. Warns and raises as it does."""
        found, damaged = self.lister().answer(
            lambda view: (view.count(query), view.damaged()), refresh=refresh, progress=progress
        )
        _warn(damaged)
        return found

    def keys(self, *, refresh: bool = True, progress: Progress | None = None) -> Iterator[str]:
        """Yield every key in ascending order; the store may change meanwhile.

        A session that is there all the time is yielded once; one made or deleted meanwhile once or not at all.
        """
        after: str | None = ""
        while after is not None:
            keys, after = self.lister().answer(_next_keys(after), refresh=refresh, progress=progress)
            yield from keys

    def status(self, *, refresh: bool = False, progress: Progress | None = None) -> Status:
        """Return how the index is doing. Raises StoreNotFound, StoreIOError."""
        lister = self.lister()
        from shardstore._files.index.upkeep import pending

        totals, damaged = lister.answer(
            lambda view: (view.totals(), view.damaged()), refresh=refresh, progress=progress
        )
        changed, problem = pending(lister)
        return Status(changed, Totals(*totals), tuple(damaged), problem)

    def refresh(self, progress: Progress | None = None) -> None:
        """Refresh, and compare every directory: that finds shards added or removed by hand. Raises StoreIOError."""
        self.lister().refresh_all(progress)

    def rebuild(self, progress: Progress | None = None) -> bool:
        """Rebuild the index unless somebody else is at it; return whether it was done. Raises StoreIOError."""
        return self.lister().rebuild(progress)

    def reindex(self, fields: tuple[str, ...], progress: Progress | None = None) -> None:
        """Have these fields indexed, in every process that uses the store. Raises StoreIOError."""
        self.lister().reindex(fields, progress)

    def vacuum(self) -> int:
        """Delete leftovers in index/, and give unused space back; return the bytes freed."""
        lister = self.lister()
        from shardstore._files.index.upkeep import vacuum

        return vacuum(lister)

    def audit(self, progress: Progress | None = None) -> list[tuple[str, str]]:
        """Return (name of the shard, problem) for each row that a list would wrongly believe."""
        lister = self.lister()
        from shardstore._files.index.upkeep import audit

        return audit(lister, progress)

    def believed(self) -> dict[str, Believed]:
        """Return what the catalog says of each session, by its shard's name; nothing where it cannot be believed."""
        lister = self.lister()
        from shardstore._files.index.upkeep import believed

        return believed(lister)

    def close(self) -> None:
        """Close all files, waiting for nobody. The index can be used again."""
        self._tracker.close()
        if self._lister is not None:
            self._lister.place.close()

    def after_fork(self) -> None:
        """Drop, in a forked child, the inherited descriptors, without touching the parent's."""
        changes.after_fork()
        self._tracker.close()
        if self._lister is not None:
            self._lister.place.after_fork()


def _next_keys(after: str) -> Callable[[View], tuple[list[str], str | None]]:
    return lambda view: view.keys(after)


def _warn(damaged: list[str]) -> None:
    if damaged:
        sessions = "1 session is" if len(damaged) == 1 else f"{len(damaged):,} sessions are"
        warn_caller(
            DamagedSessions(f"{sessions} left out, damaged; stats().damaged names the files, verify mends them")
        )
