"""The shards of one store that are open in this process, bounded: those asked for longest ago are closed first."""

from __future__ import annotations

import resource
import threading
from collections import OrderedDict

from shardstore._files.layout import Layout, shard_name
from shardstore._files.locks.fairness import Lines
from shardstore._files.shard import Shard

SHARDS_MAX = 256
CACHED_BYTES_MAX = 64 * 1024 * 1024
_CHECK_BYTES_EVERY = 16  # shards opened
_BUSY_AT_MOST = 32  # shards in use that are looked past for one that is not


class Pool:
    """The open shards of one store."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._lines = Lines(layout.marker)
        self._limit = _descriptor_limit()
        self._shards: OrderedDict[str, Shard] = OrderedDict()
        self._by_name: dict[str, Shard] = {}  # the same ones
        self._mutex = threading.Lock()
        self._opened = 0

    def shard(self, key: str) -> Shard:
        """Give the shard of a key, open or not. Raises InvalidKey."""
        try:
            shard = self._shards[key]
            self._shards.move_to_end(key)
        except (KeyError, TypeError):
            return self._admit(key)
        return shard

    def _admit(self, key: str) -> Shard:
        name = shard_name(key)
        with self._mutex:
            return self._keep(key, Shard(self.layout, name, key, self._lines, self.close_idle))

    def _keep(self, key: str, shard: Shard) -> Shard:
        """Keep a shard, unless there is one of its key, which is given instead. REQUIRES: the mutex."""
        shard = self._shards.setdefault(key, shard)
        self._by_name[shard.name] = shard
        self._opened += 1
        excess = len(self._shards) - self._limit
        if excess <= 0 and self._opened % _CHECK_BYTES_EVERY == 0 and self._cached() > CACHED_BYTES_MAX:
            excess = len(self._shards) // 2
        if excess > 0:
            self._evict(excess, spare=key)
        return shard

    def resident(self, name: str) -> Shard | None:
        """Give the shard with a file's name if it is open in this process."""
        shard = self._by_name.get(name)
        return shard if shard is not None and shard.is_open else None

    def adopt(self, name: str) -> Shard | None:
        """Open a shard by its file's name and keep it; None where no key, or that of another file, is in it.

        Raises CorruptShard, StoreIOError, StoreNotFound.
        """
        shard = self._by_name.get(name)
        if shard is not None:
            return shard
        kept, shard = None, self.unnamed(name)
        try:
            key = shard.read().key
            if key is not None and shard.claim(key):
                with self._mutex:
                    kept = self._keep(key, shard)
        finally:
            if kept is not shard:
                shard.close_if_idle()
        return kept

    def unnamed(self, name: str) -> Shard:
        """Give a shard by its file's name alone, for maintenance of files whose key is not known. Not pooled."""
        return Shard(self.layout, name, None, self._lines, self.close_idle)

    def _cached(self) -> int:
        return sum(shard.cached_bytes for shard in list(self._shards.values()))  # others use it meanwhile

    def _evict(self, count: int, *, spare: str | None = None) -> int:
        """Close up to `count` shards that nobody uses, oldest first; return how many. REQUIRES: the mutex."""
        # Copied in one call: another thread may move a shard to the end between two steps of an iteration.
        oldest = list(self._shards)[: count + _BUSY_AT_MOST]
        closed = 0
        for key in oldest:
            if closed == count:
                break
            if key != spare and self._shards[key].close_if_idle():
                del self._by_name[self._shards.pop(key).name]
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
        self._lines.close()

    def let_go(self) -> None:
        """Drop every shard, which closes those that nobody uses. Waits for nobody."""
        if self._mutex.acquire(blocking=False):
            try:
                self._shards.clear()
                self._by_name.clear()
            finally:
                self._mutex.release()
        self._lines.close()

    def after_fork(self) -> None:
        """Forget the parent's locks and what it had open."""
        self._mutex = threading.Lock()
        self._lines.after_fork()
        for shard in self._shards.values():
            shard.after_fork()


def _descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return SHARDS_MAX if soft == resource.RLIM_INFINITY else max(4, min(SHARDS_MAX, soft // 4))
