"""What the other processes of test_processes.py do. Each keeps its store open from one call to the next."""

from __future__ import annotations

import time
from typing import Any

from shardstore import Draft, LockTimeout, SessionInfo, Store
from shardstore.query import Query
from tests.support.peer import hear, say

_open: dict[str, Store] = {}


def store(root: str) -> Store:
    """Return this process's store; one of an earlier test is closed."""
    if root not in _open:
        for other in _open.values():
            other.close()
        _open.clear()
        _open[root] = Store(root, durability="relaxed", lock_timeout=0.3)
    return _open[root]


def write(root: str, key: str, value: int) -> bool:
    """Patch a session; False where somebody who is stopped holds its lock."""
    try:
        store(root).patch(key, {"n": value, "status": "even" if value % 2 == 0 else "odd"})
    except LockTimeout:
        return False
    return True


def delete(root: str, key: str) -> bool:
    """Delete a session; False as above."""
    try:
        return store(root).delete(key)
    except LockTimeout:
        return False


def listed(root: str, *, refresh: bool = True) -> dict[str, Any]:
    """List, and check that what is listed agrees with itself."""
    index = store(root)._engine.index
    return {info.key: info.fields for info in index.lister.select(Query(), refresh=refresh)}


def counted(root: str, value: str) -> int:
    return store(root).count(where={"status": value})


def newest(root: str, order_by: str) -> list[str]:
    """List the keys in an order, in pages of two."""
    found: list[SessionInfo] = []
    while page := store(root).list(order_by=order_by, limit=2, after=found[-1] if found else None):
        found += page
    return [info.key for info in found]


def reindex(root: str, fields: list[str]) -> None:
    store(root).reindex(fields)


def hold(root: str, key: str, value: int) -> None:
    """Stay inside an update until told to go on, listing meanwhile: that waits for nobody."""

    def wait(draft: Draft) -> None:
        begun = time.monotonic()
        store(root).list(limit=3)
        say(time.monotonic() - begun)
        hear()
        draft["n"] = value

    try:
        store(root).update(key, wait)
    except LockTimeout:
        say(0.0)
        hear()


def write_on(root: str, key: str, count: int) -> None:
    """Update one session many times, to be stopped or killed somewhere in it."""
    for number in range(count):
        write(root, key, number)
        if number == 2:
            say("busy")


def list_on(root: str, key: str, count: int) -> None:
    """List many times, changing a session in between, to be stopped or killed somewhere in it."""
    for number in range(count):
        write(root, key, number)
        store(root).list(limit=1)
        if number == 2:
            say("busy")


def compact(root: str) -> None:
    store(root).compact()
