"""Answering a list: from the catalog and the changes since, as of some moment during the call.

The protocol, and why it is right, stand in docs/internals/index.md.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from shardstore import _events as events
from shardstore._files.index.catalog import fingerprint
from shardstore._files.index.changes import ChangeFile, Pending, Unusable, change_files, holds_index_lock
from shardstore._files.index.directories import NOTHING
from shardstore._files.index.rebuild import rebuild
from shardstore._files.index.refresh import FAILURES, seal_of, where_usable
from shardstore._files.index.refresh import refresh as bring_up_to_date
from shardstore._files.index.views import CatalogView, ScanView
from shardstore._files.marker import read_settings, write_settings
from shardstore._inside import inside_update
from shardstore.errors import ShardStoreError, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.index.catalog import Catalog, Meta
    from shardstore._files.index.place import Place
    from shardstore._files.index.views import View
    from shardstore._progress import Progress

T = TypeVar("T")

_REREADS: Final = 64  # shards read again and again; a refresh costs about as much
BEHIND_BYTES_MAX: Final = 64 << 10  # of changes that every list reads: watchers have them written again and again
_TRIES: Final = 6
_WAIT_S: Final = 0.25  # seconds that a list waits for a process that publishes or rebuilds the index
_POLL_S: Final = 0.001


class _Again(Exception):
    """Somebody refreshed: begin again."""


class Lister:
    """Answers questions about all sessions of one store."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.problem: str | None = None  # why this process last rebuilt the index, or read every shard
        self._rereads = 0
        self._counted = ("", 0)  # the change file and mark since which they are counted

    def answer(self, ask: Callable[[View], T], *, refresh: bool, progress: Progress | None) -> T:
        """Return the answer of `ask` on the sessions.

        refresh=False writes nothing, for the same answer. Raises InvalidQuery, StoreNotFound, StoreIOError.
        """
        deadline = time.monotonic() + _WAIT_S
        for attempt in range(_TRIES):
            try:
                return self._from_catalog(ask, refresh=refresh and not attempt)
            except _Again:
                continue
            except ShardStoreError:
                raise
            except FAILURES as problem:
                self.place.close_idle()
                self.problem = str(problem) or type(problem).__name__
            if attempt and not self._mend(deadline, refresh=refresh, progress=progress):
                break
        events.note("index", events.WARNING, "reading every shard, for the index cannot be used: %s", self.problem)
        return ask(ScanView(self.place.shards, self._marked(), progress))

    def _from_catalog(self, ask: Callable[[View], T], *, refresh: bool) -> T:
        """Ask the catalog. Raises Unusable, OSError, sqlite3.Error, _Again."""
        catalog = self.place.take(write=refresh)
        try:
            answer = self._ask(catalog, ask, refresh=refresh)
        except _Again:
            self.place.give_back(catalog)
            raise
        except BaseException:
            catalog.close()
            raise
        self.place.give_back(catalog)
        return answer

    def _ask(self, catalog: Catalog, ask: Callable[[View], T], *, refresh: bool) -> T:
        meta, file, pending = self.begin(catalog)
        names = self._names(catalog, meta, pending)
        if refresh and self._refresh_pays(meta, names, pending.end - meta.mark):
            catalog.end()
            bring_up_to_date(self.place, catalog, file)
            raise _Again
        seal = seal_of(meta.mark, fingerprint(self.place.catalog_path))
        if pending.seal != seal:
            raise Unusable("the catalog is not as it was sealed")
        answer = ask(CatalogView(catalog, self.place.shards, {name: self.place.shards.read(name) for name in names}))
        if seal_of(meta.mark, fingerprint(self.place.catalog_path)) != seal or not file.is_named():
            raise Unusable("the catalog changed during a query")
        catalog.end()
        return answer

    def begin(self, catalog: Catalog) -> tuple[Meta, ChangeFile, Pending]:
        """Begin a transaction; return what the catalog goes with. Raises Unusable, OSError, sqlite3.Error."""
        meta = catalog.begin()
        if meta.settings != self.place.settings:
            self.place.reread_settings()
            raise Unusable("the indexed fields are others by now")
        if meta.life != self.place.life():
            raise Unusable("it was made before the machine or the file system was restarted")
        file = self.place.change_file(meta.file)
        return meta, file, file.read(meta.mark)

    def _names(self, catalog: Catalog, meta: Meta, pending: Pending) -> set[str]:
        """Return the shards that have to be read: changed ones, and those that appeared or vanished by hand."""
        directories = self.place.directories
        directories.check(self.place.shards, catalog, meta)
        return pending.names | directories.found.suspects

    # Refreshing

    def _refresh_pays(self, meta: Meta, names: set[str], size: int) -> bool:
        """Count the shards that lists read since anybody's last refresh. `size`: bytes of changes since then."""
        if not names or inside_update():
            return False
        counted = (meta.file, meta.mark)
        if self._counted != counted:
            self._counted, self._rereads = counted, 0
        self._rereads += len(names)
        if self._rereads < _REREADS and size < BEHIND_BYTES_MAX:
            return False
        self._rereads = 0
        return True

    def refresh_all(self, progress: Progress | None) -> None:
        """Refresh, and compare every directory: that finds shards added or removed by hand. Raises StoreIOError."""
        self.answer(lambda _: None, refresh=True, progress=progress)  # it is usable by now, or cannot be
        deadline = time.monotonic() + _WAIT_S
        while not self._refreshed_whole():
            if time.monotonic() > deadline or not self._wait(deadline):
                events.note("index", events.WARNING, "the index was in use and is not refreshed whole; compact again")
                return
            time.sleep(_POLL_S)

    def _refreshed_whole(self) -> bool:
        """Compare every directory and refresh, both under the index lock; return whether that was possible."""
        directories = self.place.directories
        with where_usable(), closing(self.place.take(write=True)) as catalog:
            _, file, _ = self.begin(catalog)
            catalog.end()

            def compare() -> None:
                directories.compare_all(self.place.shards, catalog, catalog.begin())
                catalog.end()

            return bring_up_to_date(self.place, catalog, file, compare) and directories.found is NOTHING
        return False

    # Mending

    def rebuild(self, progress: Progress | None) -> bool:
        """Rebuild the index unless somebody else is at it; return whether it was done. Raises StoreIOError."""
        self.place.close_idle()
        try:
            return rebuild(self.place, progress)
        except ShardStoreError:
            raise
        except OSError as error:
            raise_io_error(error, "making the index", self.place.directory)

    def reindex(self, fields: tuple[str, ...], progress: Progress | None) -> None:
        """Have these fields indexed. Raises StoreIOError."""
        write_settings(self.place.layout, read_settings(self.place.layout)._replace(indexed=fields))
        self.place.reread_settings()
        self.rebuild(progress)  # where somebody else is at it, the next list finds that its fields are others

    def _mend(self, deadline: float, *, refresh: bool, progress: Progress | None) -> bool:
        """Wait for whoever publishes or makes the index, else make it; return whether to ask again."""
        if holds_index_lock(self.place.directory) or not self._wait(deadline):
            return False
        with suppress(_Again, *FAILURES):
            self._from_catalog(lambda _: None, refresh=False)  # whoever was waited for may have finished it
            return True
        self.place.close_idle()
        if not refresh:
            return False
        try:
            return rebuild(self.place, progress)
        except ShardStoreError:
            raise
        except OSError as problem:
            self.problem = str(problem)
            return False

    def _wait(self, deadline: float) -> bool:
        """Wait for the index lock to be free; return whether it is. Inside an update it waits for nobody."""
        for name in self._change_files():
            try:
                file = ChangeFile.open(self.place.directory, name, write=False)
            except FAILURES:
                continue
            while not file.lock():
                if time.monotonic() > deadline or inside_update():
                    return False
                time.sleep(_POLL_S)
            file.unlock()
        return True

    def _marked(self) -> set[str]:
        """Return the shards that any change file names, as far as they can be read."""
        marked: set[str] = set()
        for name in self._change_files():
            with suppress(*FAILURES):
                marked |= ChangeFile.open(self.place.directory, name, write=False).read_all().names
        return marked

    def _change_files(self) -> list[str]:
        try:
            return change_files(self.place.directory)
        except OSError:
            return []
