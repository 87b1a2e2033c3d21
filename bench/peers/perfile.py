"""A file a session, written with temp and rename, under a FileLock a session or, as often found, under none."""

from __future__ import annotations

import os
from contextlib import nullcontext
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson
from filelock import FileLock

from bench.peers.base import Entry, Peer, newest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


class PerFile(Peer):
    """FileLock objects are kept: making one for each update would cost the peer a further 30 us."""

    def __init__(self, root: Path, *, sync: bool, locked: bool = True) -> None:
        super().__init__(root)
        self.sync = sync
        self.locked = locked
        self.locks: dict[str, FileLock] = {}

    def path(self, key: str) -> str:
        """Return the file of a key."""
        return f"{self.root}/{blake2b(key.encode(), digest_size=16).hexdigest()}.json"

    def lock(self, key: str) -> AbstractContextManager[object]:
        """Return the kept lock of a key, or nothing to wait for."""
        if not self.locked:
            return nullcontext()
        lock = self.locks.get(key)
        if lock is None:
            lock = self.locks[key] = FileLock(self.path(key) + ".lock")
        return lock

    def create(self, key: str, entry: Entry) -> None:
        with self.lock(key):
            replace(self.path(key), orjson.dumps(entry), sync=self.sync)

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        path = self.path(key)
        with self.lock(key):
            entry = load(path)
            fn(entry)
            replace(path, orjson.dumps(entry), sync=self.sync)

    def get(self, key: str) -> Entry:
        return load(self.path(key))

    def delete(self, key: str) -> None:
        with self.lock(key):
            os.unlink(self.path(key))

    def newest(self, limit: int, status: str | None = None) -> list[Any]:
        return newest_of(self._scan(), limit, status)

    def _scan(self) -> Iterator[tuple[str, Entry]]:
        for found in os.scandir(self.root):
            if found.name.endswith(".json"):
                try:
                    yield found.path, load(found.path)
                except FileNotFoundError:
                    continue  # deleted since the directory was read


def load(path: str) -> Entry:
    """Read and decode one file."""
    with open(path, "rb", buffering=0) as file:
        found: Entry = orjson.loads(file.read())
    return found


def replace(path: str, data: bytes, *, sync: bool) -> None:
    """Put data in place of path, atomically; with sync also for good."""
    temp = f"{path}.{os.getpid()}.tmp"
    with open(temp, "wb", buffering=0) as file:
        file.write(data)
        if sync:
            os.fsync(file.fileno())
    os.replace(temp, path)
    if sync:
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


STORE = PerFile
