"""How the index reads shards: one at a time, under its lock taken without waiting, or without any lock.

Reading under the lock is what makes a row final: no writer that noted the shard in an older generation is still inside.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from shardstore import _codec as codec
from shardstore._files import disk
from shardstore._files.file import FILE_BYTES_MAX, read_file
from shardstore._files.index.progress import told
from shardstore._files.index.rows import Other, Row, row_of_bytes, row_of_own, row_of_state
from shardstore._files.layout import PREFIXES, is_shard_name, shard_name
from shardstore._files.locks.flock import try_lock, unlock
from shardstore.errors import CorruptShard, ShardStoreError, StoreNotFound, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore._files.index.progress import Progress
    from shardstore._files.index.rows import Projection
    from shardstore._files.layout import Layout
    from shardstore._files.shard import Shard
    from shardstore._journal.replay import Journal

_CHUNK: Final = 8192  # bytes; most shards are shorter
_ROWS_MAX: Final = 256  # rows of open shards, kept until the shard changes: some KB each at most
_NO_FILE: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})
_THIS_FILE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EIO})  # what may be wrong with one file alone


class Busy(NamedTuple):
    """A shard that a writer is inside of, or that this process may not read: its row is not known."""

    reason: str


class OpenShards(Protocol):
    """What a process has open of a store."""

    def cached(self, name: str) -> Shard | None:
        """Give a shard that is open."""

    def open_by_name(self, name: str) -> Shard | None:
        """Give a shard, opened if it was not, and keep it open; None where no key, or another file's, is in it."""


class _NoneOpen:
    def cached(self, _name: str) -> None:
        return None

    open_by_name = cached


