"""A transaction on one session in files: lock, read the journal on the disk, commit, unlock.

    with engine.transaction(key, timeout) as txn:     wait for the other writers of this session, and for nobody else
        txn.state                                     what is committed now
        txn.commit(change, actor, durable=True)       append it, or rewrite the grown journal

A commit tells the index before it writes, so nobody can forget that. docs/internals/locking.md has the steps; what
else happens to the files of a session is in locked.py.
"""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from shardstore._codec import ENTRY_BYTES_MAX
from shardstore._files.file import FILE_BYTES_MAX, JournalFile
from shardstore._files.locked import LockedFiles
from shardstore._files.locks.identity import load_statx, statx_wanted
from shardstore._journal.record import next_record
from shardstore._journal.replay import Journal
from shardstore._log import NO_LOG, SETTLE_BYTES
from shardstore.errors import (
    CommitUncertain,
    CorruptShard,
    InvalidEntry,
    LockTimeout,
    SessionNotFound,
    StoreFull,
    StoreIOError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.shard import Shard
    from shardstore._files.synced import Waiting
    from shardstore._model import Change, State

REWRITE_BYTES: Final = 65536  # a journal is rewritten past this ...
REWRITE_FACTOR: Final = 3  # ... plus so many times the bytes of its entry, and of its log's items that stand in it
_APPEND_INSTEAD: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EPERM, errno.EACCES, errno.EMFILE, errno.ENFILE})
_new = tuple.__new__


