"""Many sessions in one call: made and imported beside one transaction of SQLite, and read beside single gets."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import orjson

from bench import outside
from bench.measure import NS_PER_S, clock
from bench.plan import Case, Metrics, Stage
from bench.sizes import entries
from shardstore import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "bulk"
ABOUT = "2,000 sessions of 1 KB made in one call, each safe from a power cut; 1,000 sessions read that are not open"
SESSIONS, READ = 2_000, 1_000
CREATE_MANY, CREATE, TRANSACTION = "create_many", "create, 2,000 times", "sqlite-full, one transaction"
IMPORT = "import, the whole command"
GET_MANY, GET = "get_many", "get, 1,000 times"
SOURCE = "sessions.json"


def cases(stage: Stage) -> Iterator[Case]:
    """Yield making and reading; few rounds, for each takes its time."""
    rounds = min(3, stage.plan.rounds)
    yield Case(NAME, "made", (CREATE_MANY, IMPORT, TRANSACTION, CREATE), _making, 0.0, rounds=rounds)
    yield Case(NAME, "read", (GET_MANY, GET), _reading, 0.0, rounds=rounds)


def _many(root: Path, rows: dict[str, dict[str, object]]) -> None:
    with Store(root / "store") as store:
        store.create_many(rows)


def _single(root: Path, rows: dict[str, dict[str, object]]) -> None:
    with Store(root / "store") as store:
        for key, entry in rows.items():
            store.create(key, entry)


def _imported(root: Path, _rows: dict[str, dict[str, object]]) -> None:
    source, store = str(root / SOURCE), str(root / "store")
    outside.run([*outside.shardstore(), "import", "openclaw", source, "--store", store])


def _transaction(root: Path, rows: dict[str, dict[str, object]]) -> None:
    db = sqlite3.connect(root / "sessions.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS sessions(key TEXT PRIMARY KEY, data BLOB NOT NULL)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO sessions VALUES(?, ?)", ((key, orjson.dumps(entry)) for key, entry in rows.items()))
    db.execute("COMMIT")
    db.close()


@contextmanager
def _making(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    work = {CREATE_MANY: _many, IMPORT: _imported, CREATE: _single, TRANSACTION: _transaction}[store]
    with stage.fresh() as root:
        rows = dict(entries("1 KB", SESSIONS))
        (root / SOURCE).write_bytes(orjson.dumps(rows))

        def go(_seconds: float) -> Metrics:
            shutil.rmtree(root / "store", ignore_errors=True)
            for left in root.glob("sessions.db*"):
                left.unlink()
            Store(root / "store").close()  # its directories are not what is measured
            return _timed(partial(work, root, rows))

        yield go


@contextmanager
def _reading(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root:
        rows = dict(entries("1 KB", SESSIONS))
        _many(root, rows)
        keys = list(rows)[::2][:READ]

        def go(_seconds: float) -> Metrics:
            with Store(root / "store") as opened:  # so that no session is open
                if store == GET_MANY:
                    return _timed(lambda: opened.get_many(keys))
                return _timed(lambda: [opened.get(key) for key in keys])

        yield go


def _timed(work: Callable[[], object]) -> Metrics:
    begun = clock()
    work()
    return {"seconds": (clock() - begun) / NS_PER_S}
