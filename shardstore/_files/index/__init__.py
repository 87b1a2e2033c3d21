"""The index: exact lists of all sessions, at the cost of the changes since the last list (docs/internals/index.md).

Derived from the shards; any file of it may be deleted, cut off or overwritten at any moment, and no answer changes.
get and update never ask it: a commit only marks its shard as changed, inside the session's lock.

What a commit needs is imported here; the rest, SQLite above all, only by the first list.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, Protocol

from shardstore._files.change_file import file as changes
from shardstore._files.change_file.tracker import ChangeTracker
from shardstore._imports import late_imports
from shardstore.errors import StoreBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.index.lister import Lister
    from shardstore._files.layout import Layout

__all__ = ["Index"]


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

    @property
    def lister(self) -> Lister:
        """What answers lists, imported and made by the first one."""
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
