"""Answering a list: from the catalog and the changes since, as of some moment during the call.

The protocol, and why it is right, stand in docs/internals/index.md.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from shardstore import _events as events
from shardstore._files.change_file.file import ChangeFile, Pending, Unusable, change_files, holds_index_lock
from shardstore._files.index.rebuild import rebuild, scan
from shardstore._files.index.refresh import FAILURES, is_sealed, refresh
from shardstore._files.index.views import View
from shardstore._files.marker import read_settings, write_settings
from shardstore._inside import inside_update
from shardstore.errors import DamagedSessions, ShardStoreError, raise_io_error, warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore._files.index.catalog import Catalog, Meta
    from shardstore._files.index.place import Place
    from shardstore._progress import Progress
    from shardstore.query import Query
    from shardstore.session import SessionInfo

T = TypeVar("T")

_REREADS: Final = 64  # shards read again and again; a refresh costs about as much
BEHIND_BYTES_MAX: Final = 64 << 10  # of changes that every list reads: watchers have them written again and again
_TRIES: Final = 6
_WAIT_S: Final = 0.25  # seconds that a list waits for a process that publishes or rebuilds the index
_POLL_S: Final = 0.001


class Lister:
    """Answers questions about all sessions of one store.

    refresh=False writes nothing, for the same answer. `progress(done, total)` counts directories whenever every shard
    has to be read; rebuilding the index calls it under the index lock.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.problem: str | None = None  # why this process last rebuilt the index, or read every shard
        self._rereads = 0
        self._counted = ("", 0)  # the change file and mark since which they are counted

    def select(self, query: Query, *, refresh: bool = True, progress: Progress | None = None) -> list[SessionInfo]:
        """List sessions. Warns (DamagedSessions) where some are left out. Raises StoreNotFound, StoreIOError."""
        return self._answer_whole(lambda view: view.select(query), refresh=refresh, progress=progress)

    def count(self, query: Query, *, refresh: bool = True, progress: Progress | None = None) -> int:
        """Count the sessions that `select` would return, limits aside. Warns and raises as it does."""
        return self._answer_whole(lambda view: view.count(query), refresh=refresh, progress=progress)

    def keys(self, *, refresh: bool = True, progress: Progress | None = None) -> Iterator[str]:
        """Yield every key in ascending order; the store may change meanwhile.

        A session that is there all the time is yielded once; one made or deleted meanwhile once or not at all.
        """
        after: str | None = ""
        while after is not None:
            keys, after = self.answer(partial(View.keys, after=after), refresh=refresh, progress=progress)
            yield from keys

    def _answer_whole(self, ask: Callable[[View], T], *, refresh: bool, progress: Progress | None) -> T:
        """Answer, and warn where sessions are left out."""
        found, damaged = self.answer(lambda view: (ask(view), view.damaged()), refresh=refresh, progress=progress)
        if damaged:
            sessions = "1 session is" if len(damaged) == 1 else f"{len(damaged):,} sessions are"
            warn_caller(
                DamagedSessions(f"{sessions} left out, damaged; stats().damaged names the files, verify mends them")
            )
        return found

    def answer(self, ask: Callable[[View], T], *, refresh: bool, progress: Progress | None) -> T:
        """Return the answer of `ask` on the sessions. Raises InvalidQuery, StoreNotFound, StoreIOError."""
        deadline = time.monotonic() + _WAIT_S
        for attempt in range(_TRIES):
            try:
                return self._from_catalog(ask, refreshes=refresh and not attempt)
            except ShardStoreError:
                raise
            except FAILURES as problem:
                self.place.close_idle()
                self.problem = str(problem) or type(problem).__name__
            if attempt and not self._mend(deadline, refresh=refresh, progress=progress):
                break
        events.note("index", events.WARNING, "reading every shard, for the index cannot be used: %s", self.problem)
        catalog, unknown = scan(self.place, self._marked(), progress)
        with closing(catalog):
            return ask(View(catalog, self.place.shards, unknown, self.problem))

    def _from_catalog(self, ask: Callable[[View], T], *, refreshes: bool) -> T:
        """Ask the catalog, which is refreshed first where that pays. Raises Unusable, OSError, sqlite3.Error."""
        place = self.place
        with place.connection(write=refreshes) as catalog:
            meta, file, pending = self.begin(catalog)
            names = self._names(catalog, meta, pending)
            if refreshes and self._refresh_pays(meta, names, pending.end - meta.mark):
                catalog.end()
                refresh(place, catalog, file)
                meta, file, pending = self.begin(catalog)
                names = self._names(catalog, meta, pending)
            if not is_sealed(place, meta, pending):  # what stands in it may be anything
                raise Unusable("the catalog is not as it was sealed")
            answer = ask(View(catalog, place.shards, {name: place.shards.read(name) for name in names}))
            if not is_sealed(place, meta, pending) or not file.is_named():
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
        """Return the shards that have to be read: those that were marked as changed, or changed by hand."""
        directories = self.place.directories
        directories.check(self.place.shards, catalog, meta)
        return pending.names | directories.found.suspects

    def _refresh_pays(self, meta: Meta, names: set[str], size: int) -> bool:
        """Count the shards that lists read since anybody's last refresh. `size`: bytes of changes since then."""
        if not names or inside_update():
            return False
        counted = meta.edition
        if self._counted != counted:
            self._counted, self._rereads = counted, 0
        self._rereads += len(names)
        if self._rereads < _REREADS and size < BEHIND_BYTES_MAX:
            return False
        self._rereads = 0
        return True

    # Mending

    def rebuild(self, progress: Progress | None = None) -> bool:
        """Rebuild the index unless somebody else is at it; return whether it was done. Raises StoreIOError."""
        self.place.close_idle()
        try:
            return rebuild(self.place, progress)
        except ShardStoreError:
            raise
        except OSError as error:
            raise_io_error(error, "making the index", self.place.directory)

    def reindex(self, fields: tuple[str, ...], progress: Progress | None = None) -> None:
        """Have these fields indexed, in every process that uses the store. Raises StoreIOError."""
        write_settings(self.place.layout, read_settings(self.place.layout)._replace(indexed=fields))
        self.place.reread_settings()
        self.rebuild(progress)  # where somebody else is at it, the next list finds that its fields are others

    def _mend(self, deadline: float, *, refresh: bool, progress: Progress | None) -> bool:
        """Wait for whoever publishes or makes the index, else make it; return whether to ask again."""
        if holds_index_lock(self.place.directory) or not self.wait(deadline):
            return False
        with suppress(*FAILURES):
            self._from_catalog(lambda _: None, refreshes=False)  # whoever was waited for may have finished it
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

    def wait(self, deadline: float) -> bool:
        """Wait for the index lock to be free; return whether it is. Inside an update it waits for nobody."""
        for file in self._change_files():
            while not file.lock():
                if time.monotonic() > deadline or inside_update():
                    return False
                time.sleep(_POLL_S)
            file.unlock()
        return True

    def _marked(self) -> set[str]:
        """Return the shards that any change file names, as far as they can be read."""
        marked: set[str] = set()
        for file in self._change_files():
            with suppress(*FAILURES):
                marked |= file.read_all().names
        return marked

    def _change_files(self) -> Iterator[ChangeFile]:
        """Open each change file there is, as far as that is possible."""
        with suppress(OSError):
            for name in change_files(self.place.directory):
                with suppress(*FAILURES):
                    yield ChangeFile.open(self.place.directory, name, write=False)
