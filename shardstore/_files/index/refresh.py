"""Refreshing: bringing the catalogue up to the present generation. By whoever lists, one at a time.

    (1) make the note files of the next generation, then advance to it
    (2) read the notes of every older generation back to the seal's
    (3) read each noted shard under its lock, taken without waiting; a busy one is noted again in the new generation
    (4) break the seal, publish in one transaction, seal again: the catalogue knows everything noted before (1)
    (5) delete the older notes

Dying anywhere loses nothing: before (4) the old seal stands with the old notes; inside it there is no seal; after it
the old notes are superfluous. Many changes are published in portions under the old seal, which is right as well:
rows may be newer than the seal says, never older.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from shardstore._files.index import generation, notes
from shardstore._files.index.catalogue import CatalogueError, seal_of
from shardstore._files.index.look import IndexLock, Look, Unusable
from shardstore._files.index.shards import Busy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardstore._files.index.look import Place
    from shardstore._files.index.rows import Other, Row

_PORTION: Final = 512  # shards read before their rows are published, for the memory they take


def refresh(place: Place, extra: Iterable[str] = (), directories: dict[str, int] | None = None) -> bool:
    """Refresh the index; tell whether it was done, which a busy lock or a missing right prevents.

    `extra`: shards to be read though they were not noted. `directories`: mtimes to be kept as compared.
    Raises Unusable, StoreIOError for a shard that cannot be read.
    """
    try:
        lock = IndexLock.take(place)
    except OSError:
        return False
    if lock is None:
        return False
    with lock, Look(place, lock.fd, owned=False) as look:
        if look.number >= generation.NUMBER_MAX:
            raise Unusable("the generations are used up")
        return _Refresh(place, look, lock.fd).run(extra, directories or {})


class _Refresh:
    """One refresh. REQUIRES: the index lock."""

    def __init__(self, place: Place, look: Look, fd: int) -> None:
        self.place = place
        self.look = look
        self.fd = fd
        self.number = look.number + 1

    def run(self, extra: Iterable[str], directories: dict[str, int]) -> bool:
        if not self._begin():
            return False
        names = iter(self.look.names().union(extra))
        portion = list(islice(names, _PORTION))
        while True:
            changes = self._read(portion)
            if changes is None:
                return False
            portion = list(islice(names, _PORTION))
            if not portion:
                break
            self._publish(changes, {}, self.look.seal.base)
        self._publish(changes, directories, self.number)
        notes.remove(self.place.directory, self.look.epoch, range(self.look.seal.base, self.number))
        return True

    def _begin(self) -> bool:
        """Begin the next generation; False where there is no room or no right for it."""
        try:
            notes.create(self.place.directory, self.look.epoch, self.number)
            generation.advance(self.fd, self.number)
        except OSError:
            return False
        return True

    def _read(self, names: list[str]) -> list[Row | Other] | None:
        """Read shards and note the busy ones again; None where that is not possible, and the old notes must stay."""
        found = [(name, self.place.shards.read_locked(name)) for name in names]
        busy = [name for name, row in found if isinstance(row, Busy)]
        if busy and not self._carry_over(busy):
            return None
        return [row for _, row in found if not isinstance(row, Busy)]

    def _carry_over(self, names: list[str]) -> bool:
        try:
            writer = notes.NoteWriter(self.place.directory, self.look.epoch, self.number)
            try:
                for name in names:
                    writer.append(name)
            finally:
                writer.close()
        except OSError:
            return False
        return True

    def _publish(self, changes: list[Row | Other], directories: dict[str, int], base: int) -> None:
        epoch, inode, connections = self.look.epoch, self.look.seal.inode, self.place.connections
        try:
            generation.break_seal(self.fd)
            catalogue = connections.take(epoch, inode, write=True)
            try:
                catalogue.publish(changes, directories)
            except BaseException:
                catalogue.close()
                raise
            connections.give_back(epoch, inode, catalogue)
            seal = seal_of(catalogue.path, base)
            if seal.inode != inode:
                raise Unusable("the catalogue was replaced while it was published")
            generation.write_seal(self.fd, seal, epoch)
        except (CatalogueError, OSError) as error:
            raise Unusable(f"the catalogue cannot be written: {error}") from error
