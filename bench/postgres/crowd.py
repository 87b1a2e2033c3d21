"""Several processes, each of which updates a session of its own: all of them together, by the second."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, Any

from bench.postgres.meter import Cost, Server, between
from bench.postgres.plain import Plain
from shardstore import Store

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = 8


def crowd(server: Server, kind: str, url: str, schema: str, size: int, seconds: float) -> Cost:
    """Have each process update its session for so long; return what one update costs when all go on at once."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(PROCESSES + 1), context.Queue()
    members = [
        context.Process(target=member, args=(kind, url, schema, key_of(size, n), seconds, ready, results), daemon=True)
        for n in range(PROCESSES)
    ]
    try:
        for one in members:
            one.start()
        ready.wait(120.0)
        cpu, wal = server.cpu(), server.wal()
        found = [results.get(timeout=seconds + 120.0) for _ in members]
        spent, logged = between(cpu, server.cpu()), server.wal() - wal
        ready.wait(120.0)  # their connections are open until the server's CPU was read
    finally:
        for one in members:
            one.join(30.0)
            one.kill()
    calls = sum(count for count, _, _ in found)
    longest = max(took for _, took, _ in found)
    client = sum(used for _, _, used in found) / calls
    return Cost(longest / calls, client, None if spent is None else spent / calls, logged / calls, None)


def key_of(size: int, n: int) -> str:
    """Return the session of one process."""
    return f"crowd:{size}:{n}"


def member(kind: str, url: str, schema: str, key: str, seconds: float, ready: Any, results: Any) -> None:
    """Be one process."""
    act, close = _store(url, schema, key) if kind == "store" else _plain(url, schema, key)
    try:
        for _ in range(5):
            act()
        ready.wait(120.0)
        count, used, began = 0, time.process_time(), time.perf_counter()
        while time.perf_counter() - began < seconds:
            act()
            count += 1
        results.put((count, time.perf_counter() - began, time.process_time() - used))
        ready.wait(120.0)
    finally:
        close()


def _store(url: str, schema: str, key: str) -> tuple[Callable[[], object], Callable[[], None]]:
    store = Store(f"{url}{'&' if '?' in url else '?'}schema={schema}", create=False)
    return lambda: store.update(key, lambda draft: draft.update(n=draft["n"] + 1)), store.close


def _plain(url: str, schema: str, key: str) -> tuple[Callable[[], object], Callable[[], None]]:
    plain = Plain(url, f"{schema}_plain")
    return lambda: plain.update(key), plain.close
