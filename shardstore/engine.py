"""The protocols between the verbs and the engines, which store sessions; and the choice of an engine for a root.

A verb knows a transaction on one session and nothing else: no path, no shard, no index. `commit` makes the change
durable as asked, and marks it for lists, in one step, so that no caller can forget it. The values in the
middle are the same for every engine: a State, and a Change (_model.py).

Engines: files (_files/engine.py), PostgreSQL (_postgres/engine.py) and memory (_memory/, for tests). They never
import each other.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Protocol, Self

from shardstore._files.engine import open_engine as open_files
from shardstore._imports import late_imports
from shardstore.errors import raise_io_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from shardstore._inside import Token
    from shardstore._model import Change, Seen, State
    from shardstore._progress import Progress
    from shardstore.errors import CorruptShard
    from shardstore.log import LogSource
    from shardstore.query import Query
    from shardstore.reports import (
        ArchivedFile,
        CompactReport,
        DoctorReport,
        EraseReport,
        LockHolder,
        PurgeReport,
        StoreStats,
        VerifyReport,
    )
    from shardstore.session import SessionInfo


_POSTGRES = ("postgresql", "postgres")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Transaction(Protocol):
    """One session, locked between `with` and its end."""

    state: State  # what is committed, as read inside the lock; after `commit`, what that led to

    def __enter__(self) -> Self:
        """Lock, and read the committed state. Raises NestedUpdate, LockTimeout, SessionNotFound, CorruptShard.

        After an error nothing is held.
        """

    def __exit__(self, *exc: object) -> None:
        """Unlock. An uncommitted change never happened."""

    def abandon(self) -> None:
        """Unlock, if this thread still holds the lock: an exception from outside may come as `with` begins or ends.

        Every caller that enters a transaction calls this after an exception. A finalizer would come too late: the
        exception's traceback keeps the transaction alive.
        """

    def commit(self, change: Change, actor: str, *, durable: bool, at: int | None = None) -> None:
        """Commit a change; `at`: when it was made, in microseconds since the epoch, if not now.

        Raises InvalidEntry, StoreFull, StoreIOError (nothing changed), CommitUncertain (unknown until read again).
        """

    def archive(self) -> None:
        """Move the session to the archive, with its history; it is absent from then on."""

    def remove(self) -> None:
        """Remove the session for good, with its history."""

    def rename(self, target: Self) -> None:
        """Move the session, with its history, to the key of `target`; this one is absent from then on.

        REQUIRES: `target` is absent, or at the same version: the same call was interrupted.
        """

    @property
    def size(self) -> int:
        """The bytes that the session takes where it is kept."""


class Visit(Transaction, Protocol):
    """A transaction that may commit more than once: each commit is a record of its own."""

    rewrite_due: bool  # something was left for `Engine.tend`

    @property
    def key(self) -> str:
        """The key of the session."""

    @property
    def token(self) -> Token | None:
        """Its token in the nesting guard, while it is inside."""

    def sync(self) -> None:
        """Sync the commits. Raises CommitUncertain: then none of them is known to be safe."""


class Batch(Protocol):
    """Transactions, one after the other, whose syncs are shared. Used by one thread.

    A commit is acknowledged only when `sync` returned after it. No lock is held until then.
    """

    def __enter__(self) -> Self:
        """Get ready. Raises StoreIOError."""

    def __exit__(self, *exc: object) -> None:
        """Sync, after an error too. Raises CommitUncertain."""

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> Transaction:
        """Return a transaction as Engine.transaction does. At most one of them is inside at a time."""

    def cover(self, txn: Transaction) -> None:
        """Have a session's committed state synced too: whoever wrote it may have died before its sync."""

    def restore(self, archived: ArchivedFile, timeout: float | None) -> State:
        """Bring back an archived session, as Engine.restore does."""

    @property
    def due(self) -> bool:
        """Whether it is time to sync."""

    def sync(self, *, names: bool = False) -> None:
        """Sync the group; with `names`, also the removals of others. Raises CommitUncertain."""


