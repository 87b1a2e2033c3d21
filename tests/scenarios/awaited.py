"""AsyncStore on one loop: the order of calls on a session, and what a cancellation stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from shardstore import CommitUncertain, Draft, Store
from shardstore.aio import AsyncStore
from tests.scenarios import groups
from tests.support import disk

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
    """However many tasks wait for a session, one thread serves it, and other sessions are written meanwhile."""

    async def main() -> None:
        before = set(threading.enumerate())
        async with AsyncStore(root) as store:
            blocked = Blocked()
            first = asyncio.create_task(store.update("k", blocked))
            await blocked.has_begun()
            waiting = [asyncio.create_task(store.update("k", adds(number))) for number in range(100)]
            await asyncio.sleep(0.05)
            other = asyncio.create_task(store.patch("other", {"a": 1}))
            done, _ = await asyncio.wait({other}, timeout=5)
            threads = set(threading.enumerate()) - before
            blocked.go.set()
            await asyncio.gather(first, other, *waiting)
            assert done, "every thread waited for the one session"
            assert len([thread for thread in threads if thread.name.startswith("shardstore_")]) <= 2, threads
            assert (await store.history("k"))[-1]["seen"] == list(range(100))

    run(main())


def a_turn_that_comes_with_the_cancellation_is_passed_on(root: Path) -> None:
    """The turn came and the cancellation too, before the task ran again: it begins nothing, and blocks nobody."""

    async def main() -> None:
        async with AsyncStore(root, lock_timeout=3) as store:
            lanes = store._home.lanes()
            await lanes.enter("k", store._store, None)
            second = asyncio.create_task(store.erase_history("k"))
            await asyncio.sleep(0)
            third = asyncio.create_task(store.update("k", adds(3)))
            await asyncio.sleep(0.01)
            lanes.leave("k")
            second.cancel()
            await asyncio.wait({second, third}, timeout=5)
            assert second.cancelled()
            assert third.result()["seen"] == [3]
            assert lanes.by_key == {}

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


@asynccontextmanager
async def held_by_a_thread(root: Path, keys: list[str]) -> AsyncIterator[None]:
    """Hold sessions in another thread, through a Store of its own, while the block runs."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with Store(root) as store, ExitStack() as stack:
            for key in keys:
                stack.enter_context(store.edit(key))
            held.set()
            assert go.wait(LIMIT)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        assert await asyncio.to_thread(held.wait, LIMIT)
        yield
    finally:
        go.set()
        await asyncio.to_thread(thread.join, LIMIT)


def keys_held_elsewhere_starve_no_other(root: Path) -> None:
    """Forty sessions are held by somebody else, each wanted by some tasks: a free session is written all the same."""
    keys = [f"held{number}" for number in range(40)]

    async def main() -> None:
        async with AsyncStore(root) as store:
            async with held_by_a_thread(root, keys):
                waiting = [asyncio.create_task(store.update(key, adds(n))) for n in range(3) for key in keys]
                await asyncio.sleep(0.3)
                done, _ = await asyncio.wait({asyncio.create_task(store.patch("free", {"a": 1}))}, timeout=5)
                early = [task for task in waiting if task.done()]
            await asyncio.gather(*waiting)
            assert done, "every thread waited for a session that is held"
            assert not early
            for key in keys:
                found = await store.get(key)
                assert found is not None
                assert found["seen"] == [0, 1, 2]

    run(main())


def a_call_that_waits_for_a_lock_is_cancelled_at_once(root: Path) -> None:
    """Its mutator has not begun: the task ends while the session is still held, and nothing is written later."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            async with held_by_a_thread(root, ["k"]):
                call = asyncio.create_task(store.update("k", adds(1)))
                await asyncio.sleep(0.1)
                call.cancel()
                done, _ = await asyncio.wait({call}, timeout=5)
                assert done, "the task waits for the lock though it was cancelled"
                assert call.cancelled()
            await asyncio.sleep(0.05)
            assert (await store.update("k", adds(2)))["seen"] == [2]

    run(main())


def a_relaxed_call_stands_behind_the_others(root: Path) -> None:
    """A write that could be done on the loop waits for the calls on its session that were made before."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            relaxed = store.using(durability="relaxed")
            for turn in range(50):  # a thread that is quick leaves no lane to pass
                key = f"k{turn}"
                await store.create(key, {})
                lane = [asyncio.create_task(store.update(key, adds(number))) for number in range(3)]
                for _ in range(2):  # they stand in the lane, which has a thread or not
                    await asyncio.sleep(0)
                lane.append(asyncio.create_task(relaxed.update(key, adds(3))))
                await asyncio.gather(*lane)
                assert [task.result()["seen"][-1] for task in lane] == [0, 1, 2, 3]
                assert [task.result().rev for task in lane] == [2, 3, 4, 5]
            await relaxed.close()

    run(main())


