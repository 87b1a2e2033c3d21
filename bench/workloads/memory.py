"""Resident memory of a plain process: after 100,000 operations, and after a list of a large store."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench import outside
from bench.plan import Case, Metrics, Stage, opened
from bench.workloads.population import sessions, store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "memory"
ABOUT = "resident memory: before and after 100,000 operations on 2,000 sessions; of list(limit=100) at 100,000 sessions"
SESSIONS = 2_000
RESIDENT = """
import os, subprocess, sys
root, count = sys.argv[1], int(sys.argv[2])
def resident():
    try:
        return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20
    except OSError:
        told = subprocess.run(['ps', '-o', 'rss=', '-p', str(os.getpid())], capture_output=True, text=True)
        return int(told.stdout) / 1024
"""
PROBES = {
    "python alone": ("print(resident(), resident())", "print(resident(), resident())"),
    "shardstore": (
        """
from shardstore import Store
store = Store(root + '/store', durability='relaxed')
keys = list(store)
def bump(draft): draft['totalTokens'] += 1
def work(n):
    for i in range(n):
        key = keys[i * 7919 % len(keys)]
        store.update(key, bump) if i % 3 else store.get(key)
work(len(keys)); before = resident(); work(count); print(before, resident())
""",
        """
from shardstore import Store
before = resident()
store = Store(root + '/store', durability='relaxed'); rows = store.list(limit=100, order_by='-updated_at')
assert len(rows) == 100
print(before, resident())
""",
    ),
    "sqlite-listed": (
        """
import sqlite3, orjson
db = sqlite3.connect(root + '/sessions.db', isolation_level=None); db.execute('PRAGMA synchronous=NORMAL')
keys = [key for key, in db.execute('SELECT key FROM sessions')]
def get(key):
    return orjson.loads(db.execute('SELECT data FROM sessions WHERE key = ?', (key,)).fetchone()[0])
def update(key):
    db.execute('BEGIN IMMEDIATE')
    entry = get(key)
    entry['totalTokens'] += 1
    db.execute('UPDATE sessions SET data = ? WHERE key = ?', (orjson.dumps(entry), key))
    db.execute('COMMIT')
def work(n):
    for i in range(n):
        key = keys[i * 7919 % len(keys)]
        update(key) if i % 3 else get(key)
work(len(keys)); before = resident(); work(count); print(before, resident())
""",
        """
import sqlite3
before = resident()
db = sqlite3.connect(root + '/sessions.db')
rows = db.execute('SELECT key, updated, status FROM sessions ORDER BY updated DESC LIMIT 100').fetchall()
assert len(rows) == 100
print(before, resident())
""",
    ),
}  # fmt: skip


def cases(stage: Stage) -> Iterator[Case]:
    """Yield operations and list."""
    plan = stage.plan
    rounds = min(3, plan.rounds)
    yield Case(NAME, f"{plan.operations:,} operations", tuple(PROBES), _operations, 0.0, rounds)
    size = plan.list_sizes[-1]
    yield Case(NAME, f"list of {size:,} sessions", tuple(PROBES), partial(_list, size), 0.0, rounds)


@contextmanager
def _operations(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root:
        if store != "python alone":
            with opened(store, root) as peer:
                peer.fill(sessions(SESSIONS))
        yield lambda _: resident(PROBES[store][0], root, stage.plan.operations)


@contextmanager
def _list(size: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    root = stage.root if store == "python alone" else store_of(stage, size, store)
    yield lambda _: resident(PROBES[store][1], root, 0)


def resident(code: str, root: Path, count: int) -> Metrics:
    """Run a probe in a bare Python; return what it says: MB before, MB after."""
    before, after = map(float, outside.run(outside.python(RESIDENT + code, root, count)).split())
    return {"resident_mb": after, "grown_mb": after - before}
