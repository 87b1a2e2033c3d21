"""The least that a locked append of one change can cost in this Python: flock, fstat, orjson, write.

What it leaves out is what a store is for: it checks nothing, survives no torn write, keeps no bound on the file,
tells no index, and forgets what another process wrote.
"""

from __future__ import annotations

import fcntl
import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from bench.peers.base import Entry, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODE = 0o600


class Floor(Peer):
    """One kept descriptor and one kept entry a session."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.kept: dict[str, tuple[int, Entry]] = {}

    def create(self, key: str, entry: Entry) -> None:
        path = self.root / f"{blake2b(key.encode(), digest_size=16).hexdigest()}.jsonl"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, MODE)
        os.write(fd, orjson.dumps({"put": entry}) + b"\n")
        self.kept[key] = (fd, dict(entry))

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        fd, entry = self.kept[key]
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.fstat(fd)
        draft = entry.copy()
        fn(draft)
        changed = {name: value for name, value in draft.items() if entry.get(name) is not value}
        os.write(fd, orjson.dumps({"set": changed}) + b"\n")
        self.kept[key] = (fd, draft)
        fcntl.flock(fd, fcntl.LOCK_UN)

    def patch(self, key: str, fields: Entry) -> None:
        fd, entry = self.kept[key]
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.fstat(fd)
        os.write(fd, orjson.dumps({"set": fields}) + b"\n")
        entry.update(fields)
        fcntl.flock(fd, fcntl.LOCK_UN)

    def get(self, key: str) -> Entry:
        return self.kept[key][1].copy()

    def close(self) -> None:
        for fd, _ in self.kept.values():
            os.close(fd)


STORE = Floor
