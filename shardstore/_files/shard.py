"""One shard: the file of one session key, its lock, and the commits that go through it.

Calling sequence of a writer (docs/locking.md):

    shard.lock(timeout)            wait for the other writers of this session, and for nobody else
    state = shard.refresh()        what is on the disk now
    ...                            decide what to change
    shard.commit(change, ...)      append it, or rewrite the grown journal
    shard.unlock()                 also after an exception

Readers call `read` and wait for nobody.
"""

from __future__ import annotations

import contextvars
import errno
import os
import threading
import time
from typing import TYPE_CHECKING

from shardstore._codec import ENTRY_BYTES_MAX
from shardstore._files import disk
from shardstore._files.file import JournalFile, read_journal, read_state
from shardstore._files.layout import QUARANTINE, Layout, is_shard_of, stamped_name, temp_name
from shardstore._files.locks.fairness import Lines, Turns
from shardstore._files.locks.holders import holder
from shardstore._files.locks.identity import NOTHING, Name
from shardstore._journal import record
from shardstore._journal import replay as journal
from shardstore._journal.replay import ABSENT, Change, State, make_record
from shardstore._mutex import Gate
from shardstore.errors import (
    CommitUncertain,
    CorruptShard,
    InvalidEntry,
    LockTimeout,
    NestedUpdate,
    StoreClosed,
    StoreFull,
    StoreNotFound,
    raise_io_error,
    raise_uncertain,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
REWRITE_BYTES, REWRITE_FACTOR = 65536, 3  # a journal is rewritten past 64 KiB plus three times its live size


# The shards that this call chain is inside of, each with the turn in which it entered; see Shard._inside.
_holds: contextvars.ContextVar[tuple[tuple[Shard, int], ...]] = contextvars.ContextVar("shardstore_holds", default=())


def inside_update() -> bool:
    """Tell whether this call chain holds a shard's lock: then it may wait for nothing that others may hold."""
    return any(shard.inside(turn) for shard, turn in _holds.get())


class Shard:
    """The shard of one key in one process. Shared by its threads; every Store on the same root has the same one."""

    __slots__ = ("_file", "_found", "_free_descriptors", "_inside", "_key", "_layout", "_lines", "_made", "_mutex",
                 "_named", "_read_name", "_turn", "_turns", "gate", "name", "path")  # fmt: skip

    def __init__(
        self, layout: Layout, name: str, key: str | None, lines: Lines, free_descriptors: Callable[[], int]
    ) -> None:
        self._key = key  # None: whatever key the file claims
        self.name = name  # relative to ROOT/shards
        self.path = layout.shard_path(name)
        # Whoever holds the gate looks at one, whoever holds the mutex at the other: of two threads that look at the
        # same Name, one might be given the older answer of the other.
        self._named, self._read_name = Name(self.path), Name(self.path)
        self.gate = Gate()
        self._lines = lines
        self._turns = Turns(lines, name)
        self._layout = layout
        self._free_descriptors = free_descriptors
        self._mutex = threading.Lock()  # held while the descriptor is used or changed, never while waiting
        self._file: JournalFile | None = None  # opened and closed only by whoever holds the gate
        self._inside = False  # whether somebody in this process holds the lock
        self._turn = 0  # how often it was given back, or not got
        self._found = NOTHING
        self._made = False  # by the present holder, who takes it away again if nothing is committed

    @property
    def claimed(self) -> str | None:
        """The session's key; None for a file that may claim any."""
        return self._key

    def claim(self, key: str) -> bool:
        """Make a shard whose key was not known the one of `key`; tell whether its file's name is that key's."""
        if not is_shard_of(self.name, key):
            return False
        self._key = key
        return True

    @property
    def key(self) -> str:
        """The session's key; for a file whose key is not known, its name."""
        return self.name if self._key is None else self._key

    # Reading

    def read(self) -> State:
        """Return the committed state, without any lock of the store. Raises CorruptShard, StoreIOError."""
        with self._mutex:
            file = self._file
            if file is not None:
                try:
                    named = file.is_named(self._read_name.look())
                except FileNotFoundError:
                    named = False
                except OSError as error:
                    raise_io_error(error, "looking at a shard", self.path)
                if named:
                    return self.own(file.refresh(locked=False))
        if self.gate.try_acquire():
            try:
                return self._read_afresh()
            finally:
                self.gate.release()
        return self.own(self._check_absent(read_state(self.path)))  # a writer of this process is at it

    def read_if_free(self) -> State | None:
        """Return the state under the lock; None where the lock or the file is not at hand.

        For the index, which waits for nobody. Raises CorruptShard, StoreIOError, OSError.
        """
        if not self.gate.try_acquire():
            return None
        try:
            file = self._file
            if file is None or not file.lock.try_acquire():
                return None
            try:
                if not file.is_named(self._named.look()):
                    return None
                with self._mutex:
                    return self.own(file.refresh(locked=True))
            finally:
                file.lock.release()
        except FileNotFoundError:
            return None
        finally:
            self.gate.release()

    def _read_afresh(self) -> State:
        with self._mutex:
            self._drop_file()
            self._file = self._open(write=False)
            if self._file is None:
                return self._check_absent(ABSENT)
            return self.own(self._file.refresh(locked=False))

    def _check_absent(self, state: State) -> State:
        """Tell a session that is not there from a store that is not: only the first is an answer."""
        if state is ABSENT and not os.path.exists(self._layout.marker):
            raise StoreNotFound(str(self._layout.root))
        return state

    def own(self, state: State) -> State:
        """Return the state if it is this session's. Raises CorruptShard: a file proves whose it is."""
        if state.key is not None and state.key != self._key and self._key is not None:
            raise CorruptShard(self.path, 0, f"the file belongs to session {state.key!r}", self.key)
        return state

    def history(self) -> list[State]:
        """Return the states of this incarnation that its journal holds, oldest first; empty when it is absent."""
        present = self.read()
        if not present.exists:
            return []
        data = read_journal(self.path)
        return [
            state
            for state in journal.states(data)
            if isinstance(state, State) and state.exists and state.incarnation == present.incarnation
        ]

    # Locking

    def lock(self, timeout: float | None, *, create: bool, hold: list[int] | None = None) -> bool:
        """Wait for the lock of this session; False where there is no file and none was to be made.

        `hold` is filled in the moment the lock is held, for an `unlock` that must know even if an exception from
        outside (a signal handler's) arrives before this returns.
        Raises NestedUpdate, LockTimeout, CorruptShard, StoreNotFound, StoreIOError; then nothing is held.
        """
        outer = _holds.get()
        began = now = time.monotonic()
        deadline = None if timeout is None else began + timeout
        if outer or not self.gate.try_acquire():
            self._refuse_nesting(outer)
            if not self.gate.acquire(deadline):
                raise self._timed_out(began)
            now = time.monotonic()
        try:
            if not self._lock_at_once(now) and not self._lock_in_turn(began, deadline, create=create):
                self.gate.release()
                return False
            turn = self._turn
            _holds.set(outer + ((self, turn),))  # noqa: RUF005  # twice as fast
            self._inside = True
            if hold is not None:
                hold.append(turn)
        except BaseException as error:
            if not isinstance(error, LockTimeout):
                self._turns.forget()
                self.forget_file()  # and with it a lock that was granted in this very moment
            self._leave(outer)
            raise
        return True

    def _leave(self, outer: tuple[tuple[Shard, int], ...]) -> None:
        """Let the next thread in, whatever else fails."""
        self._inside = False
        self._turn += 1
        _holds.set(outer)
        self.gate.release()

    def _refuse_nesting(self, outer: tuple[tuple[Shard, int], ...]) -> None:
        """Raise NestedUpdate where waiting would never end: this thread, or this chain of calls, holds the lock."""
        for shard, turn in outer:
            if shard.path == self.path and shard.inside(turn):
                raise NestedUpdate(self.key)
        if self.gate.owner == threading.get_ident():
            raise NestedUpdate(self.key)

    def inside(self, turn: int) -> bool:
        """Tell whether whoever entered in this turn still holds the lock."""
        return self._inside and self._turn == turn

    def _lock_at_once(self, now: float) -> bool:
        """Lock the open file if nobody else has it, or is to have it first; tell whether the path still names it."""
        file = self._file
        if now >= self._turns.ends or now >= self._lines.glance_at:
            return False
        if file is None or not file.writable or not file.lock.try_acquire():
            return False
        if self._is_named(file):
            return True
        file.lock.release()  # else it would be held while this process stands in line
        return False

    def _lock_in_turn(self, began: float, deadline: float | None, *, create: bool) -> bool:
        """Lock the file that the path names, whatever that takes; False where there is none and none was to be made."""
        try:
            while True:
                file = self._file
                if file is not None and file.writable:
                    if not self._turns.wait(file.lock, deadline, self._turn):
                        raise self._timed_out(began)
                    if self._is_named(file):
                        return True  # else what was locked was replaced, or removed, while we waited
                if not self._open_named(create=create):
                    return False
        finally:
            self._turns.leave()

    def _is_named(self, file: JournalFile) -> bool:
        """Tell whether the path still names a file that was just locked; keep what was seen for `refresh`.

        Raises StoreIOError, the lock given back; otherwise it is held, whatever this tells.
        """
        try:
            self._found = self._named.look()
        except FileNotFoundError:
            return False
        except OSError as error:
            file.lock.release()
            raise_io_error(error, "looking at a shard", self.path)
        return file.is_named(self._found)

    def _timed_out(self, began: float) -> LockTimeout:
        return LockTimeout(self.key, time.monotonic() - began, holder(self.path))

    def _open_named(self, *, create: bool) -> bool:
        """Open the file that the path names now, in place of the one that was open; tell whether there is one."""
        with self._mutex:
            self._drop_file()
            self._file = self._open(write=True, create=create)
        if self._file is None:
            self._check_absent(ABSENT)
        return self._file is not None

    def unlock(self, hold: list[int] | None = None) -> None:
        """Let the next writer in. REQUIRES: `lock` returned True, or was given this `hold`, which tells."""
        if not self._inside or (hold is not None and (not hold or hold[0] != self._turn)):
            return  # nothing is held: an interrupted lock(), or a forked child, where the parent's is not ours to drop
        outer = _holds.get()
        try:
            if self._made:
                self._remove_if_empty()
            if self._file is not None:
                self._file.lock.release()
        except OSError:
            # What was committed is committed: that the lock cannot be given back is no reason to deny it.
            # Closing the descriptor gives it back for certain.
            self.forget_file()
        except BaseException:
            self.forget_file()
            raise
        finally:
            self._leave(() if len(outer) == 1 else tuple([held for held in outer if held[0] is not self]))

    def _remove_if_empty(self) -> None:
        """Take away the file of a creation that did not happen; an empty file left behind is an absent session."""
        self._made = False
        file = self._file
        try:
            empty = file is not None and file.state.end == 0 and os.fstat(file.fd).st_size == 0
            if empty and file is not None and file.is_named(self._named.look()):  # else another file has the name
                os.unlink(self.path)
        except OSError:
            return  # an empty file is an absent session as well

    # Committing. REQUIRES, for everything below: `lock` returned True.

    def refresh(self) -> State:
        """Return the state that is on the disk now; nothing remembered is trusted unread. Raises CorruptShard."""
        file = self._file
        if file is None or not self._inside:
            file = self.held_file()
        with self._mutex:
            file.links, _, file.size, _ = self._found
            state = file.refresh(locked=True)
        return state if state.key == self._key else self.own(state)

    def commit(self, change: Change, by: str, *, durable: bool, at: int | None = None) -> State:
        """Write one change and return the state it leads to.

        Raises StoreFull, StoreIOError (nothing changed) or CommitUncertain (unknown until read again).
        """
        file = self._file
        if file is None or not self._inside:
            file = self.held_file()
        line, after = make_record(file.state, change, self.key, by, at, durable=durable)
        if after.live > ENTRY_BYTES_MAX:
            raise InvalidEntry("entry", f"{after.live:,} bytes of JSON; at most {ENTRY_BYTES_MAX:,} are allowed")
        if file.links > 1 and change.delete:
            self.remove(durable=durable)
            return after
        if file.torn:
            self.repair_tail()
        if file.links > 1 or after.end > REWRITE_BYTES + REWRITE_FACTOR * after.live:
            return self._commit_by_rewriting(file, line, after, durable=durable)
        self._append(file, line, after, durable=durable)
        return after

    def _commit_by_rewriting(self, file: JournalFile, line: bytes, after: State, *, durable: bool) -> State:
        """Commit as the one record of a new file: the journal has grown, or its file has a second name.

        A file with a second name is somebody's backup: it is copied, never written through.
        """
        if after.exists and (after.records > 1 or file.links > 1):
            try:
                return self.rewrite_to(file, after)
            except StoreFull:
                if file.links > 1:
                    raise
        self._append(file, line, after, durable=durable)
        return after

    def _append(self, file: JournalFile, line: bytes, after: State, *, durable: bool) -> None:
        """Write the record; sync it without the mutex, for which readers would wait."""
        try:
            if durable:
                file.secure()
            with self._mutex:
                file.append(line, after)
            if durable:
                file.sync()
        except StoreFull:
            if after.exists:
                raise
            self.remove(durable=durable)  # deleting must work on a full disk: no file is an absent session too
        except CommitUncertain:
            self.forget_file()
            raise

    def remove(self, *, durable: bool = True) -> None:
        """Take the file away: the session is absent from then on, and its next incarnation begins a new journal."""
        try:
            os.unlink(self.path)
        except OSError as error:
            raise_io_error(error, "removing a shard", self.path)
        try:
            if durable:
                disk.sync_directory(os.path.dirname(self.path))
        except OSError as error:
            raise_uncertain(error, "removing a shard", self.path)

    def rewrite(self) -> State:
        """Reduce the journal to its present state, as of the same revision."""
        file = self.held_file()
        return self.rewrite_to(file, file.state)

    def rewrite_to(self, file: JournalFile, after: State) -> State:
        """Put a journal of one record, which leads to the state `after`, in the place of `file`."""
        assert after.fields is not None
        assert after.key is not None
        body = record.head(after.incarnation, after.key, after.created_at) + record.put_body(after.fields)
        line = record.line(after.rev, after.updated_at, after.by, body, durable=True)
        settled = after._replace(end=len(line), records=1)
        fresh = file.replace(self._layout.shard_path(temp_name(self.name)), line, settled)
        self.swap(fresh)
        self.settle(fresh)
        return settled

    def settle(self, fresh: JournalFile) -> None:
        """Sync the directory after a rename. Raises CommitUncertain."""
        try:
            fresh.settle()
        except CommitUncertain:
            self.forget_file()
            raise

    def swap(self, fresh: JournalFile) -> None:
        """Go on with another open file, which has the name already, and its lock."""
        with self._mutex:
            self._drop_file()
            self._file = fresh

    def trim(self) -> int:
        """Give unused room back; return the bytes freed."""
        with self._mutex:
            return self.held_file().trim()

    def repair_tail(self) -> None:
        """Keep the torn tail, if there is one, in quarantine/ and cut it off."""
        file = self.held_file()
        if file.torn:
            file.repair_tail(f"{self._layout.root}/{QUARANTINE}/{stamped_name(self.name)}")

    def forget_file(self) -> None:
        """Close the descriptor, and with it the lock, after the caller moved or removed the file."""
        with self._mutex:
            self._drop_file()

    def held_file(self) -> JournalFile:
        """Give the file whose lock is held."""
        if not self._inside or self._file is None:
            raise StoreClosed("this process does not hold the lock any more: it forked inside the update")
        return self._file

    # Descriptors

    def _open(self, *, write: bool, create: bool = False) -> JournalFile | None:
        """Open the file, making room for the descriptor where none is left. REQUIRES: gate and mutex."""
        try:
            return self._open_once(write=write, create=create)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR or not self._free_descriptors():
                raise
        return self._open_once(write=write, create=create)

    def _open_once(self, *, write: bool, create: bool) -> JournalFile | None:
        file = JournalFile.open(self.path, write=write)
        if file is not None or not create:
            return file
        if not os.path.exists(self._layout.marker):
            raise StoreNotFound(str(self._layout.root))
        self._made = True
        try:
            return JournalFile.open(self.path, write=True, create=True)
        except OSError as error:
            raise_io_error(error, "making a shard", self.path)

    def close_if_idle(self) -> bool:
        """Close the descriptor unless the shard is in use; tell whether nobody uses it and none is open."""
        if not self.gate.try_acquire():
            return False
        try:
            with self._mutex:
                self._drop_file()
            return True
        finally:
            self.gate.release()

    def _drop_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def after_fork(self) -> None:
        """Forget, in a forked child, every lock and descriptor of the parent; the pool has closed the latter."""
        self._inside, self._made, self._file = False, False, None
        self._turn += 1  # what the parent's call chain remembers is over here
        self._mutex = threading.Lock()
        self._turns = Turns(self._lines, self.name)
        self.gate = Gate()

    @property
    def is_open(self) -> bool:
        """Whether its file is open, so that reading it takes what was added."""
        return self._file is not None

    @property
    def cached_bytes(self) -> int:
        """Bytes of entry kept in memory, about."""
        file = self._file
        return 0 if file is None else file.state.live
