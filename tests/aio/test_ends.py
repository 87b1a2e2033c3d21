"""A loop, or a process, that ends or forks while calls are under way: begun calls are whole, and no other one comes later."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from shardstore import Store
from shardstore.aio import AsyncStore
from tests.scenarios.awaited import LIMIT, Blocked, adds, run
from tests.scenarios.groups import wait_until
from tests.support.actions import in_child, wait_for


def in_thread(work: Any) -> None:
    """Run a coroutine on a loop of its own, in a thread of its own."""
    thread = threading.Thread(target=lambda: asyncio.run(work))
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_loop_that_is_closed_under_its_calls(root: Path) -> None:
    """Nobody cancels them: the thread ends the call that it has begun, and begins no other; a new loop goes on."""
    store, blocked = AsyncStore(root), Blocked()
    loop = asyncio.new_event_loop()

    async def begin() -> list[asyncio.Task[Any]]:
        calls = [store.update("k", blocked), store.update("k", adds(1)), store.copy("k", "copied"), store.count()]
        tasks = [loop.create_task(call) for call in calls]
        await blocked.has_begun()
        return tasks[:3]

    tasks = loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    blocked.go.set()
    with Store(root) as other:
        wait_until(lambda: other.get("k") is not None)
        time.sleep(0.05)
        assert other["k"].data == {"blocked": True}
        assert list(other) == ["k"]
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # as meant here

    async def go_on() -> None:
        assert (await store.update("k", adds(2))).data == {"blocked": True, "seen": [2]}
        await store.close()

    run(go_on())


def test_a_fork_with_writes_under_way(root: Path) -> None:
    """The child has none of the parent's calls: each is made once, by the parent, and the child makes its own."""

    async def main() -> None:
        store, blocked = AsyncStore(root), Blocked()
        calls = [asyncio.create_task(store.update("k", mutator)) for mutator in (blocked, adds(1), adds(2))]
        await blocked.has_begun()

        async def child() -> None:
            assert await store.get("k") is None, "it is not committed yet"
            assert (await store.update("own", adds(3))).rev == 1
            await store.update("k", adds(4))
            await store.close()

        pid = in_child(lambda: in_thread(child()))
        with Store(root) as other:
            await asyncio.to_thread(wait_until, lambda: other.get("own") is not None)
        blocked.go.set()
        await asyncio.gather(*calls)
        assert await asyncio.to_thread(wait_for, pid) == 0
        found = await store.get("k")
        assert found is not None
        assert sorted(found["seen"]) == [1, 2, 4]
        assert found["blocked"]
        assert found.rev == 4
        await store.close()

    run(main())
