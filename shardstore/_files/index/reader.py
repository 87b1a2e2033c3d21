"""Answering: refresh what changed, then look.

Calling sequence of a list (docs/index.md):

    look at the generation file          which generation, whether the catalogue may be believed
    read the notes                       first
    read the changed shards              each at some moment after that
    ask the catalogue                    for all others
    look again                           it was published meanwhile: once more

A refresh before it is an economy, not a part of it: without the right or the lock for one the answer is the same, and
while reading the changed shards again costs less than a refresh (rent.py), there is none.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shardstore._files.index import files, notes
from shardstore._files.index.catalogue import CatalogueError
from shardstore._files.index.hints import Directories
from shardstore._files.index.look import IndexLock, Look, Moved, Unusable
from shardstore._files.index.patience import Makers, Patience
from shardstore._files.index.rebuild import Outcome, rebuild
from shardstore._files.index.refresh import refresh
from shardstore._files.index.rent import Rent
from shardstore._files.index.views import CatalogueView, ScanView, View
from shardstore._inside import inside_update
from shardstore.errors import ShardStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore._files.index.look import Place
    from shardstore._files.index.progress import Progress

T = TypeVar("T")

_KEPT_OPEN: Final = 64  # changed shards; more of them would drive out those that the process works with (pool.py)
_LOOKS: Final = 50  # before every shard is read instead
_PATIENT_LOOKS: Final = 4  # before the answer is worked out under the index lock, where nobody publishes
_RETRY_S: Final = 5.0  # after a rebuild that could not be written


class Reader:
    """Answers the lists of one store, for all threads of this process."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rebuilt_because: str | None = None  # by this process, the last time
        self.others = Makers(place.directory)
        self._directories = Directories()
        self._rent = Rent()
        self._no_rebuild_until = 0.0

    def answer(self, ask: Callable[[View], T], *, refresh_first: bool, progress: Progress | None = None) -> T:
        """Give what `ask` makes of the sessions as of some moment during the call.

        `progress` is told of every rebuild or scan that this takes.
        Raises what `ask` raises; StoreNotFound, and StoreIOError for a shard that cannot be read.
        """
        attempt = _Attempt(self, refresh_first=refresh_first, progress=progress)
        while attempt.moved < _LOOKS:
            with self._quiet(attempt.moved):
                try:
                    result = self._try(ask, attempt)
                except Moved:
                    attempt.moved += 1
                    continue
                except Unusable as problem:
                    reason = problem
                else:
                    return result
            if not attempt.cure(reason):
                break
        return ask(self.scan(progress))

    def _try(self, ask: Callable[[View], T], attempt: _Attempt) -> T:
        """Answer once. Raises Moved where the index was published meanwhile, Unusable."""
        with Look.open(self.place) as look:
            names = look.names()
            if self._directories.due():
                self._compare(look)
            names |= self._directories.suspects
            self._rent.follow(look.epoch, look.seal.base)
            due = self._directories.compared or self._rent.is_due(len(names))
            if attempt.refresh_first and due:
                attempt.refresh_first = False
                if self._refresh(len(names)):
                    raise Moved
            began, again = time.monotonic(), len(names) <= _KEPT_OPEN
            changed = {name: self.place.shards.read(name, again=again) for name in names}
            read = time.monotonic()
            with self._catalogue(look) as catalogue, _sound(look):
                view = CatalogueView(catalogue, self.place.shards, changed)
                answer = ask(view)
                self._rent.paid(read - began, time.monotonic() - read, len(names))
                return answer

    def _refresh(self, changed: int) -> bool:
        """Refresh, if that is possible right now; about so many shards have changed. Raises Unusable, StoreIOError."""
        suspects, compared = self._directories.suspects, self._directories.compared
        began = time.monotonic()
        done = refresh(self.place, suspects, compared)
        if done:
            self._rent.bought(time.monotonic() - began, changed)
            self._directories.published(suspects, compared)
        return done

    @contextmanager
    def _catalogue(self, look: Look) -> Iterator[Any]:
        connections, inode = self.place.connections, look.seal.inode
        try:
            catalogue = connections.take(look.epoch, inode)
        except CatalogueError as error:
            raise Unusable(f"the catalogue cannot be opened: {error}") from error
        try:
            yield catalogue
            # Read while somebody published, it may have cached old pages under the new change counter, for good.
            if not look.stands():
                raise Moved
        except BaseException:
            catalogue.close()
            raise
        connections.give_back(look.epoch, inode, catalogue)

    def _compare(self, look: Look, *, every: bool = False) -> None:
        """Find what was done by hand. Raises Moved, Unusable."""
        with self._catalogue(look) as catalogue, _sound(look):
            self._directories.compare(self.place, catalogue, look.epoch, every=every)

    @contextmanager
    def _quiet(self, count: int) -> Iterator[None]:
        """Keep others from publishing, once they did so too often while this list was being answered."""
        try:
            lock = IndexLock.take(self.place) if count >= _PATIENT_LOOKS else None
        except OSError:
            lock = None
        with lock or nullcontext():
            yield

    def scan(self, progress: Progress | None = None) -> ScanView:
        """Give a view that reads every shard. Raises nothing; what it is asked may."""
        noted: set[str] = set()
        try:
            for file in os.listdir(self.place.directory):
                name = files.parse(file)
                if name is not None and name.kind == "notes":
                    noted |= notes.salvage(self.place.directory, file, name.epoch, name.number, name.copy)
        except OSError:
            pass
        return ScanView(self.place.shards, noted, progress)

    def refresh_all(self, progress: Progress | None = None) -> None:
        """Refresh, and find every file that was copied in or taken away by hand. Raises StoreIOError for shards."""
        for _ in range(_LOOKS):
            try:
                with Look.open(self.place) as look:
                    self._compare(look, every=True)
                    self._refresh(len(look.names()))
            except Moved:
                continue
            except Unusable as problem:
                self.rebuild(str(problem), progress)
            return

    def rebuild(self, reason: str, progress: Progress | None = None, *, unfinished: bool = False) -> Outcome:
        """Make the index anew; where it is only `unfinished`, unless somebody finishes it."""
        outcome = rebuild(self.place, progress, unfinished=unfinished)
        if outcome is Outcome.DONE:
            self.rebuilt_because = reason
        elif outcome is Outcome.IMPOSSIBLE:
            self._no_rebuild_until = time.monotonic() + _RETRY_S
        return outcome

    def may_rebuild(self) -> bool:
        """Tell whether it is worth trying: not right after it could not be written."""
        return time.monotonic() >= self._no_rebuild_until


