"""The memory engine: a store that lives in one object, for the tests of whoever uses shardstore.

The same verbs, errors and values as in files: a mutex a session, the nesting guard, history, the archive, lists.
Nothing is on disk, nothing is seen by another process, and a forked child has a copy of its own.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Self

from shardstore._codec import ENTRY_BYTES_MAX
from shardstore._inside import FifoMutex, Token, new_token
from shardstore._journal.record import next_record
from shardstore._keys import check_key
from shardstore._log import SETTLE_BYTES, Item, LogState, Settled, moved_to
from shardstore._model import ABSENT, NEVER_WAS, Seen, seen_of
from shardstore.errors import (
    InvalidEntry,
    InvalidQuery,
    LockTimeout,
    LogReplaced,
    SessionExists,
    SessionNotFound,
    ShardStoreError,
    StoreClosed,
    WatchExpired,
)
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

    from shardstore._model import Change, State
    from shardstore.engine import Progress, Transaction
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
        """Return what is committed of a session."""
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
        """Do nothing: nothing was left."""

    def batch(self, *, durable: bool) -> MemoryBatch:  # noqa: ARG002  # nothing here survives anything
        """Return a batch."""
        return MemoryBatch(self)

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, State]]:
        """Yield each key once, with what is committed of it."""
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
        """Return what changes from a token on, or from now on. Raises WatchExpired."""
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
        """Bring back what was archived last of a session."""
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
        """Return what was archived, the oldest first."""
        if prefix is not None and type(prefix) is not str:
            raise InvalidQuery(f"prefix is a str, not {type(prefix).__name__}")
        found = [ArchivedFile("archive", f"archive/{n}", states[-1].key, states[-1].size, moved_at)
                 for n, (moved_at, states) in enumerate(self.archive)]  # fmt: skip
        return [one for one in found if not prefix or (one.key or "").startswith(prefix)]

    def purge_archive(
        self, older_than: float, *, prefix: str | None, dry_run: bool, progress: Progress | None
    ) -> PurgeReport:
        """Remove for good what was archived longer ago than this."""
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
        held = [key for key, mutex in list(self._mutexes.items()) if not mutex.is_free()]
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


class Notes:
    """Which sessions changed, in order, for watchers: the key, and what was seen of it before."""

    def __init__(self) -> None:
        self._notes: list[tuple[str, str]] = []
        self._dropped = 0
        self._id = os.urandom(8).hex()
        self._mutex = threading.RLock()  # re-entrant: a signal handler may commit in the middle of another commit

    def add(self, key: str, before: State) -> None:
        """Note a change. REQUIRES: inside the session's lock, after the change: whoever sees the note sees it too."""
        with self._mutex:
            self._notes.append((key, seen_of(before)))

    @property
    def end(self) -> int:
        """How many changes there were."""
        with self._mutex:
            return self._dropped + len(self._notes)

    def since(self, place: int) -> list[tuple[str, str]]:
        """Return the changes behind a place. Raises WatchExpired."""
        with self._mutex:
            if not self._dropped <= place <= self._dropped + len(self._notes):
                raise WatchExpired
            return self._notes[place - self._dropped :]

    def token(self, place: int) -> str:
        """Return a place as a text."""
        return f"memory.{self._id}.{place}"

    def place(self, token: str) -> int:
        """Return the place that a token is of. Raises WatchExpired."""
        head, _, place = token.rpartition(".")
        if head != f"memory.{self._id}" or not place.isdecimal():
            raise WatchExpired
        self.since(int(place))
        return int(place)

    def trim(self, count: int) -> None:
        """Forget all but the newest."""
        with self._mutex:
            more = max(0, len(self._notes) - count)
            self._dropped += more
            del self._notes[:more]

    def after_fork(self) -> None:
        """Forget the parent's threads."""
        self._mutex = threading.RLock()


class MemoryChanges:
    """What changes from a place in the notes on."""

    def __init__(self, engine: MemoryEngine, prefix: str, place: int) -> None:
        self._engine = engine
        self._prefix = prefix
        self._place = self._next = place

    @property
    def token(self) -> str:
        """The place up to which everything was returned, and `advance` called."""
        return self._engine.notes.token(self._place)

    @property
    def ahead(self) -> str:
        """The place behind what the last look returned."""
        return self._engine.notes.token(self._next)

    def is_unsettled(self) -> bool:
        """Return False: what was noted is committed."""
        return False

    def may_have_news(self) -> bool:
        """Return whether something was noted since the last look."""
        return self._engine.notes.end != self._place

    def look(self) -> list[Seen]:
        """Return each session that is another one than the watcher knows. Raises WatchExpired."""
        notes = self._engine.notes.since(self._place)
        self._next = self._place + len(notes)
        first: dict[str, str] = {}
        for key, before in notes:
            first.setdefault(key, before)
        seen = [Seen(key, first[key], self._engine.read(key)) for key in first if key.startswith(self._prefix)]
        return [one for one in seen if one.before == NEVER_WAS or one.before != seen_of(one.state)]

    def advance(self) -> None:
        """Go on behind what the last look returned."""
        self._place = self._next

    def close(self) -> None:
        """Close nothing."""


