"""The newest 100 of 124 to 100,000 sessions: idle, with a where, after k changes, and while five write."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from bench.crew import Crew
from bench.measure import Summary, paced, sample
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import other
from bench.workloads.population import store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.peers.base import Peer

NAME = "list"
ABOUT = "the newest 100 of up to 100,000 sessions, idle, by status, with k changed since, beside 5 writers"
NEWEST = 100
SCANNED_UP_TO = 1_000  # sessions: a store that reads every file is not worth waiting for beyond that
CHANGED = (0, 1, 10, 100, 1_000)
WRITERS = 5
WRITE_STEP_S = 0.005  # of one writer: five of them do 1,000 updates a second together
BARE = "bare SQLite query"
SQLITE = "sqlite-listed"
COLUMNS = ("rev", "version", "created", "updated", "size", "fields")  # beside the key, as list returns them


def cases(stage: Stage) -> Iterator[Case]:
    """Yield idle, where, changed and busy for the plan's sizes."""
    plan = stage.plan
    for size in plan.list_sizes:
        scanning = ("perfile", "onefile") if size <= SCANNED_UP_TO else ()
        for status in (None, "running"):
            name = f"{size:,} sessions, {'idle' if status is None else 'where status'}"
            yield Case(NAME, name, ("shardstore", BARE, SQLITE, *scanning), partial(_idle, size, status), plan.seconds)
    for changed in CHANGED:
        size = plan.list_sizes[-1]
        if changed < size:
            yield Case(
                NAME,
                f"{size:,} sessions, {changed:,} changed",
                ("shardstore",),
                partial(_changed, size, changed),
                plan.seconds,
            )
    for size in plan.list_sizes:
        stores = ("shardstore", SQLITE)
        yield Case(NAME, f"{size:,} sessions, {WRITERS} writers", stores, partial(_busy, size), plan.window)


@contextmanager
def _idle(size: int, status: str | None, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    if store == BARE:
        database = stage.shared(f"bare-{size}", partial(_bare, stage, size))
        with closing(sqlite3.connect(database)) as db:
            yield lambda seconds: Summary.of(sample(partial(_query, db, status), seconds)).metrics()
        return
    with opened(store, store_of(stage, size, store)) as peer:
        peer.newest(NEWEST, status)
        yield lambda seconds: Summary.of(sample(lambda: peer.newest(NEWEST, status), seconds)).metrics()


def _bare(stage: Stage, size: int, root: Path) -> Path:
    """Copy what list returns into a plain table with an index on the time: the rows of a catalog, no more."""
    path = root / "bare.db"
    with opened("shardstore", store_of(stage, size)) as peer, closing(sqlite3.connect(path)) as db, db:
        db.execute(f"CREATE TABLE c(key TEXT PRIMARY KEY, {', '.join(COLUMNS)})")
        db.execute("CREATE INDEX newest ON c(updated)")
        db.executemany("INSERT INTO c VALUES(?, ?, ?, ?, ?, ?, ?)", map(_row, peer.newest(size)))
    return path


def _row(info: Any) -> tuple[object, ...]:
    times = (info.created_at.timestamp(), info.updated_at.timestamp())
    return (info.key, info.rev, info.version, *times, info.size, orjson.dumps(dict(info.fields)))


def _query(db: sqlite3.Connection, status: str | None) -> list[Any]:
    where, values = ("WHERE json_extract(fields, '$.status') = ?", [status]) if status else ("", [])
    query = f"SELECT key, {', '.join(COLUMNS)} FROM c {where} ORDER BY updated DESC LIMIT ?"
    return db.execute(query, (*values, NEWEST)).fetchall()


def touch_each(peer: Peer, rank: int, size: int, first: int, count: int) -> None:
    """Patch `count` sessions from the first-th on, round the store. A worker's job."""
    for number in range(first, first + count):
        peer.patch(other(number % size), {"totalTokens": number})


@contextmanager
def _changed(size: int, changed: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    """Another process changes k sessions; then one list is timed. Again until the time is over."""
    root = store_of(stage, size, store)
    with opened(store, root) as peer, Crew(store, root, 1) as crew:
        first = iter(range(1, 1_000_000_000, max(changed, 1)))

        def go(seconds: float) -> Metrics:
            taken: list[int] = []
            for _ in range(5 if seconds < 0.3 or changed > NEWEST else 20):
                crew.run(touch_each, size, next(first), changed)
                taken += sample(lambda: peer.newest(NEWEST), 0, at_least=1)
            return Summary.of(taken).metrics()

        yield go


def write_on(peer: Peer, rank: int, size: int, seconds: float) -> int:
    """Patch sessions all over the store at a steady pace; return how many. A worker's job."""
    numbers = iter(range(rank * 7_919, 1_000_000_000, 104_729))

    def write() -> None:
        number = next(numbers)
        peer.patch(other(number % size), {"inputTokens": number})

    return len(paced(write, seconds, WRITE_STEP_S))


@contextmanager
def _busy(size: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    root = store_of(stage, size, store)
    with opened(store, root) as peer, Crew(store, root, WRITERS) as crew:

        def go(seconds: float) -> Metrics:
            crew.start(write_on, size, seconds)
            taken = paced(lambda: peer.newest(NEWEST), seconds * 0.9, 0.02)
            return {**Summary.of(taken).metrics(), "writes": float(sum(crew.finish()))}

        yield go
