"""One shard: the file of one session key, as one process has it open, and how to read it.

Readers call `read` and wait for nobody. Writers go through a transaction (transaction.py), which is the only caller of
the methods marked with REQUIRES.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shardstore import _events as events
from shardstore._files import disk
from shardstore._files.file import JournalFile, read_file, read_journal
from shardstore._files.layout import is_shard_of
from shardstore._files.locks.fairness import FairLock, QueueFile
from shardstore._files.locks.flock import raise_lock_error
from shardstore._files.locks.holders import holder
from shardstore._files.locks.identity import NO_FILE, FileIdentity, PathIdentity, unpack_identity
from shardstore._files.missing import make_prefix
from shardstore._inside import FifoMutex, Visit
from shardstore._journal import replay
from shardstore.errors import CorruptShard, LockTimeout, StoreIncomplete, StoreNotFound, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.logfile import LogFiles
    from shardstore._journal.replay import Journal
    from shardstore._model import State

_T = TypeVar("_T")

_REPLACED_OFTEN: Final = 8
AT_HAND: Final = -1.0  # a timeout: no waiting at all, and no opening


class Shard:
    """The shard of one key in one process. Shared by its threads; every Store on the same root has the same one."""

    __slots__ = ("_bound", "_free_descriptors", "_queue_file", "_read_name", "_reading", "_using", "created", "fair",
                 "file", "key", "layout", "logs", "mutex", "name", "named", "path", "retired", "spare",
                 "turn")  # fmt: skip

    def __init__(
        self, logs: LogFiles, name: str, key: str | None, queue_file: QueueFile, free_descriptors: Callable[[], int]
    ) -> None:
        layout = logs.layout
        self.name = name  # relative to ROOT/shards
        self.path = layout.shard_path(name)
        self.key = name if key is None else key  # of the session; for a file whose key is not known, its name
        self._bound = key is not None  # whether the file may hold this key alone
        self.layout = layout
        self.logs = logs
        self.file: JournalFile | None = None  # opened and closed only by whoever is inside the mutex
        self.mutex = FifoMutex(self.key, self.path)
        self.spare: list[Any] = []  # at most one FileTransaction, to be used again
        self.retired = False  # the pool let go of it: whoever still uses it is the last one
        self.created = False  # by the transaction inside, which removes the file again if nothing is committed
        self.turn = 0  # how many transactions there were
        self.fair = FairLock(queue_file, name)
        self._queue_file = queue_file
        self._free_descriptors = free_descriptors
        # Whoever is inside the mutex looks at one, whoever is reading at the other: of two threads that look at the
        # same PathIdentity, one might be given the older answer of the other.
        self.named, self._read_name = PathIdentity(self.path), PathIdentity(self.path)
        # Held while a reader uses the descriptor, and while it is closed; never while waiting. `_using` shows a signal
        # handler, which may come in again, that the code beneath it is in the middle of that.
        self._reading = threading.RLock()
        self._using = False

    def bind_key(self, key: str) -> bool:
        """Bind a shard whose key was not known to `key`; return whether its file's name is that key's."""
        if not is_shard_of(self.name, key):
            return False
        self.key = self.mutex.name = key
        self._bound = True
        return True

    def check_key(self, journal: Journal) -> Journal:
        """Return the journal if it is this session's. Raises CorruptShard: a file shows whose it is."""
        key = journal.state.key
        if key is not None and key != self.key and self._bound:
            raise events.damaged(CorruptShard(self.path, 0, f"the file belongs to session {key!r}", self.key))
        return journal

    # Reading

    def read(self) -> Journal:
        """Return the committed state, without any lock of the store. Raises CorruptShard, StoreIOError."""
        with self._reading:
            if not self._using:
                self._using = True
                try:
                    file = self.file
                    if file is not None and self._is_named(file):
                        return self.check_key(file.refresh(locked=False))
                finally:
                    self._using = False
        return self.check_key(self._read_afresh())

    def _is_named(self, file: JournalFile) -> bool:
        """Return whether the path still names this file. REQUIRES: the caller is reading."""
        try:
            return file.is_named(self._read_name.current())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise_io_error(error, "looking at a shard", self.path)

    def _read_afresh(self) -> Journal:
        """Open the file that the path names now, keep it open if nobody in this process writes to it, and read it."""
        visit = Visit(self.mutex)
        try:
            if not self._using and visit.try_enter():
                self.drop_file()
                file = self.file = self._open(write=False)
                journal = self._absent() if file is None else file.refresh(locked=False)
                visit.leave()
                return journal
        except BaseException:
            self._abandon(visit)
            raise
        journal, _ = read_file(self.path)
        return self._absent() if journal is replay.EMPTY else journal

    def _abandon(self, visit: Visit) -> None:
        """End a visit that an exception interrupted, perhaps as it began to leave, and close its locked file.

        A finalizer alone would not do: the exception's traceback keeps the visit alive.
        """
        if visit.is_inside:
            self.drop_file()
        visit.leave()

    def _absent(self) -> Journal:
        """Return the journal of a session without a file.

        Raises StoreNotFound where it is the store that is gone, StoreIncomplete where it is the directory.
        """
        if not disk.exists(self.layout.marker):
            raise StoreNotFound(str(self.layout.root))
        if not disk.exists(os.path.dirname(self.path)):
            raise StoreIncomplete(os.path.dirname(self.path))
        return replay.EMPTY

    def read_if_free(self) -> Journal | None:
        """Return the journal under the lock; None where the lock or the file is not at hand.

        For the index, which waits for nobody. Raises CorruptShard, StoreIOError, OSError.
        """
        visit = Visit(self.mutex)
        try:
            if not visit.try_enter():
                return None
            journal, file = None, self.file
            if file is not None and file.writable and file.lock.try_acquire():
                try:
                    if file.is_named(self.named.current()):
                        journal = self.check_key(file.refresh(locked=True))
                finally:
                    file.lock.release()
            visit.leave()
        except FileNotFoundError:
            self._abandon(visit)
            return None
        except BaseException:
            self._abandon(visit)  # closing the file gives its lock back for certain
            raise
        return journal

    def history(self) -> list[State]:
        """Return the states of this incarnation that its journal holds, oldest first; empty when it is absent."""
        present = self.read().state
        if not present.exists:
            return []
        states = replay.history(read_journal(self.path))
        return [state for state in states if state.exists and state.incarnation == present.incarnation]

    # The kernel's lock. REQUIRES, for everything below: the caller is inside the mutex.

    def lock_at_once(self) -> JournalFile | None:
        """Lock the open file if that takes no waiting, and nobody else is to have it first; None where not."""
        file, now, named = self.file, time.monotonic(), self.named
        if file is None or now >= self.fair.ends or now >= self._queue_file.check_at:
            return None
        if not file.writable or file.lock.abandoned is not None:
            return None
        try:
            file.lock.take()
        except BlockingIOError:
            return None
        except OSError as error:
            raise_lock_error(error)
        found = unpack_identity(named.answer) if named.ask() == 0 else self._look(file)
        file.links, inode, file.size, device = found
        if inode == file.inode and device == file.device and not file.failed:
            return file
        file.lock.release()  # else it would be held while this process stands in line
        return None

    def _look(self, file: JournalFile) -> FileIdentity:
        """Return what the path names now, or NO_FILE. Raises StoreIOError, the lock of `file` given back."""
        try:
            return self.named.current()
        except FileNotFoundError:
            return NO_FILE
        except OSError as error:
            file.lock.release()
            raise_io_error(error, "looking at a shard", self.path)

    def lock_in_turn(self, began: float, timeout: float | None, *, create: bool) -> JournalFile | None:
        """Lock the file that the path names, whatever that takes; None where there is none and none was to be made.

        `began`: the time.monotonic that the timeout counts from. With AT_HAND: lock the open file, if nobody is to have
        it first. Raises LockTimeout, StoreIOError.
        """
        deadline = None if timeout is None else began + timeout
        if timeout == AT_HAND:
            return self._lock_at_hand()
        asked = time.monotonic()
        try:
            attempt = 0
            while True:
                attempt += 1
                if attempt > _REPLACED_OFTEN:  # or inode numbers are not stable here
                    if deadline is not None and time.monotonic() >= deadline:
                        raise self.timed_out(began)
                    time.sleep(0.001)
                file = self.file
                if file is not None and file.writable:
                    if not self.fair.wait(file.lock, deadline, self.turn):
                        raise self.timed_out(began)
                    file.links, inode, file.size, device = self._look(file)
                    if inode == file.inode and device == file.device and not file.failed:
                        return file  # else what was locked was replaced, or removed, while we waited
                if not self._open_named(create=create):
                    return None
        finally:
            self.fair.leave()
            if (waited := time.monotonic() - asked) >= events.SLOW_S:
                events.note("locks", events.WARNING, "waited %.1f s for session %r", waited, self.key)

    def _lock_at_hand(self) -> JournalFile | None:
        """Lock the open file if that takes no waiting; None where not."""
        file = self.file
        if file is None or not file.writable or not self.fair.try_politely(file.lock, self.turn):
            return None
        file.links, inode, file.size, device = self._look(file)
        if inode == file.inode and device == file.device and not file.failed:
            return file
        file.lock.release()
        return None

    def timed_out(self, began: float) -> LockTimeout:
        """Return the error for a lock that was not free in time. Whoever asks it for the holder looks then."""
        return LockTimeout(self.key, time.monotonic() - began, find=lambda: holder(self.path))

    def _open_named(self, *, create: bool) -> bool:
        """Open the file that the path names now, in place of the one that was open; return whether there is one."""
        self.drop_file()
        file = self.file = self._open(write=True, create=create)
        if file is None:
            self._absent()
        return file is not None

    def _open(self, *, write: bool, create: bool = False) -> JournalFile | None:
        return self.with_descriptor(lambda: self._open_once(write=write, create=create))

    def with_descriptor(self, action: Callable[[], _T]) -> _T:
        """Return the result of `action`; if no descriptor is left for it, close idle ones and call it again."""
        return disk.with_descriptor(action, self._free_descriptors)

    def _open_once(self, *, write: bool, create: bool) -> JournalFile | None:
        file = JournalFile.open(self.path, write=write)
        if file is not None or not create:
            return file
        if not disk.exists(self.layout.marker):
            raise StoreNotFound(str(self.layout.root))
        self.created = True
        make_prefix(self.layout, os.path.dirname(self.name))
        try:
            return JournalFile.open(self.path, write=True, create=True)
        except OSError as error:
            raise_io_error(error, "making a shard", self.path)

    def remove_if_empty(self) -> None:
        """Remove the file of a creation that did not happen; an empty file left behind is an absent session."""
        self.created = False
        file = self.file
        try:
            empty = file is not None and file.journal.end == 0 and os.fstat(file.fd).st_size == 0
            if empty and file is not None and file.is_named(self.named.current()):  # else another file has the name
                os.unlink(self.path)
        except OSError:
            return  # an empty file is an absent session as well

    def swap(self, fresh: JournalFile) -> None:
        """Go on with another open file, which has the name already, and its lock."""
        self.drop_file()
        self.file = fresh

    def drop_file(self) -> None:
        """Close the descriptor, and with it the lock."""
        with self._reading:
            file, self.file = self.file, None
            if file is None:
                return
            with suppress(OSError):  # closing does it, but where a commit waits for its sync with a duplicate
                file.lock.give()
            if not self._using:  # by a frame beneath this one, which a signal handler interrupted
                file.close()

    # Life

    def close_if_idle(self) -> bool:
        """Close the descriptor unless the shard is in use; return whether nobody uses it and none is open."""
        visit = Visit(self.mutex)
        try:
            if self._using or not visit.try_enter():
                return False
            self.drop_file()
            visit.leave()
        except BaseException:
            self._abandon(visit)
            raise
        return True

    def after_fork(self) -> None:
        """Forget, in a forked child, every lock and descriptor of the parent; the engine has closed the latter."""
        self.created, self.file, self._using = False, None, False
        self.turn += 1
        self._reading = threading.RLock()
        self.fair = FairLock(self._queue_file, self.name)
        self.mutex.after_fork()
        self.spare.clear()

    @property
    def is_open(self) -> bool:
        """Whether its file is open, so that a read takes only the added records."""
        return self.file is not None

    @property
    def cached_bytes(self) -> int:
        """Bytes of entry kept in memory, about."""
        file = self.file
        state = None if file is None else file.journal.state
        return 0 if state is None else state.entry_bytes + state.log.bytes
