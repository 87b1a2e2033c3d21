"""The engine: sessions in a dict, and the settled parts of their logs in lists."""

from __future__ import annotations

import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from shardstore import _codec as codec
from shardstore._inside import FifoMutex
from shardstore._keys import check_key
from shardstore._log import Settled
from shardstore._memory.changes import MemoryChanges, Notes
from shardstore._memory.transaction import MemoryBatch, MemoryTransaction
from shardstore._model import ABSENT
from shardstore.errors import InvalidQuery, LockTimeout, LogReplaced, SessionExists, SessionNotFound, ShardStoreError
from shardstore.reports import (
    Action,
    ArchivedFile,
    CompactReport,
    EraseReport,
    LockHolder,
    PurgeReport,
    StoreStats,
    VerifyReport,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardstore._log import Item, LogState
    from shardstore._model import State
    from shardstore._progress import Progress
    from shardstore.errors import CorruptShard
    from shardstore.query import Query
    from shardstore.session import SessionInfo

_HISTORY_BYTES: Final = 65536  # earlier revisions are kept up to this ...
_HISTORY_FACTOR: Final = 3  # ... plus so many times the bytes of the entry
_NOTES_MAX: Final = 10_000  # changes that `compact` leaves for watchers
_engines: Final[weakref.WeakSet[MemoryEngine]] = weakref.WeakSet()


class MemoryEngine:
    """Sessions in a dict."""

    location = "memory:"
    root = None
    remote = False

    def __init__(self) -> None:
        self.process = str(os.getpid())
        self.sessions: dict[str, list[State]] = {}  # by key: its revisions since it was made or rewritten
        self.archive: list[tuple[float, list[State]]] = []  # when it was archived, in seconds, and its revisions
        self.logs = MemoryLogs()
        self.notes = Notes()
        self._mutexes: dict[str, FifoMutex] = {}
        _engines.add(self)

    # Sessions

    def place(self, key: str) -> None:
        """Return None: a session has no file."""
        check_key(key)

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> MemoryTransaction:
        """Return a transaction on a session."""
        check_key(key)
        mutex = self._mutexes.setdefault(key, FifoMutex(key, f"{id(self)}:{key}"))
        return MemoryTransaction(self, key, mutex, timeout, create=create)

    def read(self, key: str) -> State:
        """Return a session's committed state."""
        check_key(key)
        states = self.sessions.get(key)
        return states[-1] if states else ABSENT

    def is_ready(self, key: str) -> bool:
        """Return True: reading takes no time."""
        check_key(key)
        return True

    def at_hand(self, key: str) -> MemoryTransaction | None:
        """Return a transaction that is inside, if nobody else is; None where somebody is."""
        txn = self.transaction(key, 0.0)
        try:
            return txn.__enter__()
        except ShardStoreError:
            return None

    def group(self, key: str, timeout: float | None, *, create: bool) -> MemoryTransaction:  # noqa: ARG002
        """Return a transaction that may commit more than once."""
        return self.transaction(key, timeout)

    def tend(self, key: str, timeout: float | None) -> None:
        """Return at once: nothing was left."""

    def batch(self, *, durable: bool) -> MemoryBatch:  # noqa: ARG002  # nothing here survives anything
        """Return a batch."""
        return MemoryBatch(self)

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, State]]:
        """Yield each key once, with its committed state."""
        for key in sorted(set(keys)):
            yield key, self.read(key)

    def damaged(self, prefix: str, *, refresh: bool) -> Iterator[CorruptShard]:  # noqa: ARG002
        """Yield nothing: memory is never damaged."""
        return iter(())

    def size_of(self, key: str) -> int:
        """Return the bytes of a session's entry."""
        return self.read(key).size

    def remarks(self, key: str) -> list[str]:
        """Return nothing: memory is never odd."""
        check_key(key)
        return []

    def history(self, key: str) -> list[State]:
        """Return the revisions of the present incarnation, oldest first."""
        present = self.read(key)
        states = self.sessions.get(key, []) if present.exists else []
        return [state for state in list(states) if state.incarnation == present.incarnation]

    # Watching

    def token(self, *, write: bool) -> str:  # noqa: ARG002
        """Return where the store is now."""
        return self.notes.token(self.notes.end)

    def changes(self, prefix: str, since: str | None, *, write: bool) -> MemoryChanges:  # noqa: ARG002
        """Return the changes from a token on, or from now on. Raises WatchExpired."""
        place = self.notes.end if since is None else self.notes.place(since)
        return MemoryChanges(self, prefix, place)

    def changes_in(self, key: str | None) -> None:
        """Return None: nothing is written anywhere."""

    # Lists

    def select(self, query: Query, *, refresh: bool, progress: Progress | None) -> list[SessionInfo]:  # noqa: ARG002
        """Return the sessions that answer a query."""
        matching = [one for state in self._present() if (one := query.candidate_of(state)) is not None]
        found = sorted(matching, key=query.rank)[query.offset : query.stop]
        return [query.info(one) for one in found]

    def count(self, query: Query, *, refresh: bool, progress: Progress | None) -> int:
        """Return how many sessions answer a query, limits aside."""
        del refresh, progress
        return sum(query.candidate_of(state) is not None for state in self._present())

    def reindex(self, fields: tuple[str, ...], progress: Progress | None) -> None:
        """Change nothing: every list reads every session."""

    def keys(self, *, refresh: bool, progress: Progress | None) -> Iterator[str]:  # noqa: ARG002
        """Return every key in ascending order."""
        return iter(sorted(str(state.key) for state in self._present()))

    def _present(self) -> list[State]:
        newest = [states[-1] for states in list(self.sessions.values())]
        return [state for state in newest if state.exists]

    # Maintenance

    def compact(self, *, dry_run: bool, progress: Progress | None, scan_progress: Progress | None) -> CompactReport:  # noqa: ARG002
        """Forget deleted sessions, and the earlier revisions of those that have many."""
        keys, actions = list(self.sessions), []
        for done, key in enumerate(keys):
            if progress is not None:
                progress(done, len(keys))
            action = self._tend(key, dry_run=dry_run)
            if action is not None:
                actions.append(action)
        if not dry_run:
            self.notes.trim(_NOTES_MAX)
        if progress is not None:
            progress(len(keys), len(keys))
        return CompactReport(dry_run, tuple(actions), sum(action.bytes_freed for action in actions))

    def _tend(self, key: str, *, dry_run: bool) -> Action | None:
        try:
            with self.transaction(key, 0.0) as txn:
                states = self.sessions.get(key, [])
                size = sum(state.size for state in states)
                if not txn.state.exists:
                    action = Action("drop-tombstone", key, size, "deleted", bytes_freed=size)
                elif size > _HISTORY_BYTES + _HISTORY_FACTOR * txn.state.size:
                    action = Action(
                        "rewrite", key, size, f"{len(states):,} revisions", bytes_freed=size - txn.state.size
                    )
                else:
                    return None
                if not dry_run:
                    self.sessions[key] = states[-1:]
                    if not txn.state.exists:
                        del self.sessions[key]  # which no watcher sees
                return action
        except LockTimeout:
            return None

    def erase_history(self, key: str, timeout: float | None) -> EraseReport:
        """Forget what a session was before."""
        with self.transaction(key, timeout, create=False) as txn:
            txn.forget_past()
            self.archive = [one for one in self.archive if one[1][-1].key != key]
        return EraseReport(key, (), ())

    def restore(self, key: str, timeout: float | None) -> State:
        """Bring back the newest archived copy of a session."""
        with self.transaction(key, timeout) as txn:
            if txn.state.exists:
                raise SessionExists(key)
            for one in reversed(self.archive):
                if one[1][-1].key == key:
                    self.archive.remove(one)  # by what it is: another thread may restore one in front of it
                    self.sessions[key] = one[1]
                    self.notes.add(key, ABSENT)
                    return one[1][-1]
        raise SessionNotFound(key)

    def archived(self, prefix: str | None) -> list[ArchivedFile]:
        """Return the archived sessions, the oldest first."""
        if prefix is not None and type(prefix) is not str:
            raise InvalidQuery(f"prefix is a str, not {type(prefix).__name__}")
        found = [ArchivedFile("archive", f"archive/{n}", states[-1].key, states[-1].size, moved_at)
                 for n, (moved_at, states) in enumerate(self.archive)]  # fmt: skip
        return [one for one in found if not prefix or (one.key or "").startswith(prefix)]

    def purge_archive(
        self, older_than: float, *, prefix: str | None, dry_run: bool, progress: Progress | None
    ) -> PurgeReport:
        """Remove for good the sessions archived longer ago than this."""
        limit = time.time() - older_than
        gone = [one for one in self.archived(prefix) if one.moved_at <= limit]
        keys = {(one.key, one.moved_at) for one in gone}
        if not dry_run:
            self.archive = [one for one in self.archive if (one[1][-1].key, one[0]) not in keys]
        if progress is not None:
            progress(len(gone), len(gone))
        return PurgeReport(dry_run, tuple(gone), sum(one.size for one in gone))

    def verify(self, *, repair: bool, note: bool, progress: Progress | None) -> VerifyReport:  # noqa: ARG002
        """Count: there is nothing that could be damaged."""
        states = list(self.sessions.values())
        return VerifyReport((), (), len(states), sum(map(len, states)), len(self._present()))

    def stats(self, *, refresh: bool, progress: Progress | None) -> StoreStats:  # noqa: ARG002
        """Return counts and sizes."""
        present = self._present()
        size = sum(state.size + sum(len(item.raw) for item in self.logs.all(state.log)) for state in present)
        return StoreStats(
            sessions=len(present),
            tombstones=len(self.sessions) - len(present),
            bytes_live=size,
            bytes_dead=0,
            bytes_total=size,
            pending_changes=0,
            archived=len(self.archive),
            quarantined=0,
            damaged=(),
            index_unusable=None,
            format=1,
        )

    def holders(self) -> list[LockHolder]:
        """Return whose locks are held: all by this process."""
        held = [key for key, mutex in self._mutexes.copy().items() if not mutex.is_free()]
        return [LockHolder(key, self.location, os.getpid()) for key in held]

    # Life

    def join(self) -> None:
        """Count nothing: the last Store object takes the engine with it."""

    def leave(self) -> None:
        """Close nothing: a Store that was closed raises StoreClosed by itself."""

    def after_fork(self) -> None:
        """Forget the parent's threads."""
        self.process = str(os.getpid())
        for mutex in self._mutexes.values():
            mutex.after_fork()
        self.notes.after_fork()


