"""diskcache with its transact(), tuned: bytes from orjson, kept in the database, nothing evicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diskcache
import orjson

from bench.peers.base import Entry, Peer, newest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

KEEP_IN_DATABASE_BYTES = 4 << 20  # its default puts values over 32 KB into files of their own: 3x slower at 42 KB
SIZE_LIMIT_BYTES = 16 << 30
BUSY_TIMEOUT_S = 120


class Diskcache(Peer):
    """One cache directory."""

    def __init__(self, root: Path, *, synchronous: int) -> None:
        super().__init__(root)
        self.cache = diskcache.Cache(
            str(root / "cache"),
            timeout=BUSY_TIMEOUT_S,
            size_limit=SIZE_LIMIT_BYTES,
            disk_min_file_size=KEEP_IN_DATABASE_BYTES,
            eviction_policy="none",
            cull_limit=0,
            sqlite_synchronous=synchronous,
        )

    def create(self, key: str, entry: Entry) -> None:
        self.cache[key] = orjson.dumps(entry)

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        with self.cache.transact(retry=True):
            entry = orjson.loads(self.cache[key])
            fn(entry)
            self.cache[key] = orjson.dumps(entry)

    def get(self, key: str) -> Entry:
        found: Entry = orjson.loads(self.cache[key])
        return found

    def delete(self, key: str) -> None:
        del self.cache[key]

    def newest(self, limit: int, status: str | None = None) -> list[Any]:
        return newest_of(((key, orjson.loads(self.cache[key])) for key in self.cache), limit, status)

    def fill(self, entries: Iterable[tuple[str, Entry]]) -> None:
        with self.cache.transact(retry=True):
            super().fill(entries)

    def close(self) -> None:
        self.cache.close()


STORE = Diskcache
