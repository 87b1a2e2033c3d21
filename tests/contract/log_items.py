"""Items for the tests of the log, and logs so long that some of their items are settled."""

from __future__ import annotations

from typing import Any

from shardstore import Store

SETTLES = 300 * 1024  # bytes of items that are surely more than a journal keeps


def message(number: int, size: int = 10) -> dict[str, Any]:
    """Return an item with a number and about so many bytes."""
    return {"n": number, "role": "user", "content": "x" * size}


def fill(store: Store, key: str, count: int, *, size: int = 1_000, ids: bool = False) -> None:
    """Append items one commit at a time, so many that the older ones settle."""
    quick = store.using(durability="relaxed")
    for number in range(count):
        quick.append(key, [message(number, size)], ids=[f"id{number}"] if ids else None)
