"""AsyncStore on other loops, after a fork, with many tasks, and beside whoever holds what it wants."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import LockTimeout, Store
from shardstore.aio import AsyncStore
from tests.scenarios import awaited
from tests.scenarios.awaited import adds, held_by_a_thread, run
from tests.support.actions import in_child, wait_for
from tests.support.peer import Peers, environment, hear, say

TASKS = 1000


async def use(store: AsyncStore) -> None:
    """Use a little of everything: the loop, a lane, a thread, an iterator."""
    await store.create("k", {"n": 0})
    assert (await store.patch("k", {"n": 1})).rev == 2
    found = await store.get("k")
    assert found is not None
    assert found["n"] == 1
    with store._store.using(durability="relaxed") as sync:
        relaxed = AsyncStore(sync)
    for number in range(100):
        await relaxed.patch("k", {"n": number})
    await relaxed.close()
    assert [key async for key in store.keys()] == ["k"]
    assert await store.count() == 1


def on_uvloop(root: Path) -> None:
    """Use a store on uvloop, which keeps two descriptors for good: in a process of its own."""
    import uvloop

    async def main() -> None:
        async with AsyncStore(root) as store:
            await use(store)
            sessions = await asyncio.gather(*[store.update("u", adds(number)) for number in range(50)])
            assert [session.rev for session in sessions] == list(range(1, 51))

    uvloop.run(main())


def test_uvloop(root: Path, crew: Callable[[int], Peers]) -> None:
    """The same class, unchanged."""
    pytest.importorskip("uvloop", reason="uvloop is not installed")
    crew(1)[0].run(on_uvloop, root)


def test_trio(root: Path) -> None:
    """Order, sharing, cancellation before and after a call began, timeouts and close, on trio."""
    trio = pytest.importorskip("trio", reason="trio is not installed")

    async def main() -> None:
        async with AsyncStore(root) as store:
            await use(store)
            revs: list[int] = []

            async def one(number: int) -> None:
                revs.append((await store.update("t", adds(number))).rev)

            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(one, number)
            assert sorted(revs) == list(range(1, 51))
            blocked = awaited.Blocked()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.update, "b", blocked)
                await trio.to_thread.run_sync(blocked.begun.wait, awaited.LIMIT)
                with trio.move_on_after(0.05) as waiting:
                    await store.update("b", adds(1))
                assert waiting.cancelled_caught
                with pytest.raises(LockTimeout):
                    await store.using(lock_timeout=0.05).update("b", adds(2))
                nursery.cancel_scope.cancel()
                blocked.go.set()
            found = await store.get("b")
            assert found is not None
            assert found.data == {"blocked": True}

    trio.run(main)


def test_a_child_that_was_forked_after_use(root: Path) -> None:
    """A child uses the same object on a loop of its own, and so does the parent afterwards."""
    store = AsyncStore(root)
    asyncio.run(store.update("k", adds(0)))

    def child() -> None:
        async def main() -> None:
            await store.update("k", adds(1))
            await asyncio.gather(*[store.update(f"c{number}", adds(number)) for number in range(20)])
            await store.close()

        asyncio.run(main())

    assert wait_for(in_child(child)) == 0

    async def main() -> None:
        assert (await store.update("k", adds(2)))["seen"] == [0, 1, 2]
        await store.close()

    asyncio.run(main())


def test_loops_in_several_threads_share_an_engine(root: Path) -> None:
    """Each thread has a loop and an AsyncStore on one Store: nothing is lost, in files and syncs that they share."""
    with Store(root) as store:

        def work(name: int) -> None:
            async def main() -> None:
                async with AsyncStore(store) as mine:
                    await asyncio.gather(*[mine.update("k", adds(100 * name + number)) for number in range(30)])

            asyncio.run(main())

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(awaited.LIMIT)
        seen = store["k"]["seen"]
        assert sorted(seen) == [100 * name + number for name in range(4) for number in range(30)]
        for name in range(4):
            mine = [number for number in seen if number // 100 == name]
            assert mine == sorted(mine), "the order of one loop's calls"


def test_a_thousand_tasks_on_one_key_and_on_a_thousand(root: Path) -> None:
    """Every call is one record, in order; the files of a thousand sessions share 256 places."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            both = [store.patch("one", {"n": n}) for n in range(TASKS)] + [
                store.patch(f"k{n}", {"n": n}) for n in range(TASKS)
            ]
            sessions = await asyncio.gather(*both)
            assert [session.rev for session in sessions] == [*range(1, TASKS + 1), *[1] * TASKS]

    run(main())


