"""Awaited calls beside direct ones: on the loop, overlapped on many keys, grouped on one, and beside a held key."""

from __future__ import annotations

import asyncio
import importlib.util
import sqlite3
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from bench.measure import Summary, clock, sample
from bench.plan import Case, Metrics, Stage
from bench.sizes import entries
from shardstore import Draft, Store
from shardstore.aio import AsyncStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

NAME = "async"
ABOUT = (
    "AsyncStore beside direct calls, 1 KB sessions: reads and relaxed updates on the loop; 300 durable updates on 300 "
    "keys and on one; the loop while a key is held for 100 ms"
)
MANY, THREADS, HELD_S = 300, 8, 0.1
AWAITED, DIRECT = "AsyncStore", "Store"
ONE_BY_ONE, TASKS, IN_THREADS = "Store, one after the other", "AsyncStore, 300 tasks", "Store, 8 threads"
AIOSQLITE = "aiosqlite, WAL FULL, 300 tasks"
HELD, IDLE = "a key is held, 30 tasks want it", "idle loop"
OTHERS, ALONE = "another key, meanwhile", "another key, nothing held"


def cases(stage: Stage) -> Iterator[Case]:
    """Yield what is compared in one run each."""
    seconds, rounds = stage.plan.seconds, min(5, stage.plan.rounds)
    yield Case(NAME, "get", (AWAITED, DIRECT), partial(_single, "get"), seconds)
    yield Case(NAME, "relaxed update", (AWAITED, DIRECT), partial(_single, "update"), seconds)
    sqlite = (AIOSQLITE,) if importlib.util.find_spec("aiosqlite") else ()
    yield Case(NAME, "durable, 300 keys", (TASKS, ONE_BY_ONE, *sqlite), partial(_durable, MANY), 0.0, rounds=rounds)
    yield Case(NAME, "durable, one key", (TASKS, IN_THREADS, ONE_BY_ONE), partial(_durable, 1), 0.0, rounds=rounds)
    yield Case(NAME, "a turn of the loop, longest", (HELD, IDLE), _lag, HELD_S, rounds=rounds)
    yield Case(NAME, "durable update", (OTHERS, ALONE), _lag, HELD_S, rounds=rounds)


def add_one(draft: Draft) -> None:
    """Change one field."""
    draft["n"] = draft.get("n", 0) + 1


def _filled(root: Path, count: int) -> list[str]:
    rows = dict(entries("1 KB", count))
    with Store(root / "store") as store:
        store.create_many(rows)
    return list(rows)


