"""AsyncStore: order, cancellation, errors and the end, under many tasks and beside other processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import (
    DELETE,
    Conflict,
    Draft,
    InvalidKey,
    InvalidQuery,
    LockTimeout,
    NestedUpdate,
    SessionExists,
    SessionNotFound,
    Store,
    StoreClosed,
)
from shardstore.aio import AsyncStore
from tests.scenarios import awaited
from tests.scenarios.awaited import LIMIT, Blocked, adds, run
from tests.support.peer import Peers, environment, hear, say


def hold(root: Path, key: str) -> None:
    """Hold a session's lock, in another process, until told to let go."""
    with Store(root) as store, store.edit(key) as draft:
        say("held")
        hear()
        draft["held"] = True


def test_300_tasks_on_one_key_commit_in_the_order_of_the_calls(root: Path) -> None:
    """Nothing is lost, each task sees its own commit, and the order is that in which the calls were made."""
    awaited.calls_on_one_key_commit_in_their_order(root)


def test_calls_that_wait_for_one_key_take_one_thread(root: Path) -> None:
    """However many tasks wait for a session, one thread waits, and other sessions are written meanwhile."""
    awaited.calls_that_wait_for_one_key_take_one_thread(root)


def test_a_call_cancelled_in_the_moment_of_its_turn_passes_the_turn_on(root: Path) -> None:
    """The turn came and the cancellation too, before the task ran again: it begins nothing, and blocks nobody."""
    awaited.a_turn_that_comes_with_the_cancellation_is_passed_on(root)


@pytest.mark.parametrize(
    "scenario",
    [
        awaited.keys_held_elsewhere_starve_no_other,
        awaited.a_call_that_waits_for_a_lock_is_cancelled_at_once,
        awaited.a_relaxed_call_stands_behind_the_others,
        awaited.a_rewrite_is_left_to_a_thread,
        awaited.calls_on_the_loop_let_other_tasks_go_on,
    ],
)
def test_what_holds_on_the_loop(root: Path, scenario: Callable[[Path], None]) -> None:
    """Each scenario says in its first line what must hold."""
    scenario(root)


@pytest.mark.skipif(sys.platform != "linux", reason="the judge finds a descriptor's file in /proc")
@pytest.mark.parametrize(
    "scenario", [awaited.calls_of_one_visit_share_a_sync, awaited.a_failed_sync_fails_every_call_of_the_visit]
)
def test_calls_that_share_a_sync(root: Path, scenario: Callable[[Path], None]) -> None:
    """Each scenario says in its first line what must hold."""
    scenario(root)


def test_a_call_that_no_thread_took_yet_is_cancelled_whole(root: Path) -> None:
    """Where every thread is busy, a call that stands before them has not begun."""
    awaited.a_call_that_no_thread_took_is_cancelled_whole(root)


@pytest.mark.parametrize("times", [1, 3])
def test_a_call_that_began_is_waited_for_and_then_cancelled(root: Path, times: int) -> None:
    """However often it is cancelled, the task ends after the commit, with CancelledError, and nothing comes later."""
    awaited.a_call_that_began_is_waited_for(root, times)


def test_300_tasks_on_100_keys(root: Path) -> None:
    """Each session has what was asked of it, in order, and all of it survives a reopening."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            await asyncio.gather(*[store.update(f"k{number % 100}", adds(number)) for number in range(300)])

    run(main())
    with Store(root) as store:
        for number in range(100):
            assert store[f"k{number}"]["seen"] == [number, number + 100, number + 200]


def test_a_key_held_elsewhere_stalls_neither_the_loop_nor_other_keys(root: Path, crew: Callable[[int], Peers]) -> None:
    """While another process holds a session, reads of it and writes to others go on, and the loop turns."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            await store.create("k", {"n": 0})
            (peer,) = crew(1)
            peer.start(hold, root, "k")
            await asyncio.to_thread(peer.heard)
            waiting = [asyncio.create_task(store.update("k", adds(number))) for number in range(30)]
            until, others, turns = time.monotonic() + 0.1, 0, 0
            try:
                while time.monotonic() < until or not others:
                    await store.patch("other", {"n": others})
                    assert (await store.get("k"))["n"] == 0  # type: ignore[index]
                    others += 1
                    await asyncio.sleep(0)
                    turns += 1
                assert not any(task.done() for task in waiting)
            finally:
                peer.tell()
            await asyncio.gather(*waiting)
            await asyncio.to_thread(peer.result)
            found = await store.get("k")
            assert found is not None
            assert found["held"]
            assert found["seen"] == list(range(30))
            assert turns == others

    run(main())


