"""Which session's lock is held by whom, for the eyes of a person. Nothing here decides anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shardstore import _codec as codec
from shardstore._files.locks.holders import held, open_files
from shardstore.reports import LockHolder

if TYPE_CHECKING:
    from shardstore._files.layout import Layout


def lock_holders(layout: Layout) -> list[LockHolder]:
    """Return the held locks of a store, at a cost of the locks held on this machine, not of the sessions.

    Locks of processes that this user may not look into are not found.
    """
    shards = os.path.realpath(layout.shards) + os.sep
    found = {}
    for lock in held():
        for path, _ in open_files(lock):
            if path.startswith(shards):
                found[path] = LockHolder(_key_in(path), path, lock.pid)
    return [found[path] for path in sorted(found)]


def _key_in(path: str) -> str | None:
    """Read the session's key from the first record of its shard."""
    try:
        with open(path, "rb") as file:
            key = codec.loads(file.readline())["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return key if isinstance(key, str) else None
