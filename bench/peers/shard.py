"""shardstore, through nothing but its public calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.peers.base import Entry, Peer
from shardstore import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Shardstore(Peer):
    """A store with the waiting time raised, so that a crowded benchmark waits instead of failing."""

    def __init__(self, root: Path, *, durability: str, indexed: tuple[str, ...] | None = None) -> None:
        super().__init__(root)
        self.store = Store(root / "store", durability=durability, lock_timeout=120.0, indexed=indexed)  # type: ignore[arg-type]

    def create(self, key: str, entry: Entry) -> None:
        self.store.create(key, entry)

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        self.store.update(key, fn)

    def patch(self, key: str, fields: Entry) -> None:
        self.store.patch(key, fields)

    def get(self, key: str) -> Entry:
        return self.store[key].data

    def field(self, key: str, name: str) -> object:
        return self.store[key][name]

    def append_item(self, key: str, item: Entry, fields: Entry) -> None:
        self.store.append(key, [item], fields)

    def append_items(self, key: str, items: list[Entry]) -> None:
        for start in range(0, len(items), 10_000):
            self.store.append(key, items[start : start + 10_000])

    def tail(self, key: str, count: int) -> list[Any]:
        return self.store.log(key, -count)

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def newest(self, limit: int, status: str | None = None) -> list[Any]:
        where = None if status is None else {"status": status}
        return self.store.list(where=where, order_by="-updated_at", limit=limit)

    def count(self, status: str) -> int:
        return self.store.count(where={"status": status})

    def by_status(self, limit: int) -> list[Any]:
        return self.store.list(order_by="status", limit=limit)

    def prune(self, keep: int) -> None:
        self.store.prune(max_entries=keep)

    def check(self) -> int:
        return len(self.store.verify().problems)

    def close(self) -> None:
        self.store.close()


STORE = Shardstore