@contextmanager
def _sound(look: Look) -> Iterator[None]:
    """Blame the index, not the caller, for what goes wrong while it is read: a publisher may be at it."""
    try:
        yield
    except ShardStoreError:
        raise
    except Exception as error:
        if not look.stands():
            raise Moved from error
        if isinstance(error, CatalogueError):
            raise Unusable(f"the catalogue cannot be read: {error}") from error
        raise


class _Attempt:
    """What one call has tried so far."""

    def __init__(self, reader: Reader, *, refresh_first: bool, progress: Progress | None) -> None:
        self.moved = 0
        self.refresh_first = refresh_first
        self._reader = reader
        self._progress = progress
        self._may_write = refresh_first
        self._patience = Patience(reader.others)

    def cure(self, problem: Unusable) -> bool:
        """Do something about an index that cannot be used; tell whether looking again makes sense."""
        if self._may_write and self._reader.may_rebuild():
            outcome = self._reader.rebuild(str(problem), self._progress, unfinished=problem.unfinished)
            if outcome is not Outcome.BUSY:
                self.refresh_first = False
                return outcome is not Outcome.IMPOSSIBLE
        elif not problem.unfinished:
            return False
        # Somebody else is making or publishing it. Who is inside an update holds a shard's lock, and waits for nobody.
        return not inside_update() and self._patience.wait()