@contextmanager
def _single(verb: str, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    """Time one call after the other."""
    with stage.fresh() as root, asyncio.Runner() as runner, Store(root / "store", durability="relaxed") as opened:
        (key,) = _filled(root, 1)
        awaited = AsyncStore(opened)
        direct = (lambda: opened.get(key)) if verb == "get" else (lambda: opened.update(key, add_one))
        call = (lambda: awaited.get(key)) if verb == "get" else (lambda: awaited.update(key, add_one))

        async def sample_awaited(seconds: float) -> list[int]:
            taken, until = [], clock() + int(seconds * 1e9)
            while (begun := clock()) < until:
                await call()
                taken.append(clock() - begun)
            return taken

        yield lambda seconds: Summary.of(
            sample(direct, seconds) if store == DIRECT else runner.run(sample_awaited(seconds))
        ).metrics()
        runner.run(awaited.close())


@contextmanager
def _durable(keys: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    """Time MANY updates together; the figure is that of one."""
    with stage.fresh() as root, asyncio.Runner() as runner, Store(root / "store") as opened:
        names = [name for name in _filled(root, keys) for _ in range(MANY // keys)]
        awaited = AsyncStore(opened)
        sqlite = runner.run(_open_sqlite(root, names)) if store == AIOSQLITE else None

        async def tasks() -> None:
            await asyncio.gather(*[awaited.update(name, add_one) for name in names])

        work: dict[str, Callable[[], object]] = {
            TASKS: lambda: runner.run(tasks()),
            ONE_BY_ONE: lambda: [opened.update(name, add_one) for name in names],
            IN_THREADS: lambda: _in_threads(opened, names),
            AIOSQLITE: lambda: runner.run(_update_sqlite(sqlite, names)),
        }

        def go(_seconds: float) -> Metrics:
            begun = clock()
            work[store]()
            return Summary.of([(clock() - begun) // len(names)]).metrics()

        yield go
        runner.run(awaited.close())
        if sqlite is not None:
            runner.run(sqlite.close())


def _in_threads(store: Store, names: list[str]) -> None:
    def work(own: list[str]) -> None:
        for name in own:
            store.update(name, add_one)

    threads = [threading.Thread(target=work, args=(names[start::THREADS],)) for start in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def _open_sqlite(root: Path, names: list[str]) -> Any:
    import aiosqlite  # not needed for the rest

    with sqlite3.connect(root / "sessions.db") as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE sessions(key TEXT PRIMARY KEY, data BLOB NOT NULL)")
        rows = [
            (name, orjson.dumps(entry)) for name, entry in zip(names, dict(entries("1 KB", MANY)).values(), strict=True)
        ]
        db.executemany("INSERT INTO sessions VALUES(?, ?)", rows)
    db.close()
    opened = await aiosqlite.connect(root / "sessions.db", isolation_level=None)
    await opened.execute("PRAGMA synchronous=FULL")
    return opened


async def _update_sqlite(db: Any, names: list[str]) -> None:
    """Read, change and write a row a transaction; one connection has one transaction at a time."""
    turn = asyncio.Lock()

    async def one(name: str) -> None:
        async with turn:
            await db.execute("BEGIN IMMEDIATE")
            async with db.execute("SELECT data FROM sessions WHERE key = ?", (name,)) as found:
                entry = orjson.loads((await found.fetchone())[0])
            entry["n"] = entry.get("n", 0) + 1
            await db.execute("UPDATE sessions SET data = ? WHERE key = ?", (orjson.dumps(entry), name))
            await db.execute("COMMIT")

    await asyncio.gather(*[one(name) for name in names])


@contextmanager
def _lag(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    """Time the loop, or updates of another key, while somebody holds a key that thirty tasks want."""
    with stage.fresh() as root, asyncio.Runner() as runner, Store(root / "store") as opened:
        wanted, other = _filled(root, 2)
        awaited = AsyncStore(opened)

        async def turns(seconds: float) -> list[int]:
            longest, until = 0, clock() + int(seconds * 1e9)
            while (begun := clock()) < until:
                await asyncio.sleep(0.001)
                longest = max(longest, clock() - begun - 1_000_000)
            return [longest]

        async def updates(seconds: float) -> list[int]:
            taken, until = [], clock() + int(seconds * 1e9)
            while (begun := clock()) < until:
                await awaited.update(other, add_one)
                taken.append(clock() - begun)
            return taken

        measured = turns if store in (HELD, IDLE) else updates

        def go(seconds: float) -> Metrics:
            if store in (HELD, OTHERS):
                return Summary.of(
                    runner.run(_beside_a_holder(awaited, opened, wanted, partial(measured, seconds)))
                ).metrics()
            return Summary.of(runner.run(measured(seconds))).metrics()

        yield go
        runner.run(awaited.close())


async def _beside_a_holder(
    awaited: AsyncStore, opened: Store, key: str, measured: Callable[[], Coroutine[Any, Any, list[int]]]
) -> list[int]:
    """Measure while a thread of its own holds the key."""
    has, end = threading.Event(), threading.Event()

    def hold() -> None:
        with opened.edit(key):
            has.set()
            end.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    await asyncio.to_thread(has.wait)
    tasks = [asyncio.create_task(awaited.update(key, add_one)) for _ in range(30)]
    await asyncio.sleep(0.01)
    try:
        return await measured()
    finally:
        end.set()
        await asyncio.gather(*tasks)
        holder.join()