def test_a_call_cancelled_before_it_began_does_nothing_and_the_queue_goes_on(root: Path) -> None:
    """A task that is cancelled in the queue leaves at once, writes nothing, and the next one has its turn."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            blocked = Blocked()
            first = asyncio.create_task(store.update("k", blocked))
            await blocked.has_begun()
            second, third = (asyncio.create_task(store.update("k", adds(number))) for number in (2, 3))
            await asyncio.sleep(0.01)
            second.cancel()
            await asyncio.wait({second}, timeout=10)
            assert second.cancelled()
            assert not first.done()
            blocked.go.set()
            await asyncio.gather(first, third)
            assert (await store.update("k", adds(4)))["seen"] == [3, 4]

    run(main())


def test_a_timeout_around_a_call_that_began(root: Path) -> None:
    """asyncio.timeout ends with TimeoutError, after the commit that could not be taken back."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            blocked = Blocked()
            call = asyncio.create_task(store.update("k", blocked))
            await blocked.has_begun()
            asyncio.get_running_loop().call_later(0.1, blocked.go.set)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await call
            found = await store.get("k")
            assert found is not None
            assert found["blocked"]

    run(main())


def test_errors_arrive_as_they_are(root: Path) -> None:
    """Errors of the store keep their types, and the mutator's own error is the very object."""
    own = LookupError("mine")

    def fails(draft: Draft) -> None:
        draft["a"] = 1
        raise own

    def stops(draft: Draft) -> None:
        raise StopIteration

    async def never(draft: Draft) -> None:
        draft["a"] = 1

    async def main() -> None:
        async with AsyncStore(root) as store:
            with pytest.raises(LookupError) as caught:
                await store.update("k", fails)
            assert caught.value is own
            with pytest.raises(RuntimeError) as stopped:  # as in any coroutine
                await store.update("k", stops)
            assert isinstance(stopped.value.__cause__, StopIteration)
            with pytest.raises(TypeError):
                await store.update("k", never)  # type: ignore[arg-type]
            assert not await store.exists("k")
            with pytest.raises(InvalidKey):
                await store.update("", adds(1))
            with pytest.raises(InvalidKey):
                await store.update(["k"], adds(1))  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await store.update()  # type: ignore[call-arg]
            first = await store.create("k", {"a": 1})
            with pytest.raises(SessionExists):
                await store.create("k", {})
            await store.patch("k", {"a": 2})
            with pytest.raises(Conflict):
                await store.delete("k", expect=first)
            with pytest.raises(InvalidQuery):
                store.sessions(where={"a": ("~", 1)})  # type: ignore[dict-item]
            assert store._home.lanes().by_key == {}

    run(main())


def test_time_in_the_queue_counts_towards_the_lock_timeout(root: Path) -> None:
    """Tasks that wait behind a session that stays locked all give up at about their own time, not in turn."""

    async def main() -> None:
        with Store(root) as other:
            async with AsyncStore(root, lock_timeout=0.3) as store:
                began = time.monotonic()
                held = threading.Event(), threading.Event()

                def holds() -> None:
                    with other.edit("k"):
                        held[0].set()
                        assert held[1].wait(LIMIT)

                holder = asyncio.create_task(asyncio.to_thread(holds))
                assert await asyncio.to_thread(held[0].wait, LIMIT)
                try:
                    found = await asyncio.gather(
                        *[store.update("k", adds(number)) for number in range(20)], return_exceptions=True
                    )
                finally:
                    held[1].set()
                    await holder
                assert [type(error) for error in found] == [LockTimeout] * 20
                assert all(error.waited >= 0.25 for error in found if isinstance(error, LockTimeout))
                assert time.monotonic() - began < 3
                assert (await store.update("k", adds(1)))["seen"] == [1]

    run(main())