def calls_of_one_visit_share_a_sync(root: Path) -> None:
    """Two hundred durable calls on one session: each in its order, each acknowledged after its sync, few syncs."""
    early: list[int] = []

    async def main() -> None:
        with groups.Syncs(root) as syncs:
            async with AsyncStore(root) as store:
                await store.create(groups.KEY, {})
                syncs.count = 0

                async def one(number: int) -> int:
                    rev = (await store.patch(groups.KEY, {"n": number})).rev
                    if rev not in syncs.safe:
                        early.append(rev)
                    return rev

                assert await asyncio.gather(*[one(number) for number in range(200)]) == list(range(2, 202))
                assert syncs.count <= 100, f"{syncs.count} syncs for 200 records"
        assert not early, f"revisions {early} were acknowledged before a sync"
        assert [record["rev"] for record in disk.journal(root, groups.KEY)][-1] == 201

    run(main())


def a_failed_sync_fails_every_call_of_the_visit(root: Path) -> None:
    """Nobody whose record was in that visit is acknowledged, and the next call reads what is there."""

    async def main() -> None:
        with groups.Syncs(root) as syncs:
            async with AsyncStore(root) as store:
                await store.create(groups.KEY, {})
                blocked = Blocked()
                calls = [asyncio.create_task(store.update(groups.KEY, blocked))]
                await blocked.has_begun()
                calls += [asyncio.create_task(store.update(groups.KEY, adds(number))) for number in range(5)]
                await asyncio.sleep(0)
                syncs.fails = True
                blocked.go.set()
                found = await asyncio.gather(*calls, return_exceptions=True)
                assert [type(one) for one in found] == [CommitUncertain] * 6, found
                assert len({id(one) for one in found}) == 6, "each task has an exception of its own"
                syncs.fails = False
                session = await store.update(groups.KEY, adds(9))
                assert session["seen"][-1] == 9
                assert session.rev in syncs.safe
                assert (await store.verify()).ok

    run(main())


def a_rewrite_is_left_to_a_thread(root: Path) -> None:
    """Relaxed writes on the loop only append; the journal is rewritten in a thread, and does not grow without end."""
    from shardstore._files.file import JournalFile

    threads: list[int] = []
    real = JournalFile.replace

    def replace(self: JournalFile, *args: Any) -> Any:
        threads.append(threading.get_ident())
        return real(self, *args)

    async def main() -> None:
        async with AsyncStore(root, durability="relaxed") as store:
            await store.create("k", {})
            for number in range(600):
                await store.patch("k", {"n": number, "text": f"{number:04}" * 250})
        assert threads, "nothing was rewritten"
        assert threading.get_ident() not in threads
        with Store(root) as again:
            assert again["k"]["n"] == 599
            assert again.verify().ok
        assert disk.shard(root, "k").stat().st_size < 400_000

    JournalFile.replace = replace  # type: ignore[method-assign,assignment]
    try:
        run(main())
    finally:
        JournalFile.replace = real  # type: ignore[method-assign]


def calls_on_the_loop_let_other_tasks_go_on(root: Path) -> None:
    """A task that does nothing but reads and relaxed writes does not keep the loop to itself."""

    async def main() -> None:
        async with AsyncStore(root, durability="relaxed") as store:
            await store.create("k", {})
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(other())
            await asyncio.sleep(0)
            before = turns
            for number in range(300):
                await store.get("k")
                await store.patch("k", {"n": number})
            task.cancel()
            assert turns >= before + 5, f"{turns - before} turns of another task beside 600 calls"

    run(main())