class FileTransaction(LockedFiles):
    """One session, locked from `with` to its end. Used by one thread; after that by the next transaction.

    Dropped while it is inside (an exception from outside came before `with` could note that it entered, or before
    `__exit__` began), it unlocks the session when it is collected: nobody else refers to it.
    """

    __slots__ = (
        "_waiting",
        "apart",
        "append_only",
        "create",
        "present",
        "put_off",
        "rewrite_due",
        "timeout",
    )

    def __init__(self, shard: Shard, mark_changed: Callable[..., None]) -> None:
        super().__init__(shard, mark_changed)
        self.timeout: float | None = None  # seconds
        self.create = True  # whether an absent session's file is created
        self.present = False  # whether an absent session is SessionNotFound
        self.apart = True  # whether a commit is synced before it returns; else at the latest when the `with` is over
        self.put_off = False  # whether the sync of several commits is put off until `sync`
        self.append_only = False  # whether a grown journal is left to be rewritten later
        self.rewrite_due = False  # that was done
        self._waiting: Waiting | None = None  # for a sync that others do

    def __enter__(self) -> Self:
        """Lock and read. Raises NestedUpdate, LockTimeout, SessionNotFound, CorruptShard, StoreNotFound, StoreIOError.

        SessionNotFound also where there is no file and none was to be created. After an error nothing is held.
        """
        shard = self._shard
        mutex = shard.mutex
        token = self._token = (threading.get_ident(), mutex)
        began = time.monotonic()
        try:
            if not mutex.enter(token, self.timeout):
                raise shard.timed_out(began)
            file = shard.lock_at_once() or shard.lock_in_turn(began, self.timeout, create=self.create)
            if file is None:
                raise SessionNotFound(shard.key)
            if self.read:
                journal = self.journal = file.refresh(locked=True)
                state = self.state = journal.state
                if state.key != shard.key:
                    shard.check_key(journal)
                if self.present and state.fields is None:
                    raise SessionNotFound(shard.key)
        except BaseException as error:
            self._abort(error)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next writer in. Raises CommitUncertain where the sync that a commit shares fails."""
        shard, token = self._shard, self._token
        mutex, file = shard.mutex, shard.file
        waiting, self._waiting = self._waiting, None
        try:
            if shard.created and self._holds():
                shard.remove_if_empty()
            if file is not None and (mutex.holder.get(0) is token or self._holds()):
                file.lock.give()
        except OSError:
            # What was committed is committed: that the lock cannot be given back is no reason to deny it.
            # Closing the descriptor gives it back for certain.
            shard.drop_file()
        except BaseException:
            shard.drop_file()
            raise
        finally:
            shard.turn += 1
            self._unsynced, self.put_off, self.append_only, self.rewrite_due = 0, False, False, False
            mutex.leave(token)  # type: ignore[arg-type]
        if shard.retired:  # a spare would keep it alive in a circle, and its descriptor open
            shard.spare.clear()
        elif self.read and not shard.spare:  # one that reads nothing would take what is there for absent
            shard.spare.append(self)
        if waiting is not None:
            waiting.wait()
        elif file is not None and file.waiting and not mutex.queue:
            file.wake_one()
        if statx_wanted:
            load_statx()

    def abandon(self) -> None:
        """Unlock where an exception from outside came as `with` began or ended. Does nothing for another thread's.

        The traceback may keep this object for long. So it is not used again: dropped inside the next `with`, it would
        not be collected, and would not unlock.
        """
        self._shard.spare.clear()
        token = self._token
        if token is not None and token[0] == threading.get_ident():  # else it was left, and somebody else uses it again
            self._abort(None)

    def __del__(self) -> None:
        if getattr(self, "_token", None) is not None:  # not there where `__init__` was interrupted
            self._abort(None)

    def _abort(self, error: BaseException | None) -> None:
        """Release whatever was taken. An exception from outside may have come between any two steps."""
        shard, token = self._shard, self._token
        assert token is not None
        if not shard.mutex.holds(token):
            return
        try:
            if isinstance(error, SessionNotFound) and shard.file is not None:
                shard.file.lock.give()
            elif not isinstance(error, LockTimeout):
                shard.fair.forget()
                shard.drop_file()  # and with it a lock that was granted in this very moment
        except OSError:
            shard.drop_file()  # the lock could not be given back: closing the descriptor does it for certain
        finally:
            shard.turn += 1
            shard.mutex.leave(token)

    # Committing. REQUIRES, for everything below: inside `with`.

    def commit(  # noqa: C901  # every update comes here: a call more for a rare case would cost all of them
        self, change: Change, actor: str, *, durable: bool, at: int | None = None
    ) -> None:
        """Commit a change that leads to `state`. `at`: when it was made, in microseconds, if not now.

        Raises InvalidEntry, StoreFull, StoreIOError (nothing changed) or CommitUncertain (unknown until read again).
        """
        shard, journal = self._shard, self.journal
        file = shard.file
        if file is None or (shard.mutex.holder.get(0) is not self._token and not self._holds()):
            file = self._file()
        if change.delete and journal.state.log.settled.file:
            self._delete_with_log(change, actor, at)
            return
        end = journal.end
        # A record that says `durable` follows synced bytes. One that follows those of its group does not say so.
        proves = durable and not file.synced < end <= file.reach
        line, state = next_record(journal.state, change, shard.key, actor, durable=proves, at=at)
        if state.entry_bytes > ENTRY_BYTES_MAX:
            raise InvalidEntry("entry", f"{state.entry_bytes:,} bytes of JSON; at most {ENTRY_BYTES_MAX:,} are allowed")
        after = _new(Journal, (state, end + len(line), journal.records + 1, line[8:16], journal.crlf))
        self._mark_changed(shard.name, shard.key, journal.state)
        inline = state.log.bytes
        grown = after.end > REWRITE_BYTES + REWRITE_FACTOR * (state.entry_bytes + inline) or inline > SETTLE_BYTES
        if (grown or file.links > 1 or file.torn) and self._commit_otherwise(file, state, grown=grown, durable=durable):
            return
        later = None if end else self.syncs  # only the first record of a file has nothing before it
        try:
            if proves and later is None:
                self._sync_before(file, end)
            file.append(line, after, durable=durable)
            if later is not None:
                later.add_file(file, after.end)
            elif durable:
                self._sync(file, after.end)
        except CommitUncertain:
            shard.drop_file()
            raise
        except StoreFull:
            if state.fields is not None:
                raise
            self.remove(durable=durable)  # deleting must work on a full disk: no file is an absent session too
        self.journal, self.state = after, state

    def _sync(self, file: JournalFile, end: int) -> None:
        """Sync a commit, or have it share a sync with those that come behind it. Raises CommitUncertain."""
        if self.put_off and not self.apart:
            file.reach = self._unsynced = end
            return
        self._waiting = None if self.apart else file.share(end, behind=bool(self._shard.mutex.queue))
        if self._waiting is None:
            file.sync(end)

    def _sync_before(self, file: JournalFile, end: int) -> None:
        """Put on the medium what a durable record stands on. Where no descriptor is left, close idle ones first."""
        if not file.name_synced:
            self._shard.with_descriptor(file.sync_name)
        file.sync_before(end)

    def _delete_with_log(self, change: Change, actor: str, at: int | None) -> None:
        """Delete a session and the file of its log. Durable in any mode: the file must not go before the session."""
        state = self.journal.state
        self.journal = self.journal._replace(state=state._replace(log=NO_LOG))
        apart, self.apart = self.apart, True
        self.commit(change, actor, durable=True, at=at)
        self.apart = apart
        self._discard_log(state.log.settled.file)

    def _commit_otherwise(self, file: JournalFile, state: State, *, grown: bool, durable: bool) -> bool:
        """Repair a torn tail; commit by rewriting a grown journal or one with a second name. Return if that was done.

        A file with a second name is somebody's backup: it is copied, never written through.
        """
        if self.append_only:  # neither a torn tail nor a second name: `at_hand` looked
            self.rewrite_due = True
            return False
        self.sync()  # what was put off is in the file that may go now
        if file.links > 1 and not state.exists:
            self.remove(durable=durable)
            self.state = state
            return True
        self.repair_tail()
        worth = grown and (self.journal.records or state.log.bytes > SETTLE_BYTES)
        if not state.exists or (file.links == 1 and not worth):
            return False
        try:
            self.rewrite(state)
        except StoreIOError as error:
            # No inode, no descriptor, or it is another user's file in a shared store: it can grow a while longer.
            if error.errno not in _APPEND_INSTEAD or file.links > 1 or self.journal.end > FILE_BYTES_MAX // 2:
                raise
            return False
        except CorruptShard:  # the log's file, and that alone: fields and further items go on in the journal
            if file.links > 1 or self.journal.end > FILE_BYTES_MAX // 2:
                raise
            return False
        return True

    def tend(self) -> None:
        """Rewrite the journal if it has grown, as a commit would. Raises StoreIOError, CorruptShard."""
        file, state = self._file(), self.state
        if file.links == 1 and state.exists and _has_grown(self.journal.end, state):
            self.repair_tail()
            self.rewrite()


def _has_grown(end: int, state: State) -> bool:
    """Return whether a journal of `end` bytes is to be rewritten. `commit` has the same rule in its own words."""
    inline = state.log.bytes
    return end > REWRITE_BYTES + REWRITE_FACTOR * (state.entry_bytes + inline) or inline > SETTLE_BYTES
