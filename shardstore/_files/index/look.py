"""Looking at the index: whether its catalogue may be believed, and what has changed since.

The freshness rule. The catalogue is believed if
  - the generation file has a whole head of this format, of this start of the machine, for these settings;
  - it has a seal, and the catalogue file still looks as the seal says;
  - every note file from the seal's generation to the present one is there, twice, and holds nothing but notes.
Then every session has its row there, except those of the shards that these notes name. Anything else in index/ is
never an error and never an answer: every shard is read instead.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from shardstore._files.index import generation, notes
from shardstore._files.index.boot import boot_id
from shardstore._files.index.catalogue import Connections, look_at
from shardstore._files.index.files import GENERATION, catalogue_name
from shardstore._files.index.shards import OpenShards, Shards
from shardstore._files.locks.flock import try_lock, unlock

if TYPE_CHECKING:
    from types import TracebackType

    from shardstore._files.index.generation import Head, Seal
    from shardstore._files.index.rows import Projection
    from shardstore._files.layout import Layout

_LOOKS: Final = 3  # while a publisher changes seal and catalogue, one after the other


class Unusable(Exception):
    """The index cannot answer. `unfinished`: perhaps only because somebody is publishing it right now."""

    def __init__(self, reason: str, *, unfinished: bool = False) -> None:
        self.unfinished = unfinished
        super().__init__(reason)


class Moved(Exception):
    """The index was refreshed while it was looked at: look again."""


class Place:
    """What every part of the index needs to know of its store."""

    __slots__ = ("connections", "directory", "layout", "locked", "path", "projection", "shards")

    def __init__(self, layout: Layout, projection: Projection, open_shards: OpenShards | None = None) -> None:
        self.layout = layout
        self.projection = projection
        self.directory = os.fspath(layout.index)
        self.path = f"{self.directory}/{GENERATION}"
        self.shards = Shards(layout, projection, open_shards)
        self.connections = Connections(self.directory)
        self.locked = self.shards.locked

    def after_fork(self) -> None:
        """Close, in a forked child, what would keep the parent's locks alive."""
        while self.locked:
            os.close(self.locked.pop())
        self.connections.after_fork()

    def close(self) -> None:
        """Close what is open and not in use."""
        self.connections.close()


class Look:
    """The index as it was at one moment; it can tell later whether it still is. A context manager."""

    __slots__ = ("_fd", "_owned", "_page", "epoch", "number", "place", "seal")

    def __init__(self, place: Place, fd: int, *, owned: bool = True) -> None:
        """Look through an open generation file, which is closed here if `owned`. Raises Unusable."""
        self.place = place
        self._fd = fd
        self._owned = owned
        try:
            head = self._read()
        except OSError as error:
            self.close()
            raise Unusable(f"the index cannot be read: {error}") from error
        except BaseException:
            self.close()
            raise
        self.epoch = head.epoch

    @classmethod
    def open(cls, place: Place) -> Self:
        """Open the generation file and look. Raises Unusable."""
        try:
            return cls(place, generation.open_generation(place.path, write=False))
        except FileNotFoundError:
            raise Unusable("there is no index") from None
        except OSError as error:
            raise Unusable(f"the index cannot be read: {error}") from None

    def _read(self) -> Head:
        for _ in range(_LOOKS):
            self._page = generation.read_page(self._fd)
            self.number = generation.read_number(self._fd)
            head = generation.parse_head(self._page)
            if head is None:
                raise Unusable("the generation file is damaged, or of another version")
            if head.boot != boot_id():
                raise Unusable("the machine was started again since")
            if head.settings != self.place.projection.digest:
                raise Unusable("it was made for other index_fields")
            seal = generation.parse_seal(self._page, head.epoch)
            if seal is None:
                raise Unusable("the catalogue was never finished", unfinished=True)
            if seal.base > self.number:
                raise Unusable("the generation file was cut off")
            self.seal: Seal = seal
            if self._catalogue_is(head.epoch, seal):
                return head
            if not self._page_changed():
                break
        raise Unusable("the catalogue was changed by somebody else")

    def _catalogue_is(self, epoch: str, seal: Seal) -> bool:
        try:
            return look_at(f"{self.place.directory}/{catalogue_name(epoch)}", seal.base) == seal
        except OSError:
            return False

    def names(self) -> set[str]:
        """Return the shards that may have changed since the catalogue. Raises Moved, Unusable."""
        found: set[str] = set()
        try:
            for number in range(self.seal.base, self.number + 1):
                found |= notes.read(self.place.directory, self.epoch, number)
        except (notes.NotesDamaged, OSError) as error:
            if self._page_changed():
                raise Moved from None
            raise Unusable(str(error)) from None
        return found

    def stands(self) -> bool:
        """Tell whether nothing was published since, so that what the catalogue told in between is true."""
        return not self._page_changed() and self._catalogue_is(self.epoch, self.seal)

    def _page_changed(self) -> bool:
        try:
            return generation.read_page(self._fd) != self._page
        except OSError:
            return True

    def close(self) -> None:
        """Close the generation file."""
        if self._owned:
            os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class IndexLock:
    """The lock of whoever refreshes or rebuilds the index. Never waited for. A context manager."""

    __slots__ = ("_place", "fd")

    def __init__(self, place: Place, fd: int) -> None:
        """Stand for the lock of the open file `fd`. REQUIRES: it is held."""
        self._place = place
        self.fd = fd

    @classmethod
    def take(cls, place: Place) -> IndexLock | None:
        """Take it if it is free right now. Raises OSError where there is nothing to lock, or no right to."""
        fd = generation.open_generation(place.path, write=True)
        place.locked.add(fd)
        lock = cls(place, fd)
        try:
            if try_lock(fd):
                if _is_named(fd, place.path):
                    return lock
                unlock(fd)
        except BaseException:
            lock._close()
            raise
        lock._close()
        return None

    def _close(self) -> None:
        self._place.locked.discard(self.fd)
        with suppress(OSError):  # it is closed all the same
            os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            unlock(self.fd)
        finally:
            self._close()


def _is_named(fd: int, path: str) -> bool:
    status = os.fstat(fd)
    try:
        named = os.stat(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return (named.st_dev, named.st_ino) == (status.st_dev, status.st_ino)
