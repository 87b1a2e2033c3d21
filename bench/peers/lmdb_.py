"""LMDB: one value a session, one write transaction an update. One writer at a time for the whole store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lmdb
import orjson

from bench.peers.base import Entry, Peer, newest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MAP_BYTES = 4 << 30  # address space, not memory or disk


class Lmdb(Peer):
    """One environment; buffers=True so that a read decodes straight from the map."""

    def __init__(self, root: Path, *, sync: bool) -> None:
        super().__init__(root)
        self.env = lmdb.open(str(root / "lmdb"), map_size=MAP_BYTES, sync=sync, metasync=sync, max_readers=512)

    def create(self, key: str, entry: Entry) -> None:
        with self.env.begin(write=True) as txn:
            txn.put(key.encode(), orjson.dumps(entry))

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        name = key.encode()
        with self.env.begin(write=True, buffers=True) as txn:
            entry = orjson.loads(txn.get(name) or b"")
            fn(entry)
            txn.put(name, orjson.dumps(entry))

    def get(self, key: str) -> Entry:
        with self.env.begin(buffers=True) as txn:
            found: Entry = orjson.loads(txn.get(key.encode()) or b"")
        return found

    def delete(self, key: str) -> None:
        with self.env.begin(write=True) as txn:
            txn.delete(key.encode())

    def newest(self, limit: int, status: str | None = None) -> list[Any]:
        with self.env.begin(buffers=True) as txn:
            return newest_of(((bytes(k).decode(), orjson.loads(v)) for k, v in txn.cursor()), limit, status)

    def fill(self, entries: Iterable[tuple[str, Entry]]) -> None:
        with self.env.begin(write=True) as txn:
            for key, entry in entries:
                txn.put(key.encode(), orjson.dumps(entry))

    def close(self) -> None:
        self.env.close()


STORE = Lmdb