class Changes(Protocol):
    """The changes from a place on. Used by one thread."""

    @property
    def token(self) -> str:
        """The place up to which everything was returned, and `advance` called."""

    @property
    def ahead(self) -> str:
        """The place behind the changes of the last look."""

    def may_have_news(self) -> bool:
        """Return False if nothing has changed since the last look. Costs one or two system calls."""

    def look(self) -> list[Seen]:
        """Return each session whose version the watcher has not seen, once, as it is now.

        Until `advance` is called, the next look returns the same again. Raises WatchExpired.
        """

    def advance(self) -> None:
        """Move the place behind the changes of the last look."""

    def has_waiting(self) -> bool:
        """Return whether the next look may find a change although nothing was written in `Engine.changes_in`."""

    def close(self) -> None:
        """Close all files and connections of it."""


class Engine(Protocol):
    """One open store, shared by every Store object on it. Safe between threads and across fork."""

    process: str  # the actor of a Store that names none
    remote: bool  # reading a session asks another machine, which an event loop must not wait for

    @property
    def location(self) -> str:
        """Where it is, for people: the directory, or the URL without its password."""

    @property
    def logs(self) -> LogSource:
        """The reader of the settled parts of logs."""

    @property
    def root(self) -> Path | None:
        """The directory of a store in files; None elsewhere."""

    def place(self, key: str) -> str | None:
        """Return where a session's file is or would be, for people; None where it has none of its own."""

    # Sessions

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> Transaction:
        """Return a transaction; its `with` waits up to `timeout` seconds (None: for ever) for this session only.

        Raises InvalidKey; with create=False, entering it raises SessionNotFound for an absent session.
        """

    # For an event loop, which may not wait

    def is_ready(self, key: str) -> bool:
        """Return whether `read` takes microseconds. For an invalid key it raises InvalidKey, or returns False."""

    def at_hand(self, key: str) -> Visit | None:
        """Return a visit that holds the lock already, if that and its relaxed commits take microseconds; else None."""

    def group(self, key: str, timeout: float | None, *, create: bool) -> Visit | None:
        """Return a visit, to be entered by `with`; None if this engine has a transaction for each commit.

        The session may be absent; with create=False it may raise SessionNotFound. No commit is acknowledged before
        `sync`.
        """

    def tend(self, key: str, timeout: float | None) -> None:
        """Finish the work that a visit at hand left, such as a rewrite. Raises as a commit."""

    def batch(self, *, durable: bool) -> Batch:
        """Return a batch, to be entered by `with`."""

    def read(self, key: str) -> State:
        """Return the committed state, waiting for nobody. Never answers "absent" for "damaged" or "not there"."""

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, State | CorruptShard]]:
        """Yield each key once, with its state or its damage; in the order of files, keeping none open."""

    def size_of(self, key: str) -> int:
        """Return the bytes that a session takes where it is kept; 0 where there is none."""

    def remarks(self, key: str) -> list[str]:
        """Return a sentence for each odd thing about a session that can be read, for people."""

    def history(self, key: str) -> list[State]:
        """Return the states of the present incarnation that are kept, oldest first."""

    # Watching

    def token(self, *, write: bool) -> str:
        """Return where the store is now, for `changes`. `write`: marks that make watching cheap may be written."""

    def changes(self, prefix: str, since: str | None, *, write: bool) -> Changes:
        """Return the changes from a token on, or from now on. Raises WatchExpired."""

    def changes_in(self, key: str | None) -> str | None:
        """Return the directory that is written to when this session (None: any) changes; None if there is none."""

    # Lists, exact as of some moment during the call. `refresh`: the index may be written.

    def select(self, query: Query, *, refresh: bool, progress: Progress | None) -> list[SessionInfo]:
        """Return the sessions that answer a query."""

    def count(self, query: Query, *, refresh: bool, progress: Progress | None) -> int:
        """Return how many sessions answer a query."""

    def keys(self, *, refresh: bool, progress: Progress | None) -> Iterator[str]:
        """Yield every key in ascending order; the store may change meanwhile."""

    def reindex(self, fields: tuple[str, ...], progress: Progress | None) -> None:
        """Index these fields instead of the present ones."""

    def damaged(self, prefix: str, *, refresh: bool) -> Iterator[CorruptShard]:
        """Yield the damage of each session that lists leave out and whose key may begin with `prefix`."""

    # Maintenance, as the verbs of the same names promise

    def compact(self, *, dry_run: bool, progress: Progress | None, scan_progress: Progress | None) -> CompactReport:
        """Run the housekeeping. Removes no session."""

    def erase_history(self, key: str, timeout: float | None) -> EraseReport:
        """Remove the session's past for good. Raises SessionNotFound."""

    def restore(self, key: str, timeout: float | None) -> State:
        """Bring back the newest archived copy of a session. Raises SessionNotFound, SessionExists."""

    def archived(self, prefix: str | None) -> list[ArchivedFile]:
        """Return the archived and the quarantined files, the oldest first."""

    def purge_archive(
        self, older_than: float, *, prefix: str | None, dry_run: bool, progress: Progress | None
    ) -> PurgeReport:
        """Remove for good the files archived more than `older_than` seconds ago."""

    def verify(self, *, repair: bool, note: bool, progress: Progress | None) -> VerifyReport:
        """Check everything; `note`: damage may be noted for the lists to leave out."""

    def stats(self, *, refresh: bool, progress: Progress | None) -> StoreStats:
        """Return counts and sizes."""

    def holders(self) -> list[LockHolder]:
        """Return the holder of each held lock, as far as the system shows it."""

    # Life

    def join(self) -> None:
        """Count one more Store object."""

    def leave(self) -> None:
        """Count one less; the last one out closes the engine."""


