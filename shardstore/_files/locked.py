"""The files of one session while its lock is held: rewritten, moved, removed, repaired.

Whatever replaces or removes a shard's file does so through a method of this class, and each begins by telling the
index: nobody can forget it. Commits are in transaction.py.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from shardstore import _events as events
from shardstore._files import disk
from shardstore._files.layout import QUARANTINE, log_file, log_path, stamped_name, temp_name
from shardstore._files.logfile import LogFiles, discard, give_name
from shardstore._journal.record import whole_record
from shardstore._journal.replay import EMPTY, Journal, with_key
from shardstore._log import NOWHERE, SETTLE_BYTES, moved_to
from shardstore._model import ABSENT, UNKNOWN, UNSEEN
from shardstore.errors import CommitUncertain, ShardStoreError, StoreClosed, raise_io_error, raise_uncertain

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.file import JournalFile
    from shardstore._files.shard import Shard
    from shardstore._files.syncs import Syncs
    from shardstore._inside import Token
    from shardstore._model import State


class LockedFiles:
    """The files of a session whose lock is held: rewrite, archive, rename, remove, repair.

    REQUIRES, for every method: the lock is held. FileTransaction takes it and gives it back.
    """

    __slots__ = ("_mark_changed", "_shard", "_token", "_unsynced", "journal", "read", "state", "syncs")

    def __init__(self, shard: Shard, mark_changed: Callable[..., None]) -> None:
        self._shard = shard
        self._mark_changed = mark_changed  # tells the index; may raise, then nothing is committed
        self._token: Token | None = None
        self.journal: Journal = EMPTY
        self.state: State = ABSENT
        self.read = True  # whether the journal is read first; a damaged one cannot be
        self.syncs: Syncs | None = None  # of the batch that this is part of, where its syncs may wait
        self._unsynced = 0  # where the last record ends whose sync was put off

    def _holds(self) -> bool:
        """Return whether this process is inside: not in a child that was forked meanwhile."""
        return self._token is not None and self._shard.mutex.holds(self._token)

    def _file(self) -> JournalFile:
        """Return the file whose lock is held."""
        file = self._shard.file
        if file is None or not self._holds():
            raise StoreClosed("this process does not hold the lock any more: it forked inside the update")
        return file

    def sync(self) -> None:
        """Sync the commits whose sync was put off. Raises CommitUncertain: then none is known to be on the medium."""
        end, self._unsynced = self._unsynced, 0
        if not end:
            return
        try:
            self._file().sync(end)
        except CommitUncertain:
            self._shard.drop_file()
            raise

    # Another file in the journal's place

    def rewrite(self, state: State | None = None, *, new_log: bool = False) -> None:
        """Put a journal of one record in the file's place: the present state, or the one given.

        The log's items in the journal move to its file when they have grown too many; `new_log` moves
        all of them to a new file. The log file is on the medium before the journal names it.
        """
        shard, file = self._shard, self._file()
        before = self.journal.state.log.settled.file
        state = self._settled(self.journal.state if state is None else state, new_log=new_log)
        line = whole_record(state)
        after = Journal(state, len(line), 1, line[8:16])
        temp = shard.layout.shard_path(temp_name(shard.name))
        try:
            self.mark_changed()
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

    def _settled(self, state: State, *, new_log: bool) -> State:
        """Return the state with its log where it is to stand from now on. Raises StoreIOError, CorruptShard."""
        log, name = state.log, self._shard.name
        if new_log:
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
        """Return whether a journal was not replaced after all. Then no journal names the new log file."""
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

    def replace_by(self, data: bytes, after: Journal, temp: str) -> None:
        """Put a whole journal in the file's place, by way of `temp`. Raises StoreIOError, CommitUncertain."""
        shard, file = self._shard, self._file()
        self.repair_tail()
        self._mark_changed(shard.name, shard.key, self.state)
        self._go_on_with(shard.with_descriptor(lambda: file.replace(temp, data, after)))

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

    # Moved and removed

    def remove(self, *, durable: bool = True) -> None:
        """Remove the file: the session is absent from then on, and its next incarnation begins a new journal."""
        path, log = self._shard.path, self.journal.state.log.settled.file
        self.sync()
        self.mark_changed(removes=True)
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
        if target.state.exists:
            target.cover()  # who made it may have died before the sync, and a power cut could leave neither
        else:
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
                disk.add_directory(layout.archive)
            except OSError as error:
                raise_io_error(error, "archiving a session", str(layout.archive))
            self._give_log(str(layout.archive / log_file(name, log)))
        self.move_to(str(layout.archive / stamped_name(name)), "archiving a session")
        if log:
            self._discard_log(log)

    def move_to(self, target: str, doing: str) -> None:
        """Move the file out of the store's shards; `doing` completes an error's "while ..."."""
        path = self._shard.path
        self.mark_changed(removes=True)
        try:
            disk.add_directory(os.path.dirname(target))
            os.rename(path, target)
        except OSError as error:
            raise_io_error(error, doing, path)
        self._is_gone()
        self._sync_names(doing, moved_to=os.path.dirname(target))

    def _is_gone(self) -> None:
        self.journal, self.state = EMPTY, ABSENT

    # Names on the medium

    def cover(self) -> None:
        """Put the journal as read on the medium, or leave it to the batch: its writer may have died before its sync.

        Raises CommitUncertain.
        """
        file = self._file()
        if self.syncs is not None and self.journal.records == 1:
            self.syncs.add_file(file, self.journal.end)
        else:
            file.sync_before(self.journal.end)

    def sync_waiting_names(self) -> None:
        """Put on the medium the names of this session that its batch has put off. Raises CommitUncertain."""
        if self.syncs is None:
            return
        try:
            if disk.exists(self._shard.layout.archive):
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

    # Repaired

    def keep_copy(self, target: str) -> None:
        """Link the file to a second name, outside the store's shards, before it is replaced. Raises StoreIOError."""
        try:
            disk.add_directory(os.path.dirname(target))
            os.link(self._shard.path, target)
            disk.sync_directory(os.path.dirname(target))
        except OSError as error:
            raise_io_error(error, "keeping a damaged shard in quarantine", target)

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

    def trim(self) -> int:
        """Return unused space to the file system; return the bytes freed."""
        return self._file().trim(self.journal.end)

    def mark_changed(self, *, removes: bool = False) -> None:
        """Mark the session changed, before its files change otherwise than by a commit, or because they are damaged.

        removes: nothing of the session will be left, so a watcher learns by this line that it was there.
        """
        shard, state = self._shard, self.state
        seen = state if state.exists else UNSEEN if self.read else UNKNOWN
        self._mark_changed(shard.name, state.key or shard.key, seen, again=removes and state.exists)

    # Seen

    @property
    def key(self) -> str:
        """The session's."""
        return self._shard.key

    @property
    def token(self) -> Token | None:
        """The token of this visit in the nesting guard."""
        return self._token

    @property
    def size(self) -> int:
        """The bytes of the session's files: its journal and its log file."""
        return self._file().size + self.journal.state.log.settled.end

    @property
    def journal_size(self) -> int:
        """The bytes of the journal's file."""
        return self._file().size