def test_the_lock_gets_what_the_queue_left_of_the_timeout(root: Path) -> None:
    """A call that stood in the queue gives up on its session's lock at its own time, and says how long it waited."""

    async def main() -> None:
        with Store(root) as other:
            async with AsyncStore(root, lock_timeout=1.0) as store:
                lanes = store._home.lanes()
                await lanes.enter("k", store._store, None)
                held, go = threading.Event(), threading.Event()

                def holds() -> None:
                    with other.edit("k"):
                        held.set()
                        assert go.wait(LIMIT)

                holder = asyncio.create_task(asyncio.to_thread(holds))
                assert await asyncio.to_thread(held.wait, LIMIT)
                began = time.monotonic()
                asyncio.get_running_loop().call_later(0.7, lanes.leave, "k")
                try:
                    with pytest.raises(LockTimeout) as caught:
                        await store.update("k", adds(1))
                    assert time.monotonic() - began < 1.6
                    assert caught.value.waited >= 0.95
                finally:
                    go.set()
                    await holder

    run(main())


def test_a_session_that_the_caller_is_inside_of(root: Path) -> None:
    """Whoever awaits an update inside a sync edit of the same session gets NestedUpdate, not a wait without end."""

    async def main() -> None:
        with Store(root) as sync:
            async with AsyncStore(sync) as store:
                with sync.edit("k"), pytest.raises(NestedUpdate):
                    await store.update("k", adds(1))

    run(main())


def test_copies_in_both_directions_at_once(root: Path) -> None:
    """Verbs on two sessions stand in both queues and never wait for each other in a circle."""

    async def main() -> None:
        async with AsyncStore(root, durability="relaxed") as store:
            await store.create("a", {})
            await store.create("b", {})
            moves = [store.copy("a", "b") if n % 2 else store.copy("b", "a") for n in range(40)]
            found = await asyncio.gather(*moves, return_exceptions=True)
            assert {type(error) for error in found} == {SessionExists}
            assert (await store.rename("a", "c")).key == "c"
            with pytest.raises(SessionNotFound):
                await store.copy("a", target="d")

    run(main())


def test_close_waits_for_the_calls_made_before(root: Path) -> None:
    """What was called before close is finished, the queued too; what comes after is StoreClosed; cancelling waits."""

    async def main() -> None:
        before = set(threading.enumerate())
        store = AsyncStore(root)
        blocked = Blocked()
        calls = [asyncio.create_task(store.update("k", mutator)) for mutator in (blocked, adds(1))]
        await blocked.has_begun()
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0.01)
        for late in (store.get("k"), store.patch("k", {}), store.exists("k")):
            with pytest.raises(StoreClosed):
                await late
        closing.cancel()
        await asyncio.sleep(0.01)
        assert not closing.done()
        blocked.go.set()
        await asyncio.wait({closing})
        assert closing.cancelled()
        assert [task.result().rev for task in calls] == [1, 2]
        await store.close()
        new = set(threading.enumerate()) - before
        assert not [thread for thread in new if thread.name.startswith("shardstore_")]

    run(main())


def test_a_loop_that_ends_with_writes_under_way(root: Path) -> None:
    """asyncio.run cancels what is left: begun writes are whole, queued ones never happen, nothing comes later."""
    blocked = Blocked()

    async def main() -> None:
        store = AsyncStore(root)
        main.tasks = [asyncio.create_task(store.update("k", mutator)) for mutator in (blocked, adds(1))]  # type: ignore[attr-defined]
        await blocked.has_begun()
        threading.Timer(0.05, blocked.go.set).start()

    run(main())
    with Store(root) as store:
        assert store["k"].data == {"blocked": True}


