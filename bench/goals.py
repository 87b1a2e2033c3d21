"""The goals, one row each. The raw results judge each one: reached, missed, or not measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.judge import (
    OURS,
    Goal,
    Verdict,
    at_most,
    busier,
    bystander,
    cost,
    difference,
    faster,
    plain,
)
from bench.workloads import bulk, typed, watching
from bench.workloads.asynchronous import AIOSQLITE, AWAITED, DIRECT, IN_THREADS, ONE_BY_ONE, TASKS
from bench.workloads.cold import GET, IMPORTS, INSPECT
from bench.workloads.listing import BARE
from bench.workloads.rebuild import READ_ALL

if TYPE_CHECKING:
    from bench.results import Results

COMMIT = "shardstore-commit"
MANY = "100,000 sessions"


def _durable(where: str) -> tuple[Goal, ...]:
    one, eight = f"1 process{where}", f"8 processes{where}"
    spread = "durable-spread"
    return (
        Goal(
            "durable", f"update, {one}: faster than SQLite FULL", faster("durable", one, "sqlite-full", COMMIT), 2, "x"
        ),
        Goal("durable", f"update, {one}: faster than LMDB", faster("durable", one, "lmdb", COMMIT), 2, "x"),
        Goal(
            "durable",
            f"{eight} on 8 sessions: more than SQLite FULL",
            busier(spread, eight, "sqlite-full", COMMIT),
            8,
            "x",
        ),
        Goal("durable", f"{eight} on 8 sessions: more than LMDB", busier(spread, eight, "lmdb", COMMIT), 5, "x"),
    )


def _changed(count: int) -> Goal:
    case, idle = f"{MANY}, {count:,} changed", f"{MANY}, 0 changed"
    text = f"list, {MANY}, {count:,} changed since: for each"
    return at_most("index", text, difference("list", case, "p50_us", (idle, "p50_us"), count), 60, "µs")


def _awaited(case: str, store: str, other: str, wanted: float) -> Goal:
    return Goal("async", f"{case}, {store}: faster than {other}", faster("async", case, other, store), wanted, "x")


def _made(how: str) -> Goal:
    text = f"{how}, 2,000 sessions: cost of one SQLite transaction"
    return at_most("bulk", text, cost("bulk", ("made", how), ("made", bulk.TRANSACTION), "seconds"), 10, "x")


def _typed(kind: str) -> Goal:
    text = f"typed.update, {kind}: cost of update"
    return at_most("typed", text, cost("typed", ("relaxed", kind), ("relaxed", typed.PLAIN)), 2, "x")


def _seen(how: str, limit: float) -> Goal:
    return at_most(
        "watching", f"a change is seen, {how}, at the latest", plain("watching", "seen", how, "max_ms"), limit, "ms"
    )


def _beside(case: str) -> Goal:
    measure = cost("watching", (case, watching.WOKEN), (case, watching.ALONE), "cpu_us")
    return at_most("watching", f"{case}, beside a watcher: its processor's time over that without", measure, 1.05, "x")


GOALS = (
    _made(bulk.CREATE_MANY),
    _made(bulk.IMPORT),
    Goal(
        "bulk",
        "get_many(1,000), sessions that are not open: faster than 1,000 gets",
        cost("bulk", ("read", bulk.GET), ("read", bulk.GET_MANY), "seconds"),
        3,
        "x",
    ),
    *map(_typed, typed.MODELS),
    *map(_beside, watching.UPDATES),
    _seen(watching.WOKEN, 50),
    _seen(watching.POLLING, 1_000),
    *[
        at_most("watching", f"an idle watcher, {how}", plain("watching", "idle", how, "cpu_percent"), 1, "%")
        for how in (watching.WOKEN, watching.POLLING)
    ],
    at_most("async", "awaited get beside a direct one", cost("async", ("get", AWAITED), ("get", DIRECT)), 1.5, "x"),
    at_most(
        "async",
        "awaited relaxed update beside a direct one",
        cost("async", ("relaxed update", AWAITED), ("relaxed update", DIRECT)),
        1.5,
        "x",
    ),
    _awaited("durable, 300 keys", TASKS, ONE_BY_ONE, 8),
    _awaited("durable, 300 keys", TASKS, AIOSQLITE, 3),
    _awaited("durable, one key", TASKS, ONE_BY_ONE, 5),
    _awaited("durable, one key", IN_THREADS, ONE_BY_ONE, 5),
    Goal("store", "update(fn), 1 KB: faster than SQLite NORMAL", faster("touch", "update 1 KB", "sqlite"), 2, "x"),
    Goal(
        "store",
        "the same over 200 sessions in turn",
        faster("touch", "update 1 KB, 200 sessions in turn", "sqlite"),
        2,
        "x",
    ),
    Goal("store", "update(fn), 1 KB: faster than diskcache", faster("touch", "update 1 KB", "diskcache"), 6, "x"),
    Goal("store", "update(fn), 42 KB: faster than SQLite NORMAL", faster("touch", "update 42 KB", "sqlite"), 5, "x"),
    at_most(
        "store",
        "update(fn), 400 KB: cost of our own 1 KB",
        cost("touch", ("update 400 KB", OURS), ("update 1 KB", OURS)),
        3,
        "x",
    ),
    at_most(
        "store",
        "patch, 42 KB: cost of our own 1 KB",
        cost("touch", ("patch 42 KB", OURS), ("patch 1 KB", OURS)),
        1.5,
        "x",
    ),
    Goal("store", "get, 1 KB, one field: faster than SQLite", faster("get", "1 KB, one field", "sqlite"), 1, "x"),
    Goal("store", "get, 1 KB, everything: faster than SQLite", faster("get", "1 KB, everything", "sqlite"), 1, "x"),
    Goal("store", "get, 42 KB, one field: faster than SQLite", faster("get", "42 KB, one field", "sqlite"), 3, "x"),
    Goal("store", "get, 42 KB, everything: faster than SQLite", faster("get", "42 KB, everything", "sqlite"), 3, "x"),
    at_most(
        "store",
        "update(fn), 1 KB: cost of the floor",
        cost("floor", ("update 1 KB", OURS), ("update 1 KB", "floor")),
        2,
        "x",
    ),
    Goal(
        "store",
        "one field of 240 sessions of 233 KB: faster than one sessions.json",
        faster("sessionsjson", "240 sessions of 230 KB", "onefile"),
        1_000,
        "x",
    ),
    Goal(
        "waiting", "8 processes, one key: as many updates as SQLite", busier("hotkey", "8 processes", "sqlite"), 1, "x"
    ),
    at_most(
        "waiting",
        "8 processes, one key: p99 over the fair share",
        plain("hotkey", "8 processes", OURS, "p99_share"),
        3,
        "x",
    ),
    Goal(
        "waiting",
        "8 processes, one key: fewest turns over most",
        plain("hotkey", "8 processes", OURS, "fairness"),
        0.7,
        "",
    ),
    at_most("waiting", "fan-out 192: bystander's p99 grows by (0: within 10 %)", bystander("192 children"), 1, "ms"),
    *_durable(""),
    *_durable(" on ext4"),
    *_durable(" on xfs"),
    at_most(
        "index",
        f"list(100), {MANY}, idle: cost of the bare query",
        cost("list", (f"{MANY}, idle", OURS), (f"{MANY}, idle", BARE)),
        3,
        "x",
    ),
    _changed(1),
    _changed(10),
    _changed(100),
    _changed(1_000),
    at_most(
        "index",
        "update, session marked already: the index's part",
        difference("indexcost", "update, noted", "with_p50_us", ("update, noted", "without_p50_us")),
        1,
        "µs",
    ),
    at_most(
        "index",
        "update, session not marked yet: the index's part",
        difference("indexcost", "first after a list", "noting_p50_us", ("first after a list", "noted_p50_us")),
        10,
        "µs",
    ),
    at_most(
        "index",
        f"rebuild, {MANY}: cost of reading every file once",
        cost("rebuild", (MANY, OURS), (MANY, READ_ALL), "seconds"),
        2,
        "x",
    ),
    at_most(
        "command line",
        f"shardstore inspect, {MANY}",
        plain("cold", f"command line, {MANY}", INSPECT, "p50_us", 1e-6),
        1.5,
        "s",
    ),
    at_most(
        "command line",
        "shardstore get: cost of importing typer, rich, orjson, sqlite3",
        cost("cold", (f"command line, {MANY}", GET), (f"command line, {MANY}", IMPORTS)),
        1.6,
        "x",
    ),
    at_most(
        "memory",
        f"list(limit=100) of {MANY}, resident",
        plain("memory", f"list of {MANY}", OURS, "resident_mb"),
        40,
        "MB",
    ),
)


def evaluate(results: Results) -> list[Verdict]:
    """Judge every goal."""
    return [Verdict(goal, goal.measure(results)) for goal in GOALS]


def text(verdicts: list[Verdict]) -> str:
    """Return the verdicts as lines, those that were measured."""
    rows = [verdict.cells() for verdict in verdicts if verdict.met is not None]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
