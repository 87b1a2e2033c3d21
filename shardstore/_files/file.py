"""One open journal file: its descriptor, and the journal read through it.

The remembered journal lives and dies with the descriptor: once nobody holds an inode, its number is used again, and
"the same inode" proves nothing. While it is held, a journal only grows or is replaced. So one read at its logical end
shows whether memory and disk agree. That read is the validation; no path skips it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import weakref
from typing import Final, NamedTuple

from shardstore import _events as events
from shardstore._files import disk
from shardstore._files.locks.flock import KernelLock, descriptors
from shardstore._files.locks.identity import FileIdentity, identity_of
from shardstore._files.synced import SyncedFile
from shardstore._journal.replay import EMPTY, Journal, read_records, replay
from shardstore.errors import CorruptShard, ShardStoreError, raise_io_error

FILE_BYTES_MAX: Final = 1 << 30
_LONG_BYTES: Final = 512  # of a record that is not durable, which nothing would gain from space behind it
SPACE_MIN, SPACE_STEP = 4096, 65536  # bytes: the file grows to 4 KB, doubles to 64 KB, then grows by 64 KB
_CHECK_BYTES: Final = 1024  # in front of the logical end, that must still be there: of most records all, its crc too
_WRITE_NS: Final = 1_000_000_000  # nanoseconds that a file's time may lie before the end of our own write
_FEW_BYTES: Final = 8192  # the space behind a journal is up to 64 KB, and need not be read with each record
CHECK_S: Final = 0.01  # seconds between a reader's checks of the mtime: each makes the next commit dearer (identity.py)
HOT_NS: Final = 5_000_000  # nanoseconds after the newest commit that it knows, within which a writer does not check it
_READER_RETRIES: Final = 5  # a reader may look while a commit is half way; what stays wrong is damage
_NEVER: Final = -(1 << 96)  # nanoseconds: before any mtime, also one before 1970
_READ_ONLY: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

open_files: weakref.WeakSet[JournalFile] = weakref.WeakSet()


class Known(NamedTuple):
    """The journal as last read or written. Replaced whole, so that threads see one or the other."""

    journal: Journal = EMPTY
    tail_check: bytes = b"\n"  # the last bytes of the journal, and the newline of the space behind them
    mtime: int = _NEVER  # nanoseconds: the newest that our own reads and writes explain
    torn: bytes = b""  # what follows the journal, and is no record


_UNREAD: Final = Known()
_new = tuple.__new__


def size_with_space(end: int) -> int:
    """Return the size that a file grows to whose journal has `end` bytes."""
    if end <= SPACE_STEP:
        return max(SPACE_MIN, 1 << (end - 1).bit_length())
    return -(-end // SPACE_STEP) * SPACE_STEP


class JournalFile(SyncedFile):
    """A descriptor of a shard's file.

    Whoever closes it has to see to it that no other thread is using it; everything else may be called at once from
    several threads, one of which may be a writer.
    """

    __slots__ = ("__weakref__", "_check_due", "device", "inode", "known", "links", "lock", "size", "torn", "writable")

    def __init__(self, lock: KernelLock, fd: int, path: str, status: os.stat_result, *, writable: bool) -> None:
        super().__init__(fd, path)
        self.lock = lock  # it closes the descriptor, and does so once
        self.writable = writable
        self.links, self.inode, self.size, self.device = identity_of(status)
        self.known = _UNREAD
        self.torn = b""  # what the writer that is inside found behind the journal; no reader sets it
        self._check_due = 0.0  # time.monotonic from which on the mtime is checked again
        open_files.add(self)

    @classmethod
    def open(cls, path: str, *, write: bool, create: bool = False) -> JournalFile | None:
        """Open a shard's file; return None if there is none. Raises CorruptShard if it is no regular file."""
        try:
            with descriptors:
                disk.check_directory(os.path.dirname(path))
                fd, writable = _open(path, write=write, create=create)
                return cls._from_fd(fd, path, writable=writable)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise CorruptShard(path, 0, "not a regular file (a link, a directory or a device)") from error
            raise_io_error(error, "opening a shard", path)

    @classmethod
    def create_temp(cls, temp: str, path: str) -> JournalFile:
        """Create the file that is to replace the one at `path`, under the name `temp`."""
        with descriptors:
            try:
                fd = disk.create(temp)
            except OSError as error:
                raise_io_error(error, "rewriting a shard", path)
            try:
                return cls._from_fd(fd, path, writable=True)
            except OSError as error:
                _discard(temp)
                raise_io_error(error, "rewriting a shard", path)

    @classmethod
    def _from_fd(cls, fd: int, path: str, *, writable: bool) -> JournalFile:
        lock = KernelLock(fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise CorruptShard(path, 0, "not a regular file")
            return cls(lock, fd, path, status, writable=writable)
        except BaseException:
            lock.close()
            raise

    @property
    def journal(self) -> Journal:
        """The journal as it was read or written last."""
        return self.known.journal

    def close(self) -> None:
        """Close the descriptor, and with it the lock. A second call does nothing."""
        self.fd = -1
        self.lock.close()

    def __del__(self) -> None:
        """Close the descriptor of a shard that was evicted while in use."""
        if hasattr(self, "lock"):  # not where `__init__` was interrupted
            self.close()

    def after_fork(self) -> None:
        """Close a descriptor inherited by a forked child: unlocking it would drop the parent's lock."""
        self.fd = -1
        self.lock.after_fork()

    def is_named(self, found: FileIdentity) -> bool:
        """Return whether this is still the file that its path names, by a fresh look at the path.

        Not after a failed sync: then it is to be opened again, and read from the disk.
        """
        _, inode, _, device = found
        return inode == self.inode and device == self.device and not self.failed

    # Reading

    def refresh(self, *, locked: bool) -> Journal:
        """Return the journal on the disk: the remembered one if it is still true, else with the new records applied.

        With the lock, a torn tail is left in `torn`. Without it a record may be half written: what looks damaged is
        read again before it is believed. Raises CorruptShard, StoreIOError.
        """
        if locked:
            self.torn = b""
        known = self.known
        journal, check, seen, torn = known
        try:
            found = os.pread(self.fd, len(check), journal.end + 1 - len(check))
            # abs: a clock that was set back is no reason not to look for hours
            fresh = abs(time.time_ns() - seen) < HOT_NS if locked else time.monotonic() < self._check_due
            if found == check and fresh and not torn:
                return journal
            return self._changed(known, found, locked=locked)
        except OSError as error:
            raise_io_error(error, "reading a shard", self.path)

    def _changed(self, known: Known, found: bytes, *, locked: bool) -> Journal:
        """Re-read the journal: either the bytes at its end changed, or it is time to check the mtime.

        The mtime proves nothing while it stands still. But where it moved, back too, though nothing was appended,
        somebody wrote into the file by hand, or put a backup into it, and it is read again from the start.
        """
        journal, check, seen, torn = known
        due = time.monotonic() + CHECK_S
        mtime = os.fstat(self.fd).st_mtime_ns
        if len(check) > 1 and found.startswith(check[:-1]):
            if len(found) == len(check) and found != check:
                return self._read_on(journal, mtime) or self._reread(journal, locked=locked)  # the new lines will do
            if 0 <= seen - mtime <= _WRITE_NS and not (torn and locked):
                self._check_due = due
                return journal  # nothing changed; where `found` is short, there is no space behind the journal
        return self._reread(EMPTY, locked=locked)

    def _read_on(self, journal: Journal, mtime: int) -> Journal | None:
        """Apply the few records that others have appended since; None where there is more to it.

        `mtime`: of the file, looked at before this.
        """
        data = os.pread(self.fd, _FEW_BYTES, journal.end)
        if b"\n\n" not in data:
            return None
        after, why = read_records(data, journal)
        if why or after is journal:
            return None
        self.known = Known(after, data[: after.end - journal.end][-_CHECK_BYTES:] + b"\n", mtime)
        return after

    def _reread(self, known: Journal, *, locked: bool) -> Journal:
        """Read the records after `known`, or all, as often as it takes to tell damage from a commit under way."""
        for attempt in range(2 if locked else _READER_RETRIES):
            status = os.fstat(self.fd)
            if status.st_size > FILE_BYTES_MAX:
                raise CorruptShard(self.path, 0, f"{status.st_size:,} bytes, more than any shard can have")
            data = disk.read_all(self.fd, known.end, status.st_size - known.end)
            found = replay(data, known)
            if found.damage is None:
                journal = found.journal
                added = data[: journal.end - known.end][-_CHECK_BYTES:]
                check = added + b"\n" if added or known is EMPTY else self.known.tail_check
                self.known = Known(journal, check, status.st_mtime_ns, found.tail)
                if locked:
                    self.size, self.torn = status.st_size, found.tail
                return journal
            known = EMPTY
            time.sleep(0.0005 * attempt)
        assert found.damage is not None
        self._distrust()
        damage, key = found.damage, found.journal.state.key
        raise events.damaged(CorruptShard(self.path, damage.offset, damage.reason, key))

    def _distrust(self) -> None:
        """Have the file read anew before its next use. The journal stays: a writer that is inside writes behind it."""
        self._check_due = 0.0
        self.known = Known(self.known.journal, b"")

    # Writing. REQUIRES, for everything below: the caller holds the lock, and `journal` is what it read under it.

    def append(self, line: bytes, after: Journal, *, durable: bool = True) -> None:
        """Write one record, which leads to the journal `after`. Raises StoreFull, StoreIOError: nothing was changed.

        Space is written for later records, whose syncs are then cheap; not behind a long one that is not durable.
        """
        need = after.end
        end = need - len(line)
        if need <= self.size:
            data = line
        elif durable or len(line) < _LONG_BYTES:
            data = line.ljust(size_with_space(need) - end, b"\n")
        else:
            data = line + b"\n"
        try:
            written = os.pwrite(self.fd, data, end)
            if written < len(line):
                disk.write_all(self.fd, line[written:], end + written)
        except OSError as error:
            self._cut_back(end)
            raise_io_error(error, "writing a shard", self.path)
        if need > self.size:
            self.size = max(need, end + written)
        self.known = _new(Known, (after, line[-_CHECK_BYTES:] + b"\n", time.time_ns(), b""))

    def _cut_back(self, end: int) -> None:
        """Take back a write that failed half way; a reader has seen at most a torn tail."""
        try:
            os.ftruncate(self.fd, end)
            self.size = os.fstat(self.fd).st_size
        except OSError:
            # The torn tail stays, which every reader steps over and the next writer repairs.
            self._distrust()

    def repair_tail(self, keep_as: str, end: int) -> None:
        """Keep a copy of the torn tail in the file `keep_as` and cut it off at `end`. Readers see either.

        `end` is that of the caller's journal. `known` may be a late reader's, who saw the newest commit half written.
        A file with a second name, somebody's backup, stays as it is: the caller replaces or removes its own name.
        """
        try:
            disk.add_directory(os.path.dirname(keep_as))
            fd = disk.create(keep_as)
            try:
                disk.write_all(fd, self.torn, 0)
                disk.sync(fd)
            finally:
                os.close(fd)
            disk.sync_directory(os.path.dirname(keep_as))
            if self.links == 1:
                os.ftruncate(self.fd, end)
                self.size = end
        except OSError as error:
            raise_io_error(error, "keeping a torn commit in quarantine", keep_as)
        self.torn = b""
        self.known = self.known._replace(torn=b"")

    def trim(self, end: int) -> int:
        """Release the space behind the caller's journal, which has `end` bytes; return the bytes freed.

        Not where the file has a second name: somebody's backup is never written through.
        """
        if self.links > 1:
            return 0
        freed = self.size - end
        try:
            os.ftruncate(self.fd, end)
        except OSError as error:
            raise_io_error(error, "trimming a shard", self.path)
        self.size = end
        return freed

    def replace(self, temp: str, line: bytes, after: Journal, path: str | None = None) -> JournalFile:
        """Put a journal of one record, which leads to `after`, in this one's place; return its file, locked.

        `path`: of another file whose place it takes instead, with the owner and mode of this one; then `line` is a
        whole journal.

        Always synced, in relaxed mode too: history that was safe stays safe. The new file is locked before it
        gets the name, or another writer would be inside before this one is finished. REQUIRES: `sync_name` follows.
        """
        path = self.path if path is None else path
        fresh = JournalFile.create_temp(temp, path)
        try:
            disk.copy_access(self.fd, fresh.fd)
            fresh.fill(line, after)
            os.rename(temp, path)
        except BaseException as error:
            fresh.close()
            _discard(temp)
            if isinstance(error, OSError) and not isinstance(error, ShardStoreError):
                raise_io_error(error, "rewriting a shard", path)
            raise
        return fresh

    def fill(self, line: bytes, after: Journal) -> None:
        """Lock a new file and write a journal of one record to it, on the medium. Raises OSError."""
        if not self.lock.try_acquire():
            raise OSError(errno.EAGAIN, "somebody has locked a temp of our own", self.path)
        disk.write_all(self.fd, line.ljust(size_with_space(len(line)), b"\n"), 0)
        disk.sync(self.fd)
        self.known = Known(after, line[-_CHECK_BYTES:] + b"\n", time.time_ns())
        self.synced = self.reach = len(line)
        self.size = size_with_space(len(line))


def _open(path: str, *, write: bool, create: bool) -> tuple[int, bool]:
    """Open for writing; where only reading is asked for and allowed, for reading."""
    if create:
        try:
            return disk.create(path), True
        except FileExistsError:
            pass  # another process was faster
    try:
        return disk.open_file(path, disk.WRITE), True
    except OSError as error:
        if write or error.errno not in _READ_ONLY:
            raise
    return disk.open_file(path, disk.READ), False


def _discard(temp: str) -> None:
    """Remove a temp of our own; one that stays is swept by compact."""
    try:
        os.unlink(temp)
    except OSError:
        return


def discard_dead(temp: str) -> bool:
    """Remove a temp unless somebody has it locked, as every writer has its own from the start; return if it is gone."""
    file = JournalFile.open(temp, write=True)
    if file is None:
        return False
    try:
        if not file.lock.try_acquire():
            return False
        os.unlink(temp)
    except OSError as error:
        raise_io_error(error, "sweeping a temp", temp)
    finally:
        file.close()
    return True


def read_file(path: str) -> tuple[Journal, bytes]:
    """Read a shard's file once, without its lock; return its journal and torn tail, EMPTY where there is no file.

    Raises CorruptShard, StoreIOError.
    """
    file = JournalFile.open(path, write=False)
    if file is None:
        return EMPTY, b""
    try:
        return file.refresh(locked=False), file.known.torn
    finally:
        file.close()


def read_journal(path: str) -> bytes:
    """Read a shard's file whole, without its lock; empty where there is none. Raises CorruptShard, StoreIOError."""
    file = JournalFile.open(path, write=False)
    if file is None:
        return b""
    try:
        if file.size > FILE_BYTES_MAX:
            raise CorruptShard(path, 0, f"{file.size:,} bytes, more than any shard can have")
        return disk.read_all(file.fd, 0, file.size)
    except OSError as error:
        raise_io_error(error, "reading a shard", path)
    finally:
        file.close()