def open_engine(  # the settings of a store
    root: str | os.PathLike[str], *, create: bool, read_only: bool, allow_shared: bool, indexed: tuple[str, ...] | None
) -> Engine:
    """Join the engine of the store at `root`; one call of `leave` matches it.

    Raises ValueError if it is neither a path nor a known URL; otherwise as the engine.
    """
    text = os.fspath(root)
    if not isinstance(text, str):
        raise TypeError(f"root is a path as str or PathLike, not {type(text).__name__}")
    if not text:
        raise ValueError("root is empty; name a directory, for example Store('sessions')")
    if _is_database(text):
        opened: Engine = _import_postgres().open_engine(text, create=create, read_only=read_only, indexed=indexed)
        return opened
    return open_files(_absolute(text), create=create, read_only=read_only, allow_shared=allow_shared, indexed=indexed)


def _is_database(text: str) -> bool:
    """Return whether a store's place is a database. Raises ValueError for another URL; it never shows a password."""
    scheme = _SCHEME.match(text)
    if scheme is not None and scheme[1] not in _POSTGRES:
        raise ValueError(f"no engine for {scheme[1]}:// URLs; name a directory, or postgresql://host/database")
    if scheme is None and text.lstrip().startswith(tuple(f"{name}:" for name in _POSTGRES)):
        raise ValueError("the URL of a database begins with postgresql://; a directory's name with ./")
    return scheme is not None


def _absolute(root: str) -> str:
    """Return the whole path. Raises StoreIOError where it is relative to a working directory that is gone."""
    try:
        return os.path.abspath(root)
    except OSError as error:
        raise_io_error(error, "looking for the working directory", root)


def _import_postgres() -> Any:
    """Import the engine, and psycopg with it, when the first database is named. Raises ModuleNotFoundError."""
    try:
        with late_imports:
            from shardstore._postgres import engine
    except ImportError as error:
        if "psycopg" not in str(error):
            raise
        raise ModuleNotFoundError(
            "a store in PostgreSQL needs psycopg 3; install it with: pip install 'shardstore[postgres]'", name="psycopg"
        ) from error
    return engine


def doctor(place: Path | str) -> DoctorReport:
    """Test whether a store would be safe in a directory, by files that are removed afterwards.

    If `place` is text, it is the URL of a database, and the server is asked.
    """
    if isinstance(place, str):
        if not _is_database(place):
            raise ValueError("a database is named by a URL, postgresql://host/database; a directory by a Path")
        _import_postgres()
        from shardstore._postgres.doctor import examine as examine_server

        return examine_server(place)
    with late_imports:
        from shardstore._files.maintenance.doctor import examine

    return examine(place)