DESCRIPTORS = """
import asyncio, resource, sys
from shardstore.aio import AsyncStore
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
async def main():
    async with AsyncStore(sys.argv[1], durability=sys.argv[2]) as store:
        await asyncio.gather(*[store.patch(f"k{n % 500}", {"n": n}) for n in range(10_000)])
        assert await store.count() == 500
        assert sum([session.rev async for session in store.sessions()]) == 10_000
asyncio.run(main())
"""


@pytest.mark.parametrize("durability", ["relaxed", pytest.param("commit", marks=pytest.mark.exhaustive)])
def test_ten_thousand_tasks_with_64_descriptors(root: Path, durability: str) -> None:
    """No call fails for want of a descriptor, and nothing is lost."""
    command = [sys.executable, "-c", DESCRIPTORS, str(root), durability]
    outcome = subprocess.run(command, env=environment(), timeout=120, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr


def hold(root: Path, key: str) -> None:
    """Hold a session's lock, in another process, until told to let go."""
    with Store(root) as store, store.edit(key):
        say("held")
        hear()


async def lag(seconds: float) -> float:
    """Return the longest time that the loop needed to come round, beside what is under way."""
    longest, until = 0.0, time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - began)
    return longest


@pytest.mark.parametrize("how", ["process", "stopped", "thread"])
def test_whoever_holds_a_key_does_not_hold_up_the_loop(root: Path, crew: Callable[[int], Peers], how: str) -> None:
    """While 30 tasks wait for it the loop goes on as an idle one does, in the same run, and so do other keys."""

    async def beside(store: AsyncStore) -> None:
        waiting = [asyncio.create_task(store.update("k", adds(number))) for number in range(30)]
        await asyncio.sleep(0.05)
        idle, busy = [], []
        for _ in range(3):
            busy.append(await lag(0.1))
            await asyncio.to_thread(time.sleep, 0)
            idle.append(await lag(0.1))
        before = (await store.patch("other", {})).rev
        for number in range(5):
            assert (await store.patch("other", {"n": number})).rev == before + 1 + number
        assert not any(task.done() for task in waiting)
        assert min(busy) < max(idle) + 0.1, (busy, idle)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert all(task.cancelled() for task in waiting)

    async def main() -> None:
        async with AsyncStore(root) as store:
            await store.create("k", {})
            await store.create("other", {})
            if how == "thread":
                async with held_by_a_thread(root, ["k"]):
                    await beside(store)
                return
            (peer,) = crew(1)
            peer.start(hold, root, "k")
            await asyncio.to_thread(peer.heard)
            if how == "stopped":
                os.kill(peer.pid, signal.SIGSTOP)
            try:
                await beside(store)
            finally:
                os.kill(peer.pid, signal.SIGCONT)
                peer.tell()
            await asyncio.to_thread(peer.result)
            assert (await store.update("k", adds(99)))["seen"] == [99]

    run(main())


@pytest.mark.parametrize("steps", range(6))
def test_cancelled_at_every_await(root: Path, steps: int) -> None:
    """Cancelled after so many turns of the loop, a call has either committed or not, and later ones go on; close too."""

    async def main() -> None:
        store = AsyncStore(root)
        await store.create("k", {"seen": []})
        calls = [
            asyncio.create_task(call)
            for call in (
                store.update("k", adds(1)),
                store.copy("k", "other"),
                store.update("k", adds(2)),
                store.count(),
                store.log("k"),
            )
        ]
        for _ in range(steps):
            await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        first = await store.get("k")
        closing = asyncio.create_task(store.close())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await store.close()
        with Store(root) as again:
            assert first is not None
            assert again["k"].version == first.version, "a commit came behind a cancelled call"
            assert [number for number in again["k"]["seen"] if number not in (1, 2)] == []
            assert again.verify().ok

    run(main())


def test_a_store_without_threads_refuses_and_keeps_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread starts a durable call fails at once, a relaxed one goes on, and closing works."""

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        with Store(root) as sync:
            sync.create("k", {"n": 0})
            async with AsyncStore(sync) as store:
                with monkeypatch.context() as patch:
                    patch.setattr(threading.Thread, "start", no_thread)
                    with pytest.raises(RuntimeError, match="new thread"):
                        await store.patch("k", {"n": 1})
                    relaxed = store.using(durability="relaxed")
                    assert (await relaxed.patch("k", {"n": 2})).rev == 2
                    await relaxed.close()
                assert (await store.patch("k", {"n": 3})).rev == 3

    run(main())
