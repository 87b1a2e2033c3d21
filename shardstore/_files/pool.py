"""The shards of one store that are open in this process, bounded: those asked for longest ago are closed first."""

from __future__ import annotations

import resource
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from shardstore._files.layout import Layout, shard_name
from shardstore._files.locks.fairness import QueueFile
from shardstore._files.logfile import LogFiles
from shardstore._files.shard import AT_HAND, Shard
from shardstore._files.transaction import FileTransaction
from shardstore.errors import ShardStoreError

if TYPE_CHECKING:
    from collections.abc import Callable

SHARDS_MAX: Final = 256
SMALL_BYTES: Final = 256 * 1024  # of a file
CACHED_BYTES_MAX: Final = 64 * 1024 * 1024
_CHECK_BYTES_EVERY: Final = 16  # shards opened
_BUSY_AT_MOST: Final = 32  # shards in use that are looked past for one that is not


class Pool:
    """The open shards of one store, and the transactions on them.

    The mutex is re-entrant, and every step finds its shard again: a signal handler may come in between any two.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.logs = LogFiles(str(layout.root))
        self.logs.free_descriptors = self.close_idle
        self.mark_changed: Callable[..., None] = _without_index  # set by the engine before the first transaction
        self._queue_file = QueueFile(layout.marker)
        self._limit = _descriptor_limit()
        self._shards: OrderedDict[str, Shard] = OrderedDict()
        self._by_name: dict[str, Shard] = {}  # the same ones
        self._mutex = threading.RLock()
        self._opened = 0

    def shard(self, key: str) -> Shard:
        """Return the shard of a key, open or not. Raises InvalidKey."""
        try:
            shard = self._shards[key]
            self._shards.move_to_end(key)
        except (KeyError, TypeError):
            return self.admit(key)
        return shard

    def small(self, key: str) -> Shard | None:
        """Return the shard of a key if its file is open and small: then reading it takes next to no time."""
        shard = self._shards.get(key) if type(key) is str else None
        file = None if shard is None else shard.file
        return shard if file is not None and file.size <= SMALL_BYTES else None

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> FileTransaction:
        """Return a transaction on a session; the `with` locks it, waiting up to `timeout` seconds (None: for ever).

        An absent session is created, or with create=False is SessionNotFound. Raises InvalidKey; the `with` raises
        what FileTransaction.__enter__ does.
        """
        try:
            shard = self._shards[key]
            self._shards.move_to_end(key)
        except (KeyError, TypeError):
            shard = self.admit(key)
        try:
            txn: FileTransaction = shard.spare.pop()
        except IndexError:
            txn = FileTransaction(shard, self.mark_changed)
        txn.timeout, txn.create, txn.present, txn.syncs, txn.apart = timeout, create, not create, None, False
        return txn

    def at_hand(self, key: str) -> FileTransaction | None:
        """Return a transaction that is inside, if that takes no waiting; it only appends. None where it would wait."""
        shard = self.small(key)
        if shard is None:
            return None
        txn = self.transaction(key, AT_HAND, create=False)
        txn.append_only = True
        try:
            txn.__enter__()
        except ShardStoreError:  # whoever tries again in a thread gets the error
            return None
        file = shard.file
        if file is not None and file.links == 1 and not file.torn:
            return txn
        txn.__exit__()
        return None

    def transaction_on_file(
        self, shard: Shard, timeout: float = 0.0, *, read: bool = True, create: bool = False
    ) -> FileTransaction:
        """Return a transaction for maintenance: on a file, whatever it holds. SessionNotFound where there is none.

        With read=False the journal is not read first, as it must be where it may be damaged.
        """
        txn = FileTransaction(shard, self.mark_changed)
        txn.timeout, txn.create, txn.read = timeout, create, read
        return txn

    def admit(self, key: str) -> Shard:
        """Return the shard of a key that is not known yet. Raises InvalidKey."""
        name = shard_name(key)
        with self._mutex:
            return self._keep(key, Shard(self.logs, name, key, self._queue_file, self.close_idle))

    def _keep(self, key: str, shard: Shard) -> Shard:
        """Keep a shard, unless there is one of its key, which is returned instead. REQUIRES: the mutex."""
        shard = self._shards.setdefault(key, shard)
        self._by_name[shard.name] = shard
        self._opened += 1
        excess = len(self._shards) - self._limit
        if excess <= 0 and self._opened % _CHECK_BYTES_EVERY == 0 and self._cached() > CACHED_BYTES_MAX:
            excess = len(self._shards) // 2
        if excess > 0:
            self._evict(excess, spare=key)
        return shard

    def cached(self, name: str) -> Shard | None:
        """Return the shard with a file's name if it is open in this process."""
        shard = self._by_name.get(name)
        return shard if shard is not None and shard.is_open else None

    def open_by_name(self, name: str) -> Shard | None:
        """Open a shard by its file's name and keep it; None where no key, or that of another file, is in it.

        Raises CorruptShard, StoreIOError, StoreNotFound.
        """
        shard = self._by_name.get(name)
        if shard is not None:
            return shard
        kept, shard = None, self.unnamed(name)
        try:
            key = shard.read().state.key
            if key is not None and shard.bind_key(key):
                with self._mutex:
                    kept = self._keep(key, shard)
        finally:
            if kept is not shard:
                shard.close_if_idle()
        return kept

    def unnamed(self, name: str) -> Shard:
        """Return a shard by its file's name alone, for maintenance of files whose key is not known. Not pooled."""
        return Shard(self.logs, name, None, self._queue_file, self.close_idle)

    def _cached(self) -> int:
        return sum(shard.cached_bytes for shard in list(self._shards.values()))  # others use it meanwhile

    def _evict(self, count: int, *, spare: str | None = None) -> int:
        """Close up to `count` shards that nobody uses, oldest first; return how many. REQUIRES: the mutex."""
        # One call copies all: another thread may move a shard to the end between two, and an iterator made before that
        # would refuse to go on.
        oldest = list(self._shards)[: count + _BUSY_AT_MOST]
        closed = 0
        for key in oldest:
            if closed == count:
                break
            shard = self._shards.get(key)
            if key != spare and shard is not None and shard.close_if_idle():
                shard.retired = True
                shard.spare.clear()  # it refers to the shard: the circle would wait for a garbage collection
                self._shards.pop(key, None)
                self._by_name.pop(shard.name, None)
                closed += 1
        return closed

    def close_idle(self) -> int:
        """Close every shard that nobody uses right now; return how many."""
        # Without waiting: the caller may be the one who opens a shard while this pool admits another.
        if not self._mutex.acquire(blocking=False):
            return 0
        try:
            return self._evict(len(self._shards))
        finally:
            self._mutex.release()

    def close(self) -> None:
        """Close every descriptor that is not in use; one that is, is closed by its own shard's end."""
        with self._mutex:
            self._evict(len(self._shards))
        self._queue_file.close()

    def let_go(self) -> None:
        """Drop every shard, which closes those that nobody uses. Waits for nobody."""
        if self._mutex.acquire(blocking=False):
            try:
                for shard in list(self._shards.values()):
                    shard.spare.clear()  # it refers to the shard, which would wait for a garbage collection
                self._shards.clear()
                self._by_name.clear()
            finally:
                self._mutex.release()
        self._queue_file.close()

    def after_fork(self) -> None:
        """Forget the parent's locks and open files."""
        self._mutex = threading.RLock()
        self._queue_file.after_fork()
        for shard in self._shards.values():
            shard.after_fork()


def _without_index(*_: object, again: bool = False) -> None:
    """Ignore a change: this pool has no index beside it."""


def _descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return SHARDS_MAX if soft == resource.RLIM_INFINITY else max(4, min(SHARDS_MAX, soft // 4))
