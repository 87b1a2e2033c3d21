"""Making the index anew, in a new epoch: a new generation file, and a catalogue of every shard.

    (1) make a generation file, locked and without a seal, and its note files; give it its name
    (2) wait until every writer that gets a lock from now on has seen it (noter.GRACE_S)
    (3) read every shard under its lock, taken without waiting; note a busy one in the new generation
    (4) write the catalogue, seal it, delete what older epochs left

Absence is never believed from one listing: every directory is listed before its files are read and once more after,
and only what both listings show alike, and no note names, is taken as it was read. A file that both listings missed was
renamed over during each; at most one of these was done by a writer that did not know the new generation, for it does
so once in the time it holds the lock; the other one noted it.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import ExitStack
from enum import Enum
from typing import TYPE_CHECKING, Final

from shardstore._files.disk import link, make_directory
from shardstore._files.index import files, generation, notes
from shardstore._files.index.boot import boot_id
from shardstore._files.index.catalogue import Catalogue, CatalogueError, seal_of
from shardstore._files.index.generation import Head
from shardstore._files.index.look import IndexLock, Look, Unusable
from shardstore._files.index.noter import GRACE_S, discard
from shardstore._files.index.progress import told
from shardstore._files.index.rows import digest_of
from shardstore._files.index.shards import Busy
from shardstore._files.layout import FILE_MODE, PREFIXES, is_shard_name
from shardstore._files.locks.flock import try_lock
from shardstore.errors import ShardStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore._files.index.look import Place
    from shardstore._files.index.progress import Progress
    from shardstore._files.index.rows import Other, Row

_NO_FILE: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOTDIR})
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Outcome(Enum):
    """How a rebuild went."""

    DONE = "done"
    SOUND = "somebody else has finished it"
    BUSY = "somebody else is at it"
    IMPOSSIBLE = "no right or no room to write the index"


def rebuild(place: Place, progress: Progress | None = None, *, unfinished: bool = False) -> Outcome:
    """Make the index anew. `progress(done, total)` counts directories. Raises StoreNotFound, StoreIOError.

    `unfinished`: there is nothing wrong with it but that it has no seal; where it has one by now, it is left alone.
    """
    try:
        make_directory_of(place)
        old = _lock_old(place)
    except OSError:
        return Outcome.IMPOSSIBLE
    if old is Outcome.BUSY:
        return Outcome.BUSY
    with ExitStack() as locks:  # one that cannot be given back must not keep the other
        if isinstance(old, IndexLock):
            locks.enter_context(old)
            if unfinished and _is_sealed(place, old):
                return Outcome.SOUND
        known = _noted(place)
        epoch = files.new_epoch()
        try:
            lock = locks.enter_context(_begin_epoch(place, epoch, replace=old is not None))
        except FileExistsError:
            return Outcome.BUSY
        except OSError:
            return Outcome.IMPOSSIBLE
        return _Rebuild(place, epoch, lock.fd, known).run(progress)


def _is_sealed(place: Place, lock: IndexLock) -> bool:
    """Tell whether whoever was publishing has finished meanwhile. What else may be wrong the next look finds."""
    try:
        with Look(place, lock.fd, owned=False):
            return True
    except Unusable:
        return False


def make_directory_of(place: Place) -> None:
    """Make ROOT/index if it is not there, in place of whatever else has its name; never ROOT. Raises OSError."""
    try:
        make_directory(place.directory)
    except NotADirectoryError:
        os.unlink(place.directory)
        make_directory(place.directory)


def _lock_old(place: Place) -> IndexLock | Outcome | None:
    """Lock the generation file that is there; None where there is none. Raises OSError without the right to."""
    try:
        return IndexLock.take(place) or Outcome.BUSY
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        discard(place.directory, files.GENERATION)
        return None


def _noted(place: Place) -> set[str]:
    """Collect every name in any note file, so that a shard which the listings miss may still be found."""
    found: set[str] = set()
    for file in _listed(place.directory):
        name = files.parse(file)
        if name is not None and name.kind == "notes":
            found |= notes.salvage(place.directory, file, name.epoch, name.number, name.copy)
    return found


def _begin_epoch(place: Place, epoch: str, *, replace: bool) -> IndexLock:
    """Put a new generation file in place, locked. Raises FileExistsError where another was quicker, OSError."""
    temp = f"{place.directory}/{files.temp_name()}"
    fd = os.open(temp, _NEW, FILE_MODE)
    place.locked.add(fd)
    lock = IndexLock(place, fd)
    try:
        head = generation.make_head(Head(epoch, boot_id(), place.projection.digest))
        if os.write(fd, head) != len(head) or not try_lock(fd):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), temp)
        notes.create(place.directory, epoch, 0)
        if not replace and link(temp, place.path):
            os.unlink(temp)
        else:  # without links the last of several that begin at once wins; the others work for nothing
            os.rename(temp, place.path)
    except BaseException:
        lock.__exit__(None, None, None)
        notes.remove(place.directory, epoch, [0])
        discard(place.directory, os.path.basename(temp))
        raise
    return lock


class _Rebuild:
    """One rebuild. REQUIRES: the index lock, of an epoch without a seal."""

    def __init__(self, place: Place, epoch: str, fd: int, known: set[str]) -> None:
        self.place = place
        self.epoch = epoch
        self.fd = fd
        self.busy: list[str] = []
        self.directories: dict[str, int] = {}
        self.known: dict[str, set[str]] = {}
        for name in known:
            self.known.setdefault(name[:2], set()).add(name)

    def run(self, progress: Progress | None) -> Outcome:
        time.sleep(GRACE_S)
        try:
            catalogue = Catalogue(self.place.directory, self.epoch, mode="rwc")
            try:
                catalogue.create(self._batches(progress), self.directories)
            finally:
                catalogue.close()
            self._carry_over()
            seal = seal_of(catalogue.path, 0)
            generation.write_seal(self.fd, seal, self.epoch)
        except (CatalogueError, OSError) as error:
            if isinstance(error, ShardStoreError):
                raise
            return Outcome.IMPOSSIBLE
        sweep(self.place.directory, self.epoch)
        return Outcome.DONE

    def _carry_over(self) -> None:
        if self.busy:
            writer = notes.NoteWriter(self.place.directory, self.epoch, 0)
            try:
                for name in self.busy:
                    writer.append(name)
            finally:
                writer.close()

    def _batches(self, progress: Progress | None) -> Iterator[list[Row | Other]]:
        return (self._directory(prefix) for prefix in told(PREFIXES, progress))

    def _directory(self, prefix: str) -> list[Row | Other]:
        """Read the shards of one directory, in the order of their digests."""
        shards, known = self.place.shards, self.known.get(prefix, set())
        try:
            fd = os.open(self.place.layout.shard_path(prefix), os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except OSError:
            return self._one_by_one(shards.list_shards(prefix) | known)  # says what is wrong, if it is not just missing
        try:
            self.directories[prefix] = os.fstat(fd).st_mtime_ns
            before = shards.list_directory(prefix)
            names = [name for file in sorted(before) if is_shard_name(name := f"{prefix}/{file}")]
            found = {name: shards.read_quickly(name, fd) for name in names}
            after = shards.list_directory(prefix)
        finally:
            os.close(fd)
        doubtful = {name for name, row in found.items() if row is None}
        if before != after:
            moved = {f"{prefix}/{file}" for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
            doubtful |= {name for name in moved if is_shard_name(name)}
        doubtful |= known - found.keys()
        sure = [(name, row) for name, row in found.items() if name not in doubtful]
        self.busy += [name for name, row in sure if isinstance(row, Busy)]
        rows: list[Row | Other] = [row for _, row in sure if row is not None and not isinstance(row, Busy)]
        rows += self._one_by_one(doubtful)
        rows.sort(key=_digest)
        return rows

    def _one_by_one(self, names: set[str]) -> list[Row | Other]:
        rows: list[Row | Other] = []
        for name in names:
            row = self.place.shards.read_locked(name)
            if isinstance(row, Busy):
                self.busy.append(name)
            else:
                rows.append(row)
        return rows


def _digest(row: Row | Other) -> bytes:
    digest = getattr(row, "digest", None)
    return digest if digest is not None else digest_of(row.name)  # type: ignore[union-attr]


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []  # tidying and finding more names: the answer needs neither


def sweep(directory: str, epoch: str, base: int = 0) -> None:
    """Delete what older epochs and generations left in the index. REQUIRES: the index lock of `epoch`."""
    for file in _listed(directory):
        name = files.parse(file)
        if name is None or name.kind == "generation":
            continue
        if name.epoch == epoch and (name.kind == "catalogue" or name.number >= base):
            continue
        try:
            discard(directory, file)
        except OSError:
            continue
