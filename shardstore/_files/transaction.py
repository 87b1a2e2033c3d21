"""A transaction on one session in files: lock, read what is on the disk now, commit, unlock.

    with engine.transaction(key, timeout) as txn:     wait for the other writers of this session, and for nobody else
        txn.state                                     what is committed now
        txn.commit(change, actor, durable=True)       append it, or rewrite the grown journal

Whatever changes a shard's file does so through a method of this class, and each begins by telling the index: nobody
can forget it. docs/internals/locking.md has the steps.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from shardstore import _events as events
from shardstore._codec import ENTRY_BYTES_MAX
from shardstore._files import disk
from shardstore._files.file import FILE_BYTES_MAX, JournalFile
from shardstore._files.layout import QUARANTINE, log_file, log_path, stamped_name, temp_name
from shardstore._files.locks.identity import load_statx, statx_wanted
from shardstore._files.logfile import LogFiles, discard, give_name
from shardstore._journal.record import next_record, whole_record
from shardstore._journal.replay import EMPTY, Journal, with_key
from shardstore._log import NO_LOG, NOWHERE, SETTLE_BYTES, moved_to
from shardstore._model import ABSENT, UNKNOWN, UNSEEN
from shardstore.errors import (
    CommitUncertain,
    CorruptShard,
    InvalidEntry,
    LockTimeout,
    SessionNotFound,
    ShardStoreError,
    StoreClosed,
    StoreFull,
    StoreIOError,
    raise_io_error,
    raise_uncertain,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.shard import Shard
    from shardstore._files.synced import Waiting
    from shardstore._files.syncs import Syncs
    from shardstore._inside import Token
    from shardstore._model import Change, State

REWRITE_BYTES: Final = 65536  # a journal is rewritten past this ...
REWRITE_FACTOR: Final = 3  # ... plus so many times the bytes of its entry, and of its log's items that stand in it
_APPEND_INSTEAD: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EPERM, errno.EACCES, errno.EMFILE, errno.ENFILE})
_new = tuple.__new__


class FileTransaction:
    """One session, locked from `with` to its end. Used by one thread; after that by the next transaction.

    Dropped while it is inside (an exception from outside came before `with` could note that it entered, or before
    `__exit__` began), it unlocks the session when it is collected: nobody else refers to it.
    """

    __slots__ = (
        "_mark_changed",
        "_shard",
        "_token",
        "_unsynced",
        "_waiting",
        "apart",
        "append_only",
        "create",
        "journal",
        "present",
        "put_off",
        "read",
        "rewrite_due",
        "state",
        "syncs",
        "timeout",
    )

    def __init__(self, shard: Shard, mark_changed: Callable[..., None]) -> None:
        self._shard = shard
        self._mark_changed = mark_changed  # tells the index; may raise, then nothing is committed
        self._token: Token | None = None
        self.journal: Journal = EMPTY
        self.state: State = ABSENT
        self.timeout: float | None = None  # seconds
        self.create = True  # whether an absent session's file is created
        self.present = False  # whether an absent session is SessionNotFound
        self.read = True  # whether the journal is read first; a damaged one cannot be
        self.syncs: Syncs | None = None  # of the batch that this is part of, where its syncs may wait
        self.apart = True  # whether a commit is synced before it returns; else at the latest when the `with` is over
        self.put_off = False  # whether the sync of several commits is put off until `settle`
        self.append_only = False  # whether a grown journal is left to be rewritten later
        self.rewrite_due = False  # that was done
        self._unsynced = 0  # where the last record ends whose sync was put off
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
        """Unlock where an exception from outside came as `with` began or ended. Does nothing for another thread's."""
        token = self._token
        if token is not None and token[0] == threading.get_ident():  # else it was left, and somebody else uses it again
            self._abort(None)

    def __del__(self) -> None:
        if getattr(self, "_token", None) is not None:  # not there where `__init__` was interrupted
            self._abort(None)

    def _holds(self) -> bool:
        """Return whether this process is inside: not in a child that was forked meanwhile."""
        return self._token is not None and self._shard.mutex.holds(self._token)

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
        """Commit a change; `state` is what it led to. `at`: when it was made, in microseconds, if not now.

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

    def settle(self) -> None:
        """Sync what was put off. Raises CommitUncertain: then none of it is known to be on the medium."""
        end, self._unsynced = self._unsynced, 0
        if not end:
            return
        try:
            self._file().sync(end)
        except CommitUncertain:
            self._shard.drop_file()
            raise

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
        self.settle()  # what was put off is in the file that may go now
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

    def rewrite(self, state: State | None = None, *, anew: bool = False) -> None:
        """Put a journal of one record in the file's place: the present state, or the one given.

        The log's items in the journal move to its file when they have grown too many; with `anew` all of the log moves
        to a new one. What was written there before is on the medium before the journal names it.
        """
        shard, file = self._shard, self._file()
        before = self.journal.state.log.settled.file
        state = self._settled(self.journal.state if state is None else state, anew=anew)
        self.mark_changed()
        line = whole_record(state)
        after = Journal(state, len(line), 1, line[8:16])
        temp = shard.layout.shard_path(temp_name(shard.name))
        try:
            fresh = shard.with_descriptor(lambda: file.replace(temp, line, after))
        except BaseException:
            made = state.log.settled.file
            if made and made != before and self._is_still(file):
                self._discard_log(made)
            raise
        self._go_on_with(fresh)
        if before and before != state.log.settled.file:
            self._discard_log(before)
        events.note("journal", events.INFO, "rewrote session %r in %d bytes", shard.key, len(line))

    def _settled(self, state: State, *, anew: bool) -> State:
        """Return the state with its log where it is to stand from now on. Raises StoreIOError, CorruptShard."""
        log, name = state.log, self._shard.name
        if anew:
            return state._replace(log=moved_to(log, self._logs.rewrite(name, self._shard.key, log)))
        if log.bytes > SETTLE_BYTES:
            return state._replace(log=moved_to(log, self._logs.settle(name, self._shard.key, log)))
        return (
            state._replace(log=log._replace(settled=NOWHERE)) if log.settled.file and log.kept == log.dropped else state
        )

    @property
    def _logs(self) -> LogFiles:
        return self._shard.logs

    def _is_still(self, file: JournalFile) -> bool:
        """Return whether a journal was not replaced after all, so that nothing names what was made for the new one."""
        try:
            return file.is_named(self._shard.named.current())
        except OSError:
            return False

    def _discard_log(self, file_id: str) -> None:
        """Remove a log file that no journal names any more. Whoever still reads it gets LogReplaced.

        In a batch the names wait to be synced, and until then a power cut may bring back a journal that names it.
        """
        self.sync_waiting_names()
        self._logs.forget(file_id)
        discard(log_path(self._shard.layout, self._shard.name, file_id))

    def take_in(self, fresh: JournalFile) -> None:
        """Put another journal file, locked and read, in the place of this one; it is closed where that fails.

        Raises StoreIOError, CommitUncertain.
        """
        shard = self._shard
        try:
            self._mark_changed(shard.name, shard.key, self.state)
            os.rename(fresh.path, shard.path)
        except BaseException as error:
            fresh.close()
            if isinstance(error, OSError) and not isinstance(error, ShardStoreError):
                raise_io_error(error, "restoring a session", fresh.path)
            raise
        fresh.path = shard.path
        self._go_on_with(fresh)

    def _go_on_with(self, fresh: JournalFile) -> None:
        """Use the file that has the name by now, and put the name on the medium. Raises CommitUncertain."""
        shard = self._shard
        shard.swap(fresh)
        self.journal = fresh.journal
        self.state = fresh.journal.state
        if self.syncs is not None and self.syncs.durable:
            self.syncs.add_names(os.path.dirname(shard.path))
            return
        try:
            shard.with_descriptor(fresh.sync_name)
        except CommitUncertain:
            shard.drop_file()
            raise

    def remove(self, *, durable: bool = True) -> None:
        """Remove the file: the session is absent from then on, and its next incarnation begins a new journal."""
        path, log = self._shard.path, self.journal.state.log.settled.file
        self.settle()
        self.mark_changed()
        try:
            os.unlink(path)
        except OSError as error:
            raise_io_error(error, "removing a shard", path)
        self._is_gone()
        if durable or log:  # or the journal might come back after a power cut, without its log
            self._sync_names("removing a shard")
        if log:
            self._discard_log(log)

    def rename(self, target: Self) -> None:
        """Move the session, with its history, to the key of `target`; this one is absent from then on.

        First the target is complete and on the medium, then this one goes. Raises StoreIOError, CommitUncertain.
        REQUIRES: `target` is absent, or at the same version: the same call was interrupted.
        """
        if not target.state.exists:
            self._give_to(target)
        self.remove()

    def _give_to(self, target: Self) -> None:
        """Write the target's files from the ones of this session."""
        shard, file, other = self._shard, self._file(), target._shard
        target.repair_tail()
        data, after = with_key(self.read_whole()[: self.journal.end], other.key)
        target._mark_changed(other.name, other.key, target.state)
        log = self.state.log.settled.file
        if log:
            self._give_log(log_path(shard.layout, other.name, log))
        temp = shard.layout.shard_path(temp_name(other.name))
        target._go_on_with(other.with_descriptor(lambda: file.replace(temp, data, after, other.path)))

    def replace_by(self, data: bytes, after: Journal, temp: str) -> None:
        """Put a whole journal in the file's place, by way of `temp`. Raises StoreIOError, CommitUncertain."""
        shard, file = self._shard, self._file()
        self.repair_tail()
        self._mark_changed(shard.name, shard.key, self.state)
        self._go_on_with(shard.with_descriptor(lambda: file.replace(temp, data, after)))

    def _give_log(self, path: str) -> None:
        """Link the log's file to a second name, where the session will be, on the medium. Raises StoreIOError."""
        try:
            source = log_path(self._shard.layout, self._shard.name, self.state.log.settled.file)
            self._shard.with_descriptor(lambda: give_name(source, path))
        except OSError as error:
            raise_io_error(error, "moving a log", path)

    def archive(self) -> None:
        """Move the session to archive/, whole, under a name that says when. It is absent from then on."""
        layout, name, log = self._shard.layout, self._shard.name, self.state.log.settled.file
        if log:
            try:
                disk.make_directory(layout.archive)
            except OSError as error:
                raise_io_error(error, "archiving a session", str(layout.archive))
            self._give_log(str(layout.archive / log_file(name, log)))
        self.move_to(str(layout.archive / stamped_name(name)), "archiving a session")
        if log:
            self._discard_log(log)

    def move_to(self, target: str, doing: str) -> None:
        """Move the file out of the store's shards; `doing` completes an error's "while ..."."""
        path = self._shard.path
        self.mark_changed()
        try:
            disk.make_directory(os.path.dirname(target))
            os.rename(path, target)
        except OSError as error:
            raise_io_error(error, doing, path)
        self._is_gone()
        self._sync_names(doing, moved_to=os.path.dirname(target))

    def sync_waiting_names(self) -> None:
        """Put on the medium the names of this session that its batch has put off. Raises CommitUncertain."""
        if self.syncs is None:
            return
        try:
            if self._shard.layout.archive.exists():
                disk.sync_directory(str(self._shard.layout.archive))
            disk.sync_directory(os.path.dirname(self._shard.path))
        except OSError as error:
            raise_uncertain(error, "syncing a batch", self._shard.path)

    def _sync_names(self, doing: str, moved_to: str | None = None) -> None:
        """Put the name that the file lost, and before it the one that it got, on the medium, or leave it to the batch.

        Raises CommitUncertain.
        """
        path = self._shard.path
        if self.syncs is not None:
            self.syncs.add_names(os.path.dirname(path), moved_to)
            return
        try:
            # The new name first: between the two syncs a power cut may leave both names, never none.
            if moved_to is not None:
                disk.sync_directory(moved_to)
            disk.sync_directory(os.path.dirname(path))
        except OSError as error:
            raise_uncertain(error, doing, path)

    def cover(self) -> None:
        """Put what was read on the medium, or leave it to the batch: its writer may have died before its sync.

        Raises CommitUncertain.
        """
        file = self._file()
        if self.syncs is not None and self.journal.records == 1:
            self.syncs.add_file(file, self.journal.end)
        else:
            file.sync_before(self.journal.end)

    def _is_gone(self) -> None:
        self.journal, self.state = EMPTY, ABSENT

    def keep_copy(self, target: str) -> None:
        """Link the file to a second name, outside the store's shards, before it is replaced. Raises StoreIOError."""
        try:
            disk.make_directory(os.path.dirname(target))
            os.link(self._shard.path, target)
            disk.sync_directory(os.path.dirname(target))
        except OSError as error:
            raise_io_error(error, "keeping a damaged shard in quarantine", target)

    def trim(self) -> int:
        """Return unused space to the file system; return the bytes freed."""
        return self._file().trim(self.journal.end)

    def repair_tail(self) -> None:
        """Keep the torn tail, if there is one, in quarantine/ and cut it off."""
        file, shard = self._file(), self._shard
        if file.torn:
            self.mark_changed()
            kept_as = f"{shard.layout.root}/{QUARANTINE}/{stamped_name(shard.name)}"
            file.repair_tail(kept_as, self.journal.end)
            events.note("journal", events.WARNING, "cut a torn commit off session %r; it is in %s", shard.key, kept_as)

    def read_whole(self) -> bytes:
        """Return the file's bytes, for salvage. Raises StoreIOError."""
        file = self._file()
        try:
            return disk.read_all(file.fd, 0, file.size)
        except OSError as error:
            raise_io_error(error, "reading a damaged shard", self._shard.path)

    @property
    def key(self) -> str:
        """The session's."""
        return self._shard.key

    @property
    def token(self) -> Token | None:
        """What stands for this visit in the nesting guard."""
        return self._token

    @property
    def size(self) -> int:
        """The bytes of the session's files: its journal, and what is settled of its log."""
        return self._file().size + self.journal.state.log.settled.end

    @property
    def journal_size(self) -> int:
        """The bytes of the journal's file."""
        return self._file().size

    def mark_changed(self) -> None:
        """Mark the session changed, before its files change otherwise than by a commit, or because they are damaged."""
        shard, state = self._shard, self.state
        seen = state if state.exists else UNSEEN if self.read else UNKNOWN
        self._mark_changed(shard.name, state.key or shard.key, seen)

    def _file(self) -> JournalFile:
        """Return the file whose lock is held."""
        file = self._shard.file
        if file is None or not self._holds():
            raise StoreClosed("this process does not hold the lock any more: it forked inside the update")
        return file


def _has_grown(end: int, state: State) -> bool:
    """Return whether a journal of `end` bytes is to be rewritten. `commit` has the same rule in its own words."""
    inline = state.log.bytes
    return end > REWRITE_BYTES + REWRITE_FACTOR * (state.entry_bytes + inline) or inline > SETTLE_BYTES
