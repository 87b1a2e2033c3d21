"""Answering: refresh what changed, then look.

Calling sequence of a list (docs/index.md):

    look at the generation file          which generation, whether the catalogue may be believed
    read the notes                       first
    read the changed shards              each at some moment after that
    ask the catalogue                    for all others
    look again                           it was published meanwhile: once more

A refresh before it is an economy, not a part of it: without the right or the lock for one the answer is the same.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shardstore.errors import ShardStoreError
from shardstore.index import files, notes
from shardstore.index.catalogue import CatalogueError
from shardstore.index.hints import Directories
from shardstore.index.look import IndexLock, Look, Moved, Unusable
from shardstore.index.rebuild import Outcome, rebuild
from shardstore.index.refresh import refresh
from shardstore.index.views import CatalogueView, ScanView, View
from shardstore.shard import inside_update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore.index.look import Place

T = TypeVar("T")

_LOOKS: Final = 50  # before every shard is read instead
_PATIENT_LOOKS: Final = 3  # before the answer is worked out under the index lock, where nobody publishes
_WAIT_S: Final = 10.0  # for somebody else's rebuild; reading every shard takes as long, and this one is shared
_WAIT_READ_ONLY_S: Final = 0.05
_PAUSE_MAX_S: Final = 0.02
_RETRY_S: Final = 5.0  # after a rebuild that could not be written


class Reader:
    """Answers the lists of one store, for all threads of this process."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rebuilt_because: str | None = None  # by this process, the last time
        self._directories = Directories()
        self._no_rebuild_until = 0.0

    def answer(self, ask: Callable[[View], T], *, refresh_first: bool) -> T:
        """Give what `ask` makes of the sessions as of some moment during the call.

        Raises what `ask` raises; StoreNotFound, and StoreIOError for a shard that cannot be read.
        """
        attempt = _Attempt(self, refresh_first=refresh_first)
        for count in range(_LOOKS):
            with self._quiet(count):
                try:
                    done, result = self._try(ask, attempt)
                except Moved:
                    continue
                except Unusable as problem:
                    reason = problem
                else:
                    if done:
                        return result  # type: ignore[return-value]
                    continue
            if not attempt.cure(reason):
                break
        return ask(self.scan())

    def _try(self, ask: Callable[[View], T], attempt: _Attempt) -> tuple[bool, T | None]:
        """Answer once; give (False, None) where the index was published meanwhile. Raises Moved, Unusable."""
        with Look.open(self.place) as look:
            names, directories = look.names(), {}
            if self._directories.due():
                more, directories = self._suspects(look)
                names |= more
            if attempt.refresh_first and (names or directories):
                attempt.refresh_first = False
                if refresh(self.place, names, directories):
                    return False, None
            changed = {name: self.place.shards.read(name) for name in names}
            with self._catalogue(look) as catalogue:
                view = CatalogueView(catalogue, self.place.shards, changed)
                try:
                    result = ask(view)
                except ShardStoreError:
                    raise
                except Exception as error:
                    # While somebody publishes, the file may hold anything.
                    if not look.stands():
                        return False, None
                    if isinstance(error, CatalogueError):
                        raise Unusable(f"the catalogue cannot be read: {error}") from error
                    raise
            return (True, result) if look.stands() else (False, None)

    @contextmanager
    def _catalogue(self, look: Look) -> Iterator[Any]:
        connections, inode = self.place.connections, look.seal.inode
        try:
            catalogue = connections.take(look.epoch, inode)
        except CatalogueError as error:
            raise Unusable(f"the catalogue cannot be opened: {error}") from error
        try:
            yield catalogue
        except BaseException:
            catalogue.close()
            raise
        connections.give_back(look.epoch, inode, catalogue)

    def _suspects(self, look: Look, *, every: bool = False) -> tuple[set[str], dict[str, int]]:
        """Find what was done by hand. Raises Moved, Unusable."""
        with self._catalogue(look) as catalogue:
            try:
                return self._directories.suspects(self.place, catalogue, look.epoch, every=every)
            except CatalogueError as error:
                if not look.stands():
                    raise Moved from None
                raise Unusable(f"the catalogue cannot be read: {error}") from error

    @contextmanager
    def _quiet(self, count: int) -> Iterator[None]:
        """Keep others from publishing, once they did so too often while this list was being answered."""
        try:
            lock = IndexLock.take(self.place) if count >= _PATIENT_LOOKS else None
        except OSError:
            lock = None
        with lock or nullcontext():
            yield

    def scan(self) -> ScanView:
        """Give a view that reads every shard. Raises nothing; what it is asked may."""
        noted: set[str] = set()
        try:
            for file in os.listdir(self.place.directory):
                name = files.parse(file)
                if name is not None and name.kind == "notes":
                    noted |= notes.salvage(self.place.directory, file, name.epoch, name.number, name.copy)
        except OSError:
            pass
        return ScanView(self.place.shards, noted)

    def refresh_all(self) -> None:
        """Refresh, and find every file that was copied in or taken away by hand. Raises StoreIOError for shards."""
        for _ in range(_LOOKS):
            try:
                with Look.open(self.place) as look:
                    names, directories = self._suspects(look, every=True)
                    refresh(self.place, names, directories)
            except Moved:
                continue
            except Unusable as problem:
                self.rebuild(str(problem))
            return

    def rebuild(self, reason: str, progress: Callable[[int, int], None] | None = None) -> Outcome:
        """Make the index anew."""
        outcome = rebuild(self.place, progress)
        if outcome is Outcome.DONE:
            self.rebuilt_because = reason
        elif outcome is Outcome.IMPOSSIBLE:
            self._no_rebuild_until = time.monotonic() + _RETRY_S
        return outcome

    def may_rebuild(self) -> bool:
        """Tell whether it is worth trying: not right after it could not be written."""
        return time.monotonic() >= self._no_rebuild_until


class _Attempt:
    """What one call has tried so far."""

    def __init__(self, reader: Reader, *, refresh_first: bool) -> None:
        self.reader = reader
        self.refresh_first = refresh_first
        self._may_write = refresh_first
        self._deadline = time.monotonic() + (_WAIT_S if refresh_first else _WAIT_READ_ONLY_S)
        self._pause = 0.0005

    def cure(self, problem: Unusable) -> bool:
        """Do something about an index that cannot be used; tell whether looking again makes sense."""
        if self._may_write and self.reader.may_rebuild():
            outcome = self.reader.rebuild(str(problem))
            if outcome is Outcome.DONE:
                self.refresh_first = False
                return True
            if outcome is Outcome.IMPOSSIBLE:
                return False
        elif not problem.unfinished:
            return False
        if inside_update() or time.monotonic() >= self._deadline:
            return False  # somebody waits for this call: nobody waits holding a lock
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _PAUSE_MAX_S)
        return True
