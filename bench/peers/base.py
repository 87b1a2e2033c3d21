"""What every store is asked to do, so that a workload is written once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

Entry = dict[str, Any]


class Peer:
    """One open store in one process. Subclasses say how their library does each of these best.

    `update` is a read-modify-write: the mutator sees what is stored at that moment. Where a library offers no
    way to make that atomic, the subclass does what its users do, and the workloads count what gets lost.
    """

    def __init__(self, root: Path) -> None:
        """Open the store below root, making it if it isn't there."""
        self.root = root

    def create(self, key: str, entry: Entry) -> None:
        """Store a new session."""
        raise NotImplementedError

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        """Read, let fn change the entry in place, write."""
        raise NotImplementedError

    def patch(self, key: str, fields: Entry) -> None:
        """Set some top-level fields to values known beforehand."""

        def put(entry: Entry) -> None:
            entry.update(fields)

        self.update(key, put)

    def get(self, key: str) -> Entry:
        """Return the whole entry as plain objects."""
        raise NotImplementedError

    def field(self, key: str, name: str) -> object:
        """Return one top-level field of an entry that was just fetched."""
        return self.get(key)[name]

    def delete(self, key: str) -> None:
        """Remove a session."""
        raise NotImplementedError

    def newest(self, limit: int, status: str | None = None) -> list[Any]:
        """Return the `limit` most recently updated sessions, of one status if given."""
        raise NotImplementedError

    def prune(self, keep: int) -> None:
        """Remove all but the `keep` newest sessions, and give back what that frees."""
        raise NotImplementedError

    def fill(self, entries: Iterable[tuple[str, Entry]]) -> None:
        """Store many new sessions; never timed."""
        for key, entry in entries:
            self.create(key, entry)

    def append_item(self, key: str, item: Entry, fields: Entry) -> None:
        """Add an item to a session's transcript and set some fields, in one commit where the library can."""
        raise NotImplementedError

    def append_items(self, key: str, items: list[Entry]) -> None:
        """Add many items to a session's transcript; never timed."""
        for item in items:
            self.append_item(key, item, {})

    def tail(self, key: str, count: int) -> list[Any]:
        """Return the newest items of a session's transcript, as plain objects."""
        raise NotImplementedError

    def check(self) -> int:
        """Return how many problems the store's own check finds, 0 where it has none."""
        return 0

    def close(self) -> None:
        """Close every handle."""


def newest_of(entries: Iterable[tuple[str, Entry]], limit: int, status: str | None) -> list[Any]:
    """Return the newest entries of a store that can only be scanned."""
    kept = [
        (entry.get("updatedAt", 0), key, entry)
        for key, entry in entries
        if status is None or entry.get("status") == status
    ]
    kept.sort(key=lambda row: row[:2], reverse=True)
    return kept[:limit]