class Shards:
    """Reads the shards of one store."""

    __slots__ = ("_open", "_root", "_rows", "layout", "locked", "projection")

    def __init__(self, layout: Layout, projection: Projection, open_shards: OpenShards | None = None) -> None:
        """`open_shards`: what this process has open; of these, only what was added is read."""
        self.layout = layout
        self._open = open_shards or _NoneOpen()
        self._root = layout.shard_path("")
        self._rows: dict[str, tuple[tuple[str, int, int], Row | Other]] = {}
        self.projection = projection
        self.locked: set[int] = set()  # descriptors that hold a lock, for the child of a fork to close

    def read(self, name: str, *, again: bool = False) -> Row | Other | Busy:
        """Read a shard without its lock: its state as of some moment during the call. Raises StoreIOError.

        `again`: keep it open, for it may soon be read again. Damage is believed only after a second read: a commit may
        be half way.
        """
        try:
            shard = self._open.open_by_name(name) if again else self._open.cached(name)
            if shard is not None:
                return self._row(name, shard.read())
            read, _ = read_file(self.layout.shard_path(name))
        except CorruptShard as error:
            return Other(name, "damaged", f"byte {error.offset}: {error.reason}")
        except OSError as error:
            if error.errno in _THIS_FILE:
                return Busy(str(error))
            raise
        return row_of_state(name, read, self.projection)

    def fetch(self, row: Row, names: tuple[str, ...]) -> tuple[Row, dict[str, Any]] | None:
        """Read a session anew for the whole values of some fields; None where it is gone, or damaged, by now."""
        name = shard_name(row.key)
        try:
            read, _ = read_file(self.layout.shard_path(name))
        except CorruptShard:
            return None
        fresh, state = row_of_state(name, read, self.projection), read.state
        if isinstance(fresh, Other) or state.fields is None:
            return None
        return fresh, {field: codec.loads(state.fields[field]) for field in names if field in state.fields}

    def read_locked(self, name: str) -> Row | Other | Busy:
        """Read a shard under its lock, or give Busy where the lock is not free right now. Raises StoreIOError."""
        return self._read_resident(name) or self._read_file(name)

    def _read_file(self, name: str) -> Row | Other | Busy:
        path = self._root + name
        while True:
            try:
                fd = os.open(path, disk.READ)
            except FileNotFoundError:
                return Other(name, "absent", "no file")
            except OSError as error:
                return self._unreadable(name, error)
            self.locked.add(fd)
            try:
                if not try_lock(fd):
                    return Busy("in use")
                data = _content(path, fd)
                unlock(fd)
            except OSError as error:
                return self._unreadable(name, error)
            finally:
                self.locked.discard(fd)
                os.close(fd)
            if isinstance(data, str):
                return Other(name, "damaged", data)
            if data is not None:
                return row_of_bytes(name, data, self.projection)

    def _read_resident(self, name: str) -> Row | Other | None:
        """Read a shard that this process has open, under its lock; None where it is to be read in the other way."""
        shard = self._open.cached(name)
        try:
            read = None if shard is None else shard.read_if_free()
        except (CorruptShard, OSError):
            return None
        return None if read is None else self._row(name, read)

    def _row(self, name: str, read: Journal) -> Row | Other:
        """Make the row of a shard that this process has open; the same one as before where nothing has changed."""
        identity = (
            read.state.version,
            read.state.rev,
            read.end,
        )  # not the state, which would be kept with all its fields
        known = self._rows.get(name)
        if known is not None and known[0] == identity:
            return known[1]
        row = row_of_own(name, read, self.projection)
        if known is None and len(self._rows) >= _ROWS_MAX:
            self._rows.clear()
        self._rows[name] = (identity, row)
        return row

    def read_quickly(self, name: str, directory: int) -> Row | Other | Busy | None:
        """Read as read_locked, but leave it to the caller to prove that the file is the one that its name names.

        `directory` is open and holds the file. None where it has to be read in the other way.
        """
        try:
            fd = os.open(name[3:], disk.READ, dir_fd=directory)
        except OSError:
            return None
        self.locked.add(fd)
        try:
            if not try_lock(fd):
                return Busy("in use")
            data = os.read(fd, _CHUNK)
            unlock(fd)  # closing alone would leave it to a child that was forked meanwhile
        except (OSError, ShardStoreError):
            return None
        finally:
            self.locked.discard(fd)
            os.close(fd)
        return row_of_bytes(name, data, self.projection) if 0 < len(data) < _CHUNK else None

    def _unreadable(self, name: str, error: OSError) -> Other | Busy:
        """Say what a file is that cannot be read. The fault of one file hides no other from the list."""
        if error.errno in _NO_FILE:
            return Other(name, "damaged", "byte 0: not a regular file (a link, a directory or a device)")
        if error.errno not in _THIS_FILE:
            raise_io_error(error, "reading a shard", self.layout.shard_path(name))
        return Busy(str(error))

    def list_directory(self, prefix: str) -> dict[str, int]:
        """Give the files in one directory, each with its inode. Raises StoreNotFound, StoreIOError."""
        path = self.layout.shard_path(prefix)
        try:
            with os.scandir(path) as entries:
                return {entry.name: entry.inode() for entry in entries}
        except FileNotFoundError:
            if not self.layout.marker.exists():
                raise StoreNotFound(str(self.layout.root)) from None
            return {}
        except OSError as error:
            raise_io_error(error, "listing the shards", path)

    def list_shards(self, prefix: str) -> set[str]:
        """Give the names of the shards in one directory. Raises StoreNotFound, StoreIOError."""
        return {name for file in self.list_directory(prefix) if is_shard_name(name := f"{prefix}/{file}")}

    def names(self, noted: set[str], progress: Progress | None = None) -> Iterator[set[str]]:
        """Yield the names of every shard there may be, a directory at a time; `noted` are some that are known.

        A listing does not prove absence: on some file systems it misses files that are renamed over meanwhile. Each
        directory is listed twice.
        """
        by_prefix: dict[str, set[str]] = {}
        for name in noted:
            by_prefix.setdefault(name[:2], set()).add(name)
        for prefix in told(PREFIXES, progress):
            yield self.list_shards(prefix) | self.list_shards(prefix) | by_prefix.get(prefix, set())


def _content(path: str, fd: int) -> bytes | str | None:
    """Read a locked file whole, or say why it is no shard; None where the path names another file by now."""
    status = os.fstat(fd)
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):
        return None
    if not stat.S_ISREG(status.st_mode):
        return "byte 0: not a regular file"
    if status.st_size > FILE_BYTES_MAX:
        return f"byte 0: {status.st_size:,} bytes, more than any shard can have"
    return disk.read_all(fd, 0, status.st_size)
