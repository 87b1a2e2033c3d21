"""AsyncStore on one loop: the order of calls on a session, and what a cancellation stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from shardstore import Draft
from shardstore.aio import AsyncStore

LIMIT = 60.0  # seconds after which a scenario fails instead of hanging


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run one test's coroutine on a new loop."""

    async def limited() -> Any:
        async with asyncio.timeout(LIMIT):
            return await main

    return asyncio.run(limited())


def adds(number: int) -> Callable[[Draft], None]:
    def add(draft: Draft) -> None:
        draft["seen"] = [*draft.get("seen", []), number]

    return add


class Blocked:
    """A mutator that stops inside the lock until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, draft: Draft) -> None:
        self.begun.set()
        assert self.go.wait(LIMIT)
        draft["blocked"] = True

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, LIMIT)


def calls_on_one_key_commit_in_their_order(root: Path) -> None:
    """Nothing is lost, each task sees its own commit, and the order is that in which the calls were made."""

    async def main() -> None:
        async with AsyncStore(root, durability="relaxed") as store:
            sessions = await asyncio.gather(*[store.update("k", adds(number)) for number in range(300)])
            assert [session.rev for session in sessions] == list(range(1, 301))
            found = await store.get("k")
            assert found is not None
            assert found["seen"] == list(range(300))

    run(main())


def calls_that_wait_for_one_key_take_one_thread(root: Path) -> None:
    """However many tasks wait for a session, one thread waits, and other sessions are written meanwhile."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            blocked = Blocked()
            first = asyncio.create_task(store.update("k", blocked))
            await blocked.has_begun()
            waiting = [asyncio.create_task(store.update("k", adds(number))) for number in range(100)]
            await asyncio.sleep(0.05)
            other = asyncio.create_task(store.patch("other", {"a": 1}))
            done, _ = await asyncio.wait({other}, timeout=5)
            blocked.go.set()
            await asyncio.gather(first, other, *waiting)
            assert done, "every thread waited for the one session"
            assert (await store.history("k"))[-1]["seen"] == list(range(100))

    run(main())


def a_turn_that_comes_with_the_cancellation_is_passed_on(root: Path) -> None:
    """The turn came and the cancellation too, before the task ran again: it begins nothing, and blocks nobody."""

    async def main() -> None:
        async with AsyncStore(root, lock_timeout=3) as store:
            store._workers.bind()
            queues = store._workers._queues
            await queues.enter("k", None)
            second, third = (asyncio.create_task(store.update("k", adds(number))) for number in (2, 3))
            await asyncio.sleep(0.01)
            queues.leave("k")
            second.cancel()
            await asyncio.wait({second, third}, timeout=5)
            assert second.cancelled()
            assert third.result()["seen"] == [3]
            assert queues._waiting == {}

    run(main())


def a_call_that_no_thread_took_is_cancelled_whole(root: Path) -> None:
    """Where every thread is busy, a call that stands before them has not begun."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            busy = [Blocked() for _ in range(16)]
            tasks = [asyncio.create_task(store.update(f"busy{n}", mutator)) for n, mutator in enumerate(busy)]
            for mutator in busy:
                await mutator.has_begun()
            began = Blocked()
            began.go.set()
            late = asyncio.create_task(store.update("late", began))
            await asyncio.sleep(0.01)
            late.cancel()
            await asyncio.wait({late}, timeout=10)
            for mutator in busy:
                mutator.go.set()
            await asyncio.gather(*tasks)
            assert late.cancelled()
        assert not began.begun.is_set()  # the end of the store waited for the threads

    run(main())


def a_call_that_began_is_waited_for(root: Path, times: int = 1) -> None:
    """However often it is cancelled, the task ends after the commit, with CancelledError, and nothing comes later."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            blocked = Blocked()
            task = asyncio.create_task(store.update("k", blocked))
            await blocked.has_begun()
            following = asyncio.create_task(store.update("k", adds(1)))
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0.01)
            waits = not task.done() and not following.done()
            blocked.go.set()
            await asyncio.wait({task, following})
            assert waits
            assert task.cancelled()
            assert (await following).data == {"blocked": True, "seen": [1]}

    run(main())
