"""Watchers: what an update pays beside one, how long until a change is seen, and what a watcher costs when idle.

The watcher is a process of its own. `woken`: by watchfiles; `polling`: without it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from bench.measure import NS_PER_S, clock
from bench.plan import Case, Metrics, Stage
from bench.sizes import entries
from shardstore import Store, _wake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "watching"
ABOUT = "a relaxed update beside a watcher; the time until a change is seen; idle watchers"
SESSIONS = 1_000
UPDATES = {"update, one session": 1, "update, 1,000 sessions in turn": SESSIONS}
ALONE, WOKEN, POLLING = "nobody watches", "woken", "polling"
_SPREAD_S = (0.03, 0.11, 0.27, 0.4)  # between two changes whose way to the watcher is timed


def cases(stage: Stage) -> Iterator[Case]:
    """Yield updates, ways and idleness."""
    for case, sessions in UPDATES.items():
        work = partial(_updates, sessions)
        yield Case(NAME, case, (ALONE, WOKEN, POLLING), partial(_beside, work), stage.plan.seconds)
    yield Case(NAME, "seen", (WOKEN, POLLING), partial(_beside, _seen), 0.0, rounds=min(3, stage.plan.rounds))
    yield Case(NAME, "idle", (WOKEN, POLLING), partial(_beside, _idle), 2.0, rounds=min(3, stage.plan.rounds))


@contextmanager
def _beside(
    work: Callable[[Store, subprocess.Popen[str] | None, float], Metrics], stage: Stage, how: str
) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, Store(root / "store", durability="relaxed") as store:
        store.create_many(entries("1 KB", SESSIONS))
        store.list(limit=1)
        watcher = None if how == ALONE else _started(root / "store", how)
        try:
            yield partial(work, store, watcher)
        finally:
            if watcher is not None:
                watcher.kill()
                watcher.communicate()


def _started(root: Path, how: str) -> subprocess.Popen[str]:
    if how == WOKEN:
        import_module("watchfiles")  # else it would poll, and nobody would know
    command = [
        sys.executable,
        "-c",
        f"from {__name__} import watch; watch(*__import__('sys').argv[1:])",
        str(root),
        how,
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _answer(process)
    return process


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _updates(sessions: int, store: Store, _watcher: subprocess.Popen[str] | None, seconds: float) -> Metrics:
    """Update sessions in turn. The processor's time of this process alone: two processes share the machine."""
    keys, number = [key for key, _ in entries("1 KB", SESSIONS)], 0
    end, began = clock() + int(seconds * NS_PER_S), time.process_time()
    while clock() < end:
        store.patch(keys[number % sessions], {"totalTokens": number})
        number += 1
    return {"cpu_us": (time.process_time() - began) / number * 1e6}


def _seen(store: Store, watcher: subprocess.Popen[str] | None, _seconds: float) -> Metrics:
    """Change one session now and then; return how long its change takes to arrive, in the middle and at most."""
    assert watcher is not None
    assert watcher.stdin is not None
    watcher.stdin.write("times\n")
    watcher.stdin.flush()
    took = []
    for number in range(4 * len(_SPREAD_S)):
        time.sleep(_SPREAD_S[number % len(_SPREAD_S)])
        began = time.monotonic()
        store.patch("seen", {"n": number})
        took.append(float(_answer(watcher)) - began)
    return {"median_ms": sorted(took)[len(took) // 2] * 1e3, "max_ms": max(took) * 1e3}


def _idle(_store: Store, watcher: subprocess.Popen[str] | None, seconds: float) -> Metrics:
    """Return which share of one processor a watcher takes while nothing happens."""
    assert watcher is not None
    assert watcher.stdin is not None
    watcher.stdin.write(f"idle {seconds}\n")
    watcher.stdin.flush()
    return {"cpu_percent": float(_answer(watcher)) * 100}


def watch(root: str, how: str) -> None:
    """Run the watcher's process: prints when each change of the session `seen` arrives; or how busy it is when idle."""
    if how == POLLING:
        _wake._start = lambda _directory: None
    with Store(root) as store, store.watch("seen") as changes:
        print(flush=True)
        for asked in sys.stdin:
            if asked.startswith("idle"):
                began, cpu = time.monotonic(), time.process_time()
                while time.monotonic() < began + float(asked.split()[1]):
                    changes.rests.wait(min(0.2, changes.rests.pause()))
                    changes.ready()
                print((time.process_time() - cpu) / (time.monotonic() - began), flush=True)
            else:
                for _ in range(4 * len(_SPREAD_S)):
                    next(changes)
                    print(time.monotonic(), flush=True)
