"""The file engine of one opened store: its shards and its index, one set per process.

A store is known by the device and inode of its root, so a symbolic link, a relative path, a bind mount and any number
of Store objects lead to the same shards, mutexes and nesting guard.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from shardstore._files import disk, forking
from shardstore._files.file import open_files, read_file
from shardstore._files.index import Index
from shardstore._files.layout import Layout, may_begin, shard_name
from shardstore._files.locks.identity import load_statx, statx_wanted
from shardstore._files.marker import Settings, check_owner, make_store, read_settings
from shardstore._files.pool import Pool
from shardstore._imports import late_imports
from shardstore.errors import CorruptShard, StoreNotFound, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shardstore._files.batch import FileBatch
    from shardstore._files.transaction import FileTransaction
    from shardstore._files.watch.changes import FileChanges
    from shardstore._files.watch.scan import ScanChanges
    from shardstore._log import Item
    from shardstore._model import State
    from shardstore._progress import Progress
    from shardstore.query import Query
    from shardstore.reports import (
        ArchivedFile,
        CompactReport,
        EraseReport,
        LockHolder,
        PurgeReport,
        StoreStats,
        VerifyReport,
    )
    from shardstore.session import SessionInfo


# Weak: what keeps an engine alive are the Store objects that use it, whether or not somebody closes them.
_engines: weakref.WeakValueDictionary[tuple[int, int], FileEngine] = weakref.WeakValueDictionary()
_living: weakref.WeakSet[FileEngine] = weakref.WeakSet()  # also those that a moved store, or the last `leave`, took out
_registry = threading.RLock()  # re-entrant: a Store may be opened, or collected, by a signal handler


def open_engine(  # the settings of a store
    root: str, *, create: bool, read_only: bool, allow_shared: bool, indexed: tuple[str, ...] | None
) -> FileEngine:
    """Join the engine of the store at `root`; every call is matched by one of `FileEngine.leave`.

    Raises StoreNotFound, UnsupportedFormat, UnsafeStore, StoreIOError.
    """
    place = Path(os.path.abspath(root))
    if create and not read_only:
        make_store(Layout(place), Settings(indexed=indexed or ()), allow_shared=allow_shared)
    layout = Layout(os.path.realpath(place))  # an alias that goes away takes nobody's store with it
    settings = read_settings(layout)
    if not allow_shared:
        check_owner(layout)
    if indexed is not None and set(indexed) != set(settings.indexed):
        asked = list(indexed)
        raise ValueError(
            f"the store indexes the fields {list(settings.indexed)}, not {asked}; open it without indexed=, "
            f"or call reindex({asked})"
        )
    try:
        status = os.stat(place)
    except FileNotFoundError:
        raise StoreNotFound(str(place)) from None
    except OSError as error:
        raise_io_error(error, "opening the store", str(place))
    identity = (status.st_dev, status.st_ino)
    with _registry:
        engine = _engines.get(identity)
        # Else the store was moved, or is gone and its inode's number was given to another one.
        if engine is not None and engine.is_at(identity):
            engine.join()
            if not engine.ended:  # as where a signal handler closed its last Store meanwhile
                return engine
        engine = _engines[identity] = FileEngine(identity, layout, settings.indexed)
        engine.join()
        return engine


class FileEngine:
    """The shards and the index of one store."""

    remote = False

    def __init__(self, identity: tuple[int, int], layout: Layout, indexed: tuple[str, ...]) -> None:
        self.layout = layout
        self.root = Path(layout.root)
        self.location = str(layout.root)
        self.pool = Pool(layout)
        self.logs = self.pool.logs
        self.index = Index(layout, indexed, self.pool)
        self.pool.mark_changed = self.index.mark_changed
        self.transaction: Callable[..., FileTransaction] = self.pool.transaction
        self.at_hand: Callable[[str], FileTransaction | None] = self.pool.at_hand
        self.process = str(os.getpid())
        self._members = 0  # Store objects that use it
        self.ended = False  # the last of them was closed
        self._identity = identity
        _living.add(self)
        weakref.finalize(self, _let_go, self.pool, self.index).atexit = False

    def is_at(self, identity: tuple[int, int]) -> bool:
        """Return whether this engine's path still leads to the store of this identity."""
        try:
            status = os.stat(self.layout.root)
            return (status.st_dev, status.st_ino) == identity and disk.exists(self.layout.marker)
        except OSError:
            return False

    def place(self, key: str) -> str:
        """Return the path of a session's file, whether it is there or not. Raises InvalidKey."""
        return self.layout.shard_path(shard_name(key))

    def read(self, key: str) -> State:
        """Return a session's committed state. Raises CorruptShard, StoreIOError, StoreNotFound, InvalidKey."""
        if statx_wanted:
            load_statx()
        return self.pool.shard(key).read().state

    # For an event loop

    def is_ready(self, key: str) -> bool:
        """Return whether reading a session takes one look at an open file."""
        return self.pool.small(key) is not None

    def group(self, key: str, timeout: float | None, *, create: bool) -> FileTransaction:
        """Return a transaction that may commit more than once. `sync` puts all of it on the medium."""
        txn = self.pool.transaction(key, timeout, create=create)
        txn.put_off = True
        txn.present = False  # each commit has its own rule
        return txn

    def tend(self, key: str, timeout: float | None) -> None:
        """Finish what a transaction at hand has left: rewrite the journal. Raises what a commit does."""
        with self.pool.transaction(key, timeout, create=False) as txn:
            txn.tend()

    def batch(self, *, durable: bool) -> FileBatch:
        """Return a batch of transactions whose syncs are shared."""
        with late_imports:
            from shardstore._files.batch import FileBatch

        return FileBatch(self, durable=durable)

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, State | CorruptShard]]:
        """Yield each key once, with its committed state or its damage, in the order of files."""
        with late_imports:
            from shardstore._files.many import read_many

        return read_many(self.pool, keys)

    def size_of(self, key: str) -> int:
        """Return the bytes of a session's files, its log's included; 0 where there is none. Raises StoreIOError."""
        try:
            size = os.path.getsize(self.place(key))
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise_io_error(error, "looking at a shard", self.place(key))
        try:
            return size + self.read(key).log.settled.end
        except CorruptShard:  # nobody knows which log is its own
            return size

    def remarks(self, key: str) -> list[str]:
        """Return a sentence for each odd thing about a session's file. Raises CorruptShard, StoreIOError."""
        with late_imports:
            from shardstore._files.maintenance.remarks import remarks

        path = self.place(key)
        return [detail for _, detail in remarks(path, *read_file(path))]

    def history(self, key: str) -> list[State]:
        """Return the states of this incarnation that its journal holds, oldest first."""
        return self.pool.shard(key).history()

    def select(self, query: Query, *, refresh: bool, progress: Progress | None) -> list[SessionInfo]:
        """Return the sessions that answer a query."""
        return self.index.lister.select(query, refresh=refresh, progress=progress)

    def count(self, query: Query, *, refresh: bool, progress: Progress | None) -> int:
        """Return how many sessions answer a query."""
        return self.index.lister.count(query, refresh=refresh, progress=progress)

    def keys(self, *, refresh: bool, progress: Progress | None) -> Iterator[str]:
        """Yield every key in ascending order."""
        return self.index.lister.keys(refresh=refresh, progress=progress)

    def reindex(self, fields: tuple[str, ...], progress: Progress | None) -> None:
        """Have these fields indexed, in every process that uses the store."""
        self.index.lister.reindex(fields, progress)

    def damaged(self, prefix: str, *, refresh: bool) -> Iterator[CorruptShard]:
        """Yield the damage of each session that lists leave out and whose key may begin with `prefix`."""
        for path in self.stats(refresh=refresh, progress=None).damaged:
            try:
                read_file(f"{self.location}/{path}")
            except CorruptShard as error:
                if may_begin(os.path.basename(path), prefix) and (error.key or prefix).startswith(prefix):
                    yield error

    # Watching

    def token(self, *, write: bool) -> str:
        """Return where the store is now. Raises StoreNotFound, StoreIOError."""
        lister = self.index.lister
        with late_imports:
            from shardstore._files.watch import here

        return here(lister, write=write)

    def changes(self, prefix: str, since: str | None, *, write: bool) -> FileChanges | ScanChanges:
        """Return the changes from a token on, or from now on. Raises WatchExpired, StoreNotFound, StoreIOError."""
        lister = self.index.lister
        with late_imports:
            from shardstore._files.watch import open_changes

        return open_changes(lister, prefix, since, write=write)

    def changes_in(self, key: str | None) -> str:
        """Return the directory in which a commit to the session, or to any session, writes something."""
        return os.fspath(self.layout.index) if key is None else os.path.dirname(self.place(key))

    # Maintenance. Each imports its module when it is called: `shardstore get` starts without them.

    def compact(self, *, dry_run: bool, progress: Progress | None, scan_progress: Progress | None) -> CompactReport:
        """Implement Store.compact."""
        with late_imports:
            from shardstore._files.maintenance.compact import compact

        return compact(self, dry_run=dry_run, progress=progress, scan_progress=scan_progress)

    def erase_history(self, key: str, timeout: float | None) -> EraseReport:
        """Implement Store.erase_history."""
        with late_imports:
            from shardstore._files.maintenance.erase import erase_history

        return erase_history(self, key, timeout)

    def restore(self, key: str, timeout: float | None) -> State:
        """Implement Store.archive.restore."""
        with late_imports:
            from shardstore._files.maintenance.archive import restore

        return restore(self, key, timeout)

    def archived(self, prefix: str | None) -> list[ArchivedFile]:
        """Implement Store.archive.list."""
        with late_imports:
            from shardstore._files.maintenance.archive_listing import archived

        return archived(self.layout, prefix)

    def purge_archive(
        self, older_than: float, *, prefix: str | None, dry_run: bool, progress: Progress | None
    ) -> PurgeReport:
        """Implement Store.archive.purge."""
        with late_imports:
            from shardstore._files.maintenance.archive_listing import purge

        return purge(self.layout, older_than, prefix=prefix, dry_run=dry_run, progress=progress)

    def verify(self, *, repair: bool, note: bool, progress: Progress | None) -> VerifyReport:
        """Implement Store.verify."""
        with late_imports:
            from shardstore._files.maintenance.verify import verify

        return verify(self, repair=repair, note=note, progress=progress)

    def stats(self, *, refresh: bool, progress: Progress | None) -> StoreStats:
        """Implement Store.stats."""
        with late_imports:
            from shardstore._files.maintenance.stats import stats

        return stats(self, refresh=refresh, progress=progress)

    def holders(self) -> list[LockHolder]:
        """Return the held locks of this store, where the system shows them."""
        with late_imports:
            from shardstore._files.maintenance.lock_holders import lock_holders

        return lock_holders(self.layout)

    def journal(self, key: str) -> tuple[bytes, list[Item]]:
        """Return a session's journal, and the settled items of its log. Raises CorruptShard, LogReplaced."""
        with late_imports:
            from shardstore._files.transfer import read_whole

        return read_whole(self, key)

    def put_journal(self, txn: FileTransaction, key: str, data: bytes, items: Iterable[Item]) -> None:
        """Put a journal in the place of a session's own, inside its transaction."""
        with late_imports:
            from shardstore._files.transfer import put_whole

        put_whole(self, txn, key, data, items)

    def archived_journal(self, archived: ArchivedFile) -> tuple[bytes, list[Item]]:
        """Return the same of an archived session. Raises CorruptShard, SessionNotFound."""
        with late_imports:
            from shardstore._files.transfer import read_archived

        return read_archived(self, archived)

    def put_archived(self, key: str, data: bytes, items: Iterable[Item], moved_at: float) -> None:
        """Put a journal into the archive, as if it had moved there at this moment."""
        with late_imports:
            from shardstore._files.transfer import put_archived

        put_archived(self, key, data, items, moved_at)

    # Life

    def join(self) -> None:
        """Count one more Store object."""
        with _registry:
            self._members += 1

    def leave(self) -> None:
        """Leave; the last one out closes all files."""
        with _registry:
            self._members -= 1
            if self._members:
                return
            self.ended = True
            if _engines.get(self._identity) is self:
                _engines.pop(self._identity, None)  # a signal handler may have been the last one out meanwhile
        self.pool.close()
        self.index.close()

    def after_fork(self) -> None:
        """Forget the parent's locks and open files."""
        self.process = str(os.getpid())
        self.pool.after_fork()
        self.index.after_fork()


def _let_go(pool: Pool, index: Index) -> None:
    """Close the files of an engine whose last Store was dropped without close().

    The garbage collector calls this in the middle of anything, so nothing here waits for a lock.
    """
    pool.let_go()
    index.close()


def _after_fork() -> None:
    """Close, in a forked child, every inherited descriptor: it would keep the parent's locks alive."""
    global _registry  # noqa: PLW0603  # the old one may be held by a thread that the child does not have
    _registry = threading.RLock()
    late_imports.release()  # the thread that forked is the one that has it
    for file in list(open_files):
        file.after_fork()
    for engine in list(_living):
        engine.after_fork()


# Registered after those of flock.py, so this lock is taken before theirs: an import may end in closing a file.
os.register_at_fork(before=late_imports.acquire, after_in_parent=late_imports.release, after_in_child=_after_fork)
forking.register()
