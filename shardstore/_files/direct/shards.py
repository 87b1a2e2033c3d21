"""How the index reads shards: one at a time, under its lock taken without waiting, or without any lock.

Reading under the lock makes a row final: no writer that marked the shard before is still inside.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore._files import disk
from shardstore._files.direct.reading import reading
from shardstore._files.direct.rows import NO_FILE, Busy, Found, NoSession, SessionRow, ShardProjection, fingerprint_of
from shardstore._files.file import FILE_BYTES_MAX, read_file
from shardstore._files.layout import PREFIXES, is_shard_name
from shardstore._files.locks.flock import try_lock, unlock
from shardstore._journal.replay import EMPTY, Journal, replay
from shardstore._progress import track
from shardstore.errors import CorruptShard, StoreNotFound, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from shardstore._files.layout import Layout
    from shardstore._model import State
    from shardstore._progress import Progress

_KEPT_BYTES_MAX: Final = 32 << 20  # of entries of changed shards, kept until they change
_KEPT_OVERHEAD: Final = 2048  # bytes, about, that keeping one takes beside its entry
_CRC: Final = slice(len(b'{"crc":"'), len(b'{"crc":"9f1c2a3b'))
_NOT_REGULAR: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})
_THIS_FILE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EIO})  # what may be wrong with one file alone
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class _Kept(NamedTuple):
    """A journal as it was read last. The next time, only added records have to be read."""

    found: SessionRow | NoSession
    journal: Journal
    start: int  # of the last record, whose crc shows that the journal is the same up to there
    mtime: int


class _Bytes(NamedTuple):
    """The part of a file that was read."""

    kept: _Kept | None  # the journal in front of it
    data: bytes
    mtime: int
    fingerprint: int


class ShardReader:
    """Reads the shards of one store."""

    def __init__(self, layout: Layout, projection: ShardProjection, free_descriptors: Callable[[], int]) -> None:
        self.layout = layout
        self.projection = projection
        self._free_descriptors = free_descriptors
        self._root = layout.shard_path("")
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._keeping = threading.Lock()
        self._locked: set[int] = set()  # descriptors that may hold a lock, for the child of a fork to close

    def read(self, name: str, *, keep: bool = True) -> Found:
        """Read a shard without its lock: its state as of some moment during the call. Raises StoreIOError.

        keep: what it holds is kept, so the next time only what was added has to be read.
        """
        return self._read(name, locked=False, keep=keep)[0]

    def state(self, name: str, *, keep: bool = True) -> tuple[Found, State]:
        """Read a shard without its lock; return its session's committed state as well. Raises StoreIOError."""
        found, journal = self._read(name, locked=False, keep=keep)
        return found, journal.state

    def read_locked(self, name: str) -> Found:
        """Read a shard under its lock, or return Busy where the lock is not free right now. Raises StoreIOError."""
        return self._read(name, locked=True, keep=False)[0]

    def _read(self, name: str, *, locked: bool, keep: bool) -> tuple[Found, Journal]:
        """Read a shard's file, whichever its name leads to by then."""
        try:
            read = self._load(name, locked=locked)
            if not isinstance(read, _Bytes):
                return read, EMPTY
            try:
                found, journal = self._understand(name, read, keep=keep)
            except CorruptShard as error:
                return NoSession(name, "damaged", f"byte {error.offset}: {error.reason}", read.fingerprint), EMPTY
            return (found._replace(fingerprint=read.fingerprint), journal) if locked else (found, journal)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(self._root + name)):  # whether it was there nobody knows
                return Busy(name, "unreadable", "its directory is gone"), EMPTY
            return NoSession(name, "absent", NO_FILE), EMPTY
        except OSError as error:
            return self._unreadable(name, error), EMPTY

    def _load(self, name: str, *, locked: bool) -> _Bytes | NoSession | Busy:
        """Read the bytes of a shard's file that are not known. Raises OSError."""
        while True:
            fd = self._open(name)
            self._locked.add(fd)
            try:
                read = self._read_locked(name, fd) if locked else self._bytes(name, fd, os.fstat(fd))
            finally:
                if fd in self._locked:  # else a fork in the middle of this has closed it
                    self._locked.discard(fd)
                    os.close(fd)
            if read is not None:
                return read

    def _read_locked(self, name: str, fd: int) -> _Bytes | NoSession | Busy | None:
        """Read an open file under its lock; None where its name leads to another one, for a writer replaced it."""
        path = self._root + name
        with reading(path):
            if not try_lock(fd):
                return Busy(name, "in use", "a writer is inside")
            try:
                status, named = os.fstat(fd), os.lstat(path)
                if (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):
                    return None
                return self._bytes(name, fd, status)
            finally:
                unlock(fd)  # closing alone would leave it to a child that was forked meanwhile

    def _bytes(self, name: str, fd: int, status: os.stat_result) -> _Bytes | NoSession:
        """Read the unknown part of an open file. Raises OSError."""
        if not stat.S_ISREG(status.st_mode):
            return NoSession(name, "damaged", "byte 0: not a regular file", fingerprint_of(status))
        if status.st_size > FILE_BYTES_MAX:
            reason = f"byte 0: {status.st_size:,} bytes, more than any shard can have"
            return NoSession(name, "damaged", reason, fingerprint_of(status))
        kept = self._kept.get(name)
        added = None if kept is None else _added(fd, kept, status)
        if added is not None:
            return _Bytes(kept, added, status.st_mtime_ns, fingerprint_of(status))
        return _Bytes(None, disk.read_all(fd, 0, status.st_size), status.st_mtime_ns, fingerprint_of(status))

    def _understand(self, name: str, read: _Bytes, *, keep: bool) -> tuple[SessionRow | NoSession, Journal]:
        """Return what a shard holds. Raises CorruptShard, StoreIOError."""
        kept, data, mtime, _ = read
        if kept is not None and not data:
            return kept.found, kept.journal
        base = EMPTY if kept is None else kept.journal
        replayed = replay(data, base)
        journal = replayed.journal
        if replayed.damage is not None or (kept is not None and journal is base):
            # Without the lock a commit may be half way, and a kept journal may have been changed in its middle.
            journal, _ = read_file(self._root + name)
            return self.projection.of_journal(name, journal), journal
        found = self.projection.of_journal(name, journal)
        if keep or kept is not None:
            self._keep(name, found, journal, data[: journal.end - base.end], mtime)
        return found, journal

    def _open(self, name: str) -> int:
        path = self._root + name
        return disk.with_descriptor(lambda: os.open(path, disk.READ), self._free_descriptors)

    def _keep(self, name: str, found: SessionRow | NoSession, journal: Journal, data: bytes, mtime: int) -> None:
        """Keep a journal that was read, within bounds. `data`: ends where its last record does."""
        start = data.rfind(b"\n", 0, -1) + 1
        kept, weight = _Kept(found, journal, journal.end - len(data) + start, mtime), _weight(journal)
        if not self._keeping.acquire(blocking=False):
            return  # another thread is here, or this one, beneath a signal handler: nothing has to be kept
        try:
            before = self._kept.pop(name, None)
            if before is not None:
                self._kept_bytes -= _weight(before.journal)
            if not data or weight > _KEPT_BYTES_MAX:
                return
            self._kept[name] = kept
            self._kept_bytes += weight
            while self._kept_bytes > _KEPT_BYTES_MAX:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= _weight(dropped.journal)
        finally:
            self._keeping.release()

    def _unreadable(self, name: str, error: OSError) -> NoSession | Busy:
        """Return what a file is that cannot be read. The fault of one file hides no other from a list."""
        if error.errno in _NOT_REGULAR:
            reason = "byte 0: not a regular file (a link, a directory or a device)"
            return NoSession(name, "damaged", reason, self.fingerprint(name) or 0)
        if error.errno == errno.ENOTDIR:
            return NoSession(name, "damaged", "byte 0: something else stands in the place of its directory")
        if error.errno not in _THIS_FILE:
            raise_io_error(error, "reading a shard", self.layout.shard_path(name))
        return Busy(name, "unreadable", str(error))

    def list_directory(self, prefix: str, known: Container[str] = ()) -> dict[str, int]:
        """Return the shards of one directory, each with its inode; `known`: names of shards.

        Raises StoreNotFound, StoreIOError.
        """
        path = self.layout.shard_path(prefix)
        try:
            with os.scandir(path) as entries:
                found = {f"{prefix}/{entry.name}": entry.inode() for entry in entries}
        except FileNotFoundError:
            if not disk.exists(self.layout.marker):
                raise StoreNotFound(str(self.layout.root)) from None
            return {}
        except OSError as error:
            raise_io_error(error, "listing the shards", path)
        return {name: inode for name, inode in found.items() if name in known or is_shard_name(name)}

    def fingerprints(self, prefix: str) -> dict[str, int]:
        """Return the shards of one directory, each with its file's fingerprint. Raises StoreNotFound, StoreIOError."""
        found = ((name, self.fingerprint(name)) for name in self.list_directory(prefix))
        return {name: fingerprint for name, fingerprint in found if fingerprint is not None}

    def fingerprint(self, name: str) -> int | None:
        """Return the fingerprint of a shard's file; None where there is none. Raises StoreIOError."""
        try:
            return fingerprint_of(os.lstat(self._root + name))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise_io_error(error, "looking at a shard", self._root + name)

    def names(self, marked: set[str], progress: Progress | None = None) -> Iterator[set[str]]:
        """Yield the names of every shard there may be, a directory at a time; `marked` are some that are known.

        A listing does not prove absence: on some file systems it misses files that are renamed over meanwhile. Each
        directory is listed twice.
        """
        by_prefix: dict[str, set[str]] = {}
        for name in marked:
            by_prefix.setdefault(name[:2], set()).add(name)
        for prefix in track(PREFIXES, progress):
            yield {*self.list_directory(prefix), *self.list_directory(prefix), *by_prefix.get(prefix, ())}

    def after_fork(self) -> None:
        """Close, in a forked child, the descriptors whose locks are the parent's, and forget what was kept."""
        self._keeping = threading.Lock()
        self._kept, self._kept_bytes = OrderedDict(), 0
        for fd in self._locked:
            os.close(fd)
        self._locked = set()


def _weight(journal: Journal) -> int:
    return journal.state.entry_bytes + _KEPT_OVERHEAD


def _added(fd: int, kept: _Kept, status: os.stat_result) -> bytes | None:
    """Return what a file holds behind a kept journal; None where the file no longer begins with that journal."""
    end = kept.journal.end
    if os.pread(fd, _CRC.stop, kept.start)[_CRC] != kept.journal.crc:
        return None
    data = os.pread(fd, 2, end - 1)
    if data in (b"\n", b"\n\n"):
        # Changed, though nothing was added: by hand, so it is read again from the start.
        return b"" if status.st_mtime_ns == kept.mtime else None
    return disk.read_all(fd, end, status.st_size - end) if data.startswith(b"\n") else None
