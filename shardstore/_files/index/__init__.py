"""The index: lists of all sessions, exact, at the cost of what changed since the last list (docs/index.md).

Derived from the shards; any file of it may be deleted, cut off or overwritten at any moment, and no answer changes.
get and update never ask it: a writer only notes, inside its shard's lock and before its commit, that the shard changed.

What is needed for a note is imported here; the rest, SQLite above all, only by the first list.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from shardstore._files.index.noter import Noter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore._files.index.progress import Progress
    from shardstore._files.index.reader import Reader
    from shardstore._files.index.shards import OpenShards
    from shardstore._files.index.views import View
    from shardstore._files.layout import Layout
    from shardstore.query import Query
    from shardstore.session import SessionInfo

__all__ = ["Index", "Status", "Totals"]


class Totals(NamedTuple):
    """Sums over all sessions, in bytes."""

    sessions: int
    bytes_live: int  # of the entries as compact JSON
    bytes_journal: int  # of the journals, without the room at their ends


class Status(NamedTuple):
    """How the index is doing."""

    generation: int
    pending_notes: int  # shards that the next list reads
    totals: Totals
    damaged: tuple[str, ...]  # shards that could not be read, relative to ROOT
    rebuilt_because: str | None  # why this process made it anew, or would; None: it has not and would not
    usable: bool  # whether it answers; else every shard is read, each time


class Index:
    """The index of one store in one process. Safe to share between threads."""

    def __init__(
        self,
        layout: Layout,
        index_fields: tuple[str, ...] | None = None,
        open_shards: OpenShards | None = None,
    ) -> None:
        """`open_shards`: what this process has open; of these, only what was added is read."""
        self._layout = layout
        self._open_shards = open_shards
        self._index_fields = index_fields
        self._noter = Noter(os.fspath(layout.index))
        self._reader: Reader | None = None
        self._making = threading.Lock()
        self.note = self._noter.note

    @property
    def _answers(self) -> Reader:
        if self._reader is None:
            from shardstore._files.index.look import Place
            from shardstore._files.index.reader import Reader
            from shardstore._files.index.rows import Projection

            with self._making:  # one of two readers would be lost, with the connections that it keeps
                if self._reader is None:
                    self._reader = Reader(Place(self._layout, Projection(self._index_fields), self._open_shards))
        return self._reader

    def select(self, query: Query, *, refresh: bool = True, progress: Progress | None = None) -> list[SessionInfo]:
        """Return the sessions that answer a query, exact as of some moment during the call (of each session).

        refresh=False writes nothing, for the same answer. `progress(done, total)`, here and below, counts directories
        whenever every shard has to be read; a rebuild calls it under the index lock. Sessions whose shard is damaged
        are left out; `status` names them. Raises StoreNotFound; StoreIOError where a shard cannot be read.
        """
        return self._answers.answer(lambda view: view.select(query), refresh_first=refresh, progress=progress)

    def count(self, query: Query, *, refresh: bool = True, progress: Progress | None = None) -> int:
        """Count what `select` would return. Raises as it does."""
        return self._answers.answer(lambda view: view.count(query), refresh_first=refresh, progress=progress)

    def keys(self, *, refresh: bool = True, progress: Progress | None = None) -> Iterator[str]:
        """Yield every key in ascending order; the store may change meanwhile.

        A session that is there all the time is given once; one made or deleted meanwhile once or not at all.
        """
        after, more = None, True
        while more:
            keys, more = self._answers.answer(_next_keys(after), refresh_first=refresh, progress=progress)
            yield from keys
            after = keys[-1] if keys else after

    def totals(self, *, refresh: bool = True, progress: Progress | None = None) -> Totals:
        """Sum up all sessions. Raises StoreNotFound, StoreIOError."""
        found = self._answers.answer(lambda view: view.totals(), refresh_first=refresh, progress=progress)
        return Totals(*found)

    def status(self, *, refresh: bool = False, progress: Progress | None = None) -> Status:
        """Say how the index is doing. Raises StoreNotFound, StoreIOError."""
        from shardstore._files.index.status import status

        number, pending, totals, damaged, reason = status(self._answers, refresh_first=refresh, progress=progress)
        return Status(max(0, number), pending, Totals(*totals), damaged, reason, number >= 0)

    def refresh(self, progress: Progress | None = None) -> None:
        """Refresh, comparing every directory: finds what was copied in or taken away by hand. Raises StoreIOError."""
        self._answers.refresh_all(progress)

    def rebuild(self, progress: Progress | None = None) -> bool:
        """Make the index anew unless somebody else is at it; tell whether it was done."""
        return self._answers.rebuild("asked to", progress).name == "DONE"

    def vacuum(self) -> int:
        """Delete what was left lying in index/, and give unused room back; return the bytes freed."""
        from shardstore._files.index.vacuum import vacuum

        return vacuum(self._answers.place)

    def check(self, progress: Progress | None = None) -> list[tuple[str, str]]:
        """Return (path relative to ROOT/index, what is wrong) for each believed row that differs from its shard."""
        from shardstore._files.index.audit import check

        return check(self._answers.place, progress)

    def close(self) -> None:
        """Close what is open. The index can be used again."""
        self._noter.close()
        if self._reader is not None:
            self._reader.place.close()

    def let_go(self) -> None:
        """Close what is open, as far as nobody is at it. Waits for nobody."""
        self._noter.close()
        if self._reader is not None:
            self._reader.place.connections.close(wait=False)

    def after_fork(self) -> None:
        """Drop, in a forked child, what it inherited, without touching the parent's."""
        self._making = threading.Lock()
        self._noter.after_fork()
        if self._reader is not None:
            self._reader.place.after_fork()


def _next_keys(after: str | None) -> Callable[[View], tuple[list[str], bool]]:
    return lambda view: view.keys(after)