class MemoryLogs:
    """The settled parts of logs, as the file engine has them in files: lists that only grow, or are replaced."""

    def __init__(self) -> None:
        self._files: dict[str, list[Item]] = {}
        self._numbers: dict[str, dict[str, int]] = {}  # of the items with an id, by file and id

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (MemoryLogs, ())  # elsewhere nothing is known of what lies in this memory

    def read(self, key: str, log: LogState, start: int, stop: int) -> list[Item]:
        """Return the settled items of these numbers. Raises LogReplaced."""
        file, first = self._files.get(log.settled.file), log.settled.first
        if file is None:
            raise LogReplaced(key)
        return file[start - first : stop - first]

    def values(self, key: str, log: LogState, start: int, stop: int) -> list[Any]:
        """Return the values of the same items. Raises LogReplaced."""
        return [codec.loads(item.raw) for item in self.read(key, log, start, stop)]

    def number_of(self, key: str, log: LogState, name: str) -> int | None:
        """Return the number of the settled item with this id that stands."""
        numbers = self._numbers.get(log.settled.file)
        if numbers is None:
            raise LogReplaced(key)
        number = numbers.get(name)
        return number if number is not None and log.dropped <= number < log.kept else None

    def all(self, log: LogState) -> list[Item]:
        """Return every item that stands, with its newest value."""
        found = self.read("", log, log.dropped, log.kept) if log.kept > log.dropped else []
        newest = [log.replaced.get(number) for number in range(log.dropped, log.kept)]
        return [new._replace(id=old.id) if new else old for old, new in zip(found, newest, strict=True)] + [
            *log.pending
        ]

    def settle(self, log: LogState) -> Settled:
        """Put the whole log in its list, or in a new one; return where it stands then."""
        if log.appends_to_file:
            file_id, first, added = log.settled.file, log.settled.first, log.pending
            del self._files[file_id][log.settled.lines :]
        else:
            file_id, first, added = os.urandom(8).hex(), log.dropped, tuple(self.all(log))
        file = self._files.setdefault(file_id, [])
        numbers = self._numbers.setdefault(file_id, {})
        numbers.update({item.id: n for n, item in enumerate(added, first + len(file)) if item.id is not None})
        file.extend(added)
        return Settled(file_id, len(file), 0, first)

    def replace(self, old: LogState, new: LogState) -> None:
        """Forget the list that a log had, if it has another one now. Whoever still reads it gets LogReplaced."""
        if old.settled.file != new.settled.file:
            self._files.pop(old.settled.file, None)
            self._numbers.pop(old.settled.file, None)


def _after_fork() -> None:
    for engine in list(_engines):
        engine.after_fork()


os.register_at_fork(after_in_child=_after_fork)