class MemoryLogs:
    """The settled parts of logs, as the file engine has them in files: lists that only grow, or are replaced."""

    def __init__(self) -> None:
        self._files: dict[str, list[Item]] = {}
        self._numbers: dict[str, dict[str, int]] = {}  # of the items with an id, by file and id

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (MemoryLogs, ())  # elsewhere nothing is known of what lies in this memory

    def read(self, key: str, log: LogState, start: int, stop: int, *, values: bool = False) -> list[Item]:  # noqa: ARG002
        """Return the settled items of these numbers. Raises LogReplaced."""
        file, first = self._files.get(log.settled.file), log.settled.first
        if file is None:
            raise LogReplaced(key)
        return file[start - first : stop - first]

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


class MemoryTransaction:
    """One session, locked between `with` and its end."""

    _token: Token | None = None

    def __init__(
        self, engine: MemoryEngine, key: str, mutex: FifoMutex, timeout: float | None, *, create: bool
    ) -> None:
        self._engine = engine
        self._key = key
        self._mutex = mutex
        self._timeout = timeout
        self._create = create
        self.state: State = ABSENT

    def __enter__(self) -> Self:
        """Lock, and read what is committed. Raises NestedUpdate, LockTimeout, SessionNotFound."""
        token = self._token = new_token(self._mutex)
        began = time.monotonic()
        try:
            if not self._mutex.enter(token, self._timeout):
                raise LockTimeout(self._key, time.monotonic() - began, os.getpid())
            self.state = self._engine.read(self._key)
            if not (self._create or self.state.exists):
                raise SessionNotFound(self._key)
        except BaseException:
            self._mutex.leave(token)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock."""
        if self._token is not None:
            self._mutex.leave(self._token)

    __del__ = abandon = __exit__  # an exception from outside may come before `with` knows that it entered

    def commit(self, change: Change, actor: str, *, durable: bool, at: int | None = None) -> None:
        """Commit a change. Raises InvalidEntry; StoreClosed in a child that was forked inside the transaction."""
        if self._token is None or not self._mutex.holds(self._token):
            raise StoreClosed("this process does not hold the lock any more: it forked inside the update")
        _, state = next_record(self.state, change, self._key, actor, durable=durable, at=at)
        if state.entry_bytes > ENTRY_BYTES_MAX:
            raise InvalidEntry("entry", f"{state.entry_bytes:,} bytes of JSON; at most {ENTRY_BYTES_MAX:,} are allowed")
        logs = self._engine.logs
        if state.log.bytes > SETTLE_BYTES:
            state = state._replace(log=moved_to(state.log, logs.settle(state.log)))
        self._engine.sessions.setdefault(self._key, []).append(state)
        self._engine.notes.add(self._key, self.state)
        logs.replace(self.state.log, state.log)
        self.state = state

    rewrite_due = False

    def settle(self) -> None:
        """Do nothing: nothing was put off."""

    @property
    def key(self) -> str:
        """The session's."""
        return self._key

    @property
    def token(self) -> Token | None:
        """What stands for this visit in the nesting guard."""
        return self._token

    def archive(self) -> None:
        """Move the session to the archive, with its history."""
        self._engine.archive.append((time.time(), self._engine.sessions.pop(self._key)))
        self._gone()

    def remove(self) -> None:
        """Remove the session, with its history."""
        self._engine.sessions.pop(self._key, None)
        self._gone()

    def rename(self, target: Self) -> None:
        """Move the session to another key."""
        states = self._engine.sessions.pop(self._key)
        self._engine.sessions[target._key] = [state._replace(key=target._key) for state in states]
        self._engine.notes.add(target._key, target.state)
        target.state = self._engine.read(target._key)
        self._gone()

    def _gone(self) -> None:
        self._engine.notes.add(self._key, self.state)
        self.state = ABSENT

    def forget_past(self) -> None:
        """Forget every revision but the present one, and what its log had before."""
        logs, log = self._engine.logs, self.state.log
        if log.settled.file:
            log = moved_to(
                log, logs.settle(log._replace(settled=Settled(), pending=tuple(logs.all(log)), kept=log.dropped))
            )
            logs.replace(self.state.log, log)
        self.state = self.state._replace(log=log)
        self._engine.sessions[self._key] = [self.state]

    @property
    def size(self) -> int:
        """The bytes of the entry."""
        return self.state.size


class MemoryBatch:
    """Transactions with nothing to sync."""

    due = False

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    def __enter__(self) -> Self:
        """Ignore it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ignore it."""

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> MemoryTransaction:
        """Return a transaction on a session."""
        return self._engine.transaction(key, timeout, create=create)

    def restore(self, archived: ArchivedFile, timeout: float | None) -> State:
        """Bring an archived session back."""
        return self._engine.restore(str(archived.key), timeout)

    def cover(self, txn: Transaction) -> None:
        """Ignore it."""

    def settle(self, *, names: bool = False) -> None:
        """Ignore it."""


def _after_fork() -> None:
    for engine in list(_engines):
        engine.after_fork()


os.register_at_fork(after_in_child=_after_fork)
