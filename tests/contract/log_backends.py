"""The engines that the contract of the log is held against: each opens the one store of a test again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from tests.contract.backend import FileBackend

SETTLES = 300 * 1024  # bytes of items that are surely more than a journal keeps


class MemoryBackend:
    """A store in memory. It cannot be opened a second time, so a view on it stands for that."""

    def __init__(self) -> None:
        self._store = Store.memory()

    def open(self, **options: Any) -> Store:
        """Return a view on the one store of this test."""
        return self._store.using(**options)


@pytest.fixture(params=["files", "memory"])
def backend(request: pytest.FixtureRequest, root: Path) -> FileBackend | MemoryBackend:
    """Give the engine under test."""
    return FileBackend(root) if request.param == "files" else MemoryBackend()


def message(number: int, size: int = 10) -> dict[str, Any]:
    """Make an item with a number and about so many bytes."""
    return {"n": number, "role": "user", "content": "x" * size}


def fill(store: Store, key: str, count: int, *, size: int = 1_000, ids: bool = False) -> None:
    """Append items one commit at a time, so many that the older ones settle."""
    quick = store.using(durability="relaxed")
    for number in range(count):
        quick.append(key, [message(number, size)], ids=[f"id{number}"] if ids else None)