def test_sharing_and_views(root: Path) -> None:
    """A shared Store and its AsyncStore close independently; views share the queue and have their own settings."""

    async def main() -> None:
        with Store(root, actor="sync") as sync:
            async with AsyncStore(sync) as store:
                assert (await store.update("k", adds(0))).actor == "sync"
                view = store.using(actor="view")
                both = [(view if n % 2 else store).update("k", adds(n)) for n in range(1, 11)]
                assert [session.actor for session in await asyncio.gather(*both)] == ["view", "sync"] * 5
                await view.close()
                assert (await store.patch("k", {"a": 1}))["seen"] == list(range(11))
            assert sync["k"]["a"] == 1
            with pytest.raises(TypeError):
                AsyncStore(sync, actor="other")

    run(main())


def test_reading_and_iterating(root: Path) -> None:
    """Every key and session comes, in more than one step; lists, counts and logs are those of the Store."""

    async def main() -> None:
        async with AsyncStore(root, durability="relaxed") as store:
            wanted = [f"k{number:03}" for number in range(150)]
            assert await store.create_many([(key, {"n": 1}) for key in wanted]) == 150
            assert [key async for key in store.keys()] == wanted
            assert [key async for key in store] == wanted
            assert sorted([session.key async for session in store.sessions("k0")]) == wanted[:100]
            assert await store.count(where={"n": 1}) == 150
            assert len(await store.list(limit=5)) == 5
            await store.append("k000", [1, 2, 3])
            assert await store.log("k000", -2) == [2, 3]
            assert (await store.get("k000", rev=1)) is not None
            assert (await store.update("k001", lambda draft: DELETE)).exists is False
            report = await store.prune(older_than=0, prefix="k002")
            assert report.ok
            assert [file.key for file in await store.archive.list()] == ["k002"]
            assert (await store.archive.restore("k002")).rev == 1
            assert (await store.verify()).ok

    run(main())


def test_following_a_log(root: Path) -> None:
    """Items come in order while others append, and a follower takes no thread while it waits."""

    async def main() -> None:
        async with AsyncStore(root, durability="relaxed") as store:
            await store.append("k", [0])
            followers = [store.follow("k", 0) for _ in range(40)]

            async def take(items: Any) -> list[int]:
                found: list[int] = []
                async for item in items:
                    found.append(item)
                    if len(found) == 20:
                        break
                await items.aclose()
                return found

            taking = [asyncio.create_task(take(items)) for items in followers]
            for number in range(1, 20):
                await store.append("k", [number])
            assert await asyncio.gather(*taking) == [list(range(20))] * 40

    run(main())


def test_one_loop_at_a_time(root: Path) -> None:
    """A second loop may use it after the first one ended, and not beside it."""
    store = AsyncStore(root)
    asyncio.run(store.update("k", adds(1)))

    async def main() -> None:
        await store.update("k", adds(2))
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(store.update("k", adds(3))))
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(store.close()))
        assert (await store.update("k", adds(4)))["seen"] == [1, 2, 4]
        await store.close()

    run(main())


def test_importing_the_package_does_not_import_asyncio() -> None:
    """Programs without a loop, and the command line, do not pay for it."""
    code = "import sys, shardstore; sys.exit('asyncio' in sys.modules or 'shardstore.aio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), timeout=60).returncode == 0


def test_a_call_for_which_no_thread_starts_never_commits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor keeps the work in its queue although it raises; whoever takes it from there later does nothing."""
    release = threading.Event()

    def busy(draft: Draft) -> None:
        draft["n"] = release.wait(LIMIT)

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        async with AsyncStore(root) as store:
            first = asyncio.create_task(store.update("busy", busy))
            await asyncio.sleep(0.1)
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", no_thread)
                with pytest.raises(RuntimeError, match="new thread"):
                    await store.update("refused", adds(1))
            release.set()
            await first
            await store.update("after", adds(1))
            assert await store.get("refused") is None

    run(main())
