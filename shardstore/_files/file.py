"""One open journal file: its descriptor, and what was read through it.

What is remembered of a file lives and dies with the descriptor: once nobody holds an inode, its number is used again
and "the same inode" proves nothing. While it is held, a journal only grows or is replaced, so one read at its logical
end tells whether what is remembered is what is on the disk. That read is the validation; no path skips it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import weakref
from typing import NoReturn

from shardstore._files import disk
from shardstore._files.layout import FILE_MODE
from shardstore._files.locks.flock import KernelLock, descriptors
from shardstore._files.locks.identity import Look, look_of
from shardstore._journal import replay as journal
from shardstore._journal.replay import ABSENT, State
from shardstore.errors import CorruptShard, ShardStoreError, raise_io_error, raise_uncertain

FILE_BYTES_MAX = 1 << 30
ROOM_MIN, ROOM_STEP = 4096, 65536  # bytes: the file grows to 4 KB, doubles to 64 KB, then grows by 64 KB
_WITNESS = 24  # bytes in front of the logical end that must still be there
_FEW_BYTES = 8192  # the room behind a journal is up to 64 KB, and need not be read with each record
LOOK_S = 0.01  # seconds between a reader's looks at the mtime: each makes the next commit dearer (look.py)
HOT_NS = 5_000_000  # nanoseconds after the newest commit that it knows, within which a writer does not look at it
_READER_RETRIES = 5  # a reader may look while a commit is half way; what stays wrong is damage
_NEVER = -(1 << 96)  # nanoseconds: before any mtime, also one before 1970
_UNREAD: tuple[State, bytes, int] = (ABSENT, b"\n", _NEVER)
_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

open_files: weakref.WeakSet[JournalFile] = weakref.WeakSet()


def room_after(end: int) -> int:
    """Give the size a file of `end` bytes grows to."""
    if end <= ROOM_STEP:
        return max(ROOM_MIN, 1 << (end - 1).bit_length())
    return -(-end // ROOM_STEP) * ROOM_STEP


class JournalFile:
    """A descriptor of a shard's file. Not safe between threads: the shard sees to that."""

    __slots__ = (
        "__weakref__",
        "_anchored",
        "_device",
        "_inode",
        "_known",
        "_look_due",
        "_synced",
        "fd",
        "links",
        "lock",
        "path",
        "size",
        "torn",
        "writable",
    )  # fmt: skip

    def __init__(self, fd: int, path: str, status: os.stat_result, *, writable: bool) -> None:
        self.fd = fd
        self.path = path
        self.writable = writable
        self.lock = KernelLock(fd)
        self.links, self._inode, self.size, self._device = look_of(status)
        self.torn = b""
        # State; its proof: the last bytes read or written, and the newline of the room behind them; and, in nanoseconds
        # since the epoch, the newest mtime that our own reads and writes explain.
        self._known: tuple[State, bytes, int] = _UNREAD
        self._look_due = 0.0  # time.monotonic from which on the mtime is looked at again
        self._synced = 0  # every byte before this one is known to be on the medium
        self._anchored = False  # the file's name is known to be
        open_files.add(self)

    @classmethod
    def open(cls, path: str, *, write: bool, create: bool = False) -> JournalFile | None:
        """Open a shard's file; None where there is none. Raises CorruptShard for what is no journal file."""
        try:
            with descriptors:
                disk.check_directory(os.path.dirname(path))
                fd, writable = _open(path, write=write, create=create)
                return cls._adopt(fd, path, writable=writable)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise CorruptShard(path, 0, "not a regular file (a link, a directory or a device)") from error
            raise_io_error(error, "opening a shard", path)

    @classmethod
    def create_temp(cls, temp: str, path: str) -> JournalFile:
        """Make the file that is to replace the one at `path`, under the name `temp`."""
        with descriptors:
            try:
                fd = os.open(temp, disk.CREATE_NEW, FILE_MODE)
            except OSError as error:
                raise_io_error(error, "rewriting a shard", path)
            try:
                return cls._adopt(fd, path, writable=True)
            except OSError as error:
                _discard(temp)
                raise_io_error(error, "rewriting a shard", path)

    @classmethod
    def _adopt(cls, fd: int, path: str, *, writable: bool) -> JournalFile:
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise CorruptShard(path, 0, "not a regular file")
            return cls(fd, path, status, writable=writable)
        except BaseException:
            os.close(fd)
            raise

    @property
    def state(self) -> State:
        """The state that was read or written last."""
        return self._known[0]

    def close(self) -> None:
        """Close the descriptor, and with it the lock. A second call does nothing."""
        self.fd = -1
        self.lock.close()

    __del__ = close  # a shard that was evicted while in use is dropped with its descriptor open

    def after_fork(self) -> None:
        """Close a descriptor inherited by a forked child: unlocking it would drop the parent's lock."""
        self.fd = -1
        self.lock.after_fork()

    def is_named(self, found: Look) -> bool:
        """Tell whether this is still the file that its path names, by a fresh look at the path."""
        _, inode, _, device = found
        return inode == self._inode and device == self._device

    # Reading

    def refresh(self, *, locked: bool) -> State:
        """Return the state on the disk: what is remembered if it is still true, else with the new records applied.

        Raises CorruptShard. A torn tail is left in `torn`. Without the lock a record may be half written:
        what looks damaged is read again before it is believed.
        """
        state, proof, seen = self._known
        try:
            found = os.pread(self.fd, len(proof), state.end + 1 - len(proof))
            # abs: a clock that was set back is no reason not to look for hours
            fresh = abs(time.time_ns() - seen) < HOT_NS if locked else time.monotonic() < self._look_due
            if found == proof and fresh:
                return state
            return self._changed(found, locked=locked)
        except OSError as error:
            raise_io_error(error, "reading a shard", self.path)

    def _changed(self, found: bytes, *, locked: bool) -> State:
        """Say what the journal says now that these bytes are not what was remembered, or the mtime is to be looked at.

        The mtime proves nothing while it stands still, but when it moved though nothing was appended, somebody wrote
        into the file by hand, and it is read again from the start.
        """
        state, proof, seen = self._known
        due = time.monotonic() + LOOK_S
        mtime = os.fstat(self.fd).st_mtime_ns
        if len(proof) > 1 and found.startswith(proof[:-1]):
            if len(found) == len(proof) and found != proof:
                return self._read_on(state, mtime) or self._reread(state, locked=locked)  # the new lines are enough
            if mtime <= seen:
                self._look_due = due
                return state  # nothing changed; where `found` is short, it has no room
        return self._reread(ABSENT, locked=locked)

    def _read_on(self, state: State, mtime: int) -> State | None:
        """Apply the few records that others have appended since; None where there is more to it.

        `mtime`: of the file, looked at before this.
        """
        data = os.pread(self.fd, _FEW_BYTES, state.end)
        if b"\n\n" not in data:
            return None
        found = journal.replay(data, state)
        if found.damage is not None or found.tail or found.state is state:
            return None
        added = data[: found.state.end - state.end][-_WITNESS:]
        self._known = (found.state, added + b"\n", mtime)
        self.torn = b""
        return found.state

    def _reread(self, known: State, *, locked: bool) -> State:
        for attempt in range(2 if locked else _READER_RETRIES):
            status = os.fstat(self.fd)
            if status.st_size > FILE_BYTES_MAX:
                raise CorruptShard(self.path, 0, f"{status.st_size:,} bytes, more than any shard can have")
            data = disk.read_all(self.fd, known.end, status.st_size - known.end)
            found = journal.replay(data, known)
            if found.damage is None:
                fresh = data[: found.state.end - known.end][-_WITNESS:]
                proof = fresh + b"\n" if fresh or known is ABSENT else self._known[1]
                self._known = (found.state, proof, status.st_mtime_ns)
                self.size, self.torn = status.st_size, found.tail
                return found.state
            known = ABSENT
            time.sleep(0.0005 * attempt)
        assert found.damage is not None
        self._distrust()
        raise CorruptShard(self.path, found.damage.offset, found.damage.reason, found.state.key)

    def _distrust(self) -> None:
        """Have the file read anew before its next use. The state stays: a writer that is inside writes behind it."""
        self._look_due = 0.0
        self._known = (self.state, b"", _NEVER)

    # Writing. REQUIRES, for everything below: the caller holds the lock and has refreshed under it.

    def append(self, line: bytes, after: State) -> None:
        """Write one record, which leads to the state `after`. Raises StoreFull, StoreIOError: nothing was changed."""
        end = self.state.end
        need = end + len(line)
        data = line if need <= self.size else line.ljust(room_after(need) - end, b"\n")
        try:
            written = os.pwrite(self.fd, data, end)
            if written < len(line):
                disk.write_all(self.fd, line[written:], end + written)
        except OSError as error:
            self._cut_back(end)
            raise_io_error(error, "writing a shard", self.path)
        if need > self.size:
            self.size = max(need, end + written)
        self._known = (after, line[-_WITNESS:] + b"\n", time.time_ns())

    def secure(self) -> None:
        """Put the file's name and all its bytes on the medium, so that the next, durable, record vouches for them.

        Whoever made the name or wrote the bytes may have died before its sync, so what this descriptor has not
        synced itself proves nothing. Raises CommitUncertain.
        """
        if not self._anchored:
            self._anchor()
        if self._synced < self.state.end:
            self.sync()

    def sync(self) -> None:
        """Put all bytes on the medium. Raises CommitUncertain; the file is then to be closed and read again."""
        try:
            disk.sync(self.fd)
        except OSError as error:
            self._uncertain(error, "syncing a commit")
        self._synced = self.state.end

    def _anchor(self) -> None:
        try:
            disk.sync_directory(os.path.dirname(self.path))
        except OSError as error:
            self._uncertain(error, "syncing a directory")
        self._anchored = True

    def _uncertain(self, error: OSError, doing: str) -> NoReturn:
        """Have the kernel forget what it kept of the file, as far as it obeys, and raise CommitUncertain."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        raise_uncertain(error, doing, self.path)

    def _cut_back(self, end: int) -> None:
        """Take back a write that failed half way; a reader has seen at most a torn tail."""
        try:
            os.ftruncate(self.fd, end)
            self.size = os.fstat(self.fd).st_size
        except OSError:
            # The torn tail stays, which every reader steps over and the next writer repairs.
            self._distrust()

    def repair_tail(self, keep_as: str) -> None:
        """Keep a copy of the torn tail in the file `keep_as` and cut it off. Needs no mutex: readers see either."""
        try:
            disk.make_directory(os.path.dirname(keep_as))
            fd = os.open(keep_as, disk.CREATE_NEW, FILE_MODE)
            try:
                disk.write_all(fd, self.torn, 0)
                disk.sync(fd)
            finally:
                os.close(fd)
            disk.sync_directory(os.path.dirname(keep_as))
            os.ftruncate(self.fd, self.state.end)
        except OSError as error:
            raise_io_error(error, "keeping a torn commit in quarantine", keep_as)
        self.size = self.state.end
        self.torn = b""

    def trim(self) -> int:
        """Give the room back to the file system; return the bytes freed."""
        freed = self.size - self.state.end
        try:
            os.ftruncate(self.fd, self.state.end)
        except OSError as error:
            raise_io_error(error, "trimming a shard", self.path)
        self.size = self.state.end
        return freed

    def replace(self, temp: str, line: bytes, after: State) -> JournalFile:
        """Put a journal of one record, which leads to the state `after`, in this one's place; return it, locked.

        Always synced, in relaxed mode too: history that was safe stays safe. The new file is locked before it
        gets the name, or another writer would be inside before this one is done.
        """
        fresh = JournalFile.create_temp(temp, self.path)
        try:
            fresh.fill(line, after)
            os.rename(temp, self.path)
        except BaseException as error:
            fresh.close()
            _discard(temp)
            if isinstance(error, OSError) and not isinstance(error, ShardStoreError):
                raise_io_error(error, "rewriting a shard", self.path)
            raise
        return fresh

    def settle(self) -> None:
        """Sync the directory after `replace`, whose file this is. Raises CommitUncertain."""
        self._anchor()

    def fill(self, line: bytes, after: State) -> None:
        """Lock a new file and make it a journal of one record, on the medium. Raises OSError."""
        if not self.lock.try_acquire():
            raise OSError(errno.EAGAIN, "somebody has locked a temp of our own", self.path)
        disk.write_all(self.fd, line.ljust(room_after(len(line)), b"\n"), 0)
        disk.sync(self.fd)
        self._known = (after, line[-_WITNESS:] + b"\n", time.time_ns())
        self._synced = len(line)
        self.size = room_after(len(line))


def _open(path: str, *, write: bool, create: bool) -> tuple[int, bool]:
    """Open for writing; where only reading is asked for and allowed, for reading."""
    try:
        return os.open(path, disk.CREATE if create else disk.WRITE, FILE_MODE), True
    except OSError as error:
        if write or error.errno not in _READ_ONLY:
            raise
    return os.open(path, disk.READ), False


def _discard(temp: str) -> None:
    """Remove a temp of our own; one that stays is swept by compact."""
    try:
        os.unlink(temp)
    except OSError:
        return


def discard_dead(temp: str) -> bool:
    """Remove a temp unless somebody has it locked, as every writer has his from the start; tell whether it is gone."""
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


def read_state(path: str) -> State:
    """Read a shard's state once, without its lock; ABSENT where there is no file. Raises CorruptShard, StoreIOError."""
    file = JournalFile.open(path, write=False)
    if file is None:
        return ABSENT
    try:
        return file.refresh(locked=False)
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
