"""AsyncStore.watch and token: as Store's, with an `async for`, and no thread taken while it waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shardstore import InvalidQuery, Store, StoreClosed, WatchExpired, _wake
from shardstore.aio import AsyncStore
from shardstore.watch import Change
from tests.scenarios.awaited import run

WATCHERS = 50


def test_changes_come_while_others_write(root: Path) -> None:
    """Fifty watchers, more than there are threads, each see the last state of every session."""

    async def main() -> None:
        async with AsyncStore(root, durability="relaxed") as store:
            token = await store.token()

            async def follow() -> int:
                revs: dict[str, int] = {}
                async for change in store.watch("k", since=token):
                    assert change.rev >= revs.get(change.key, 0)  # at least once, and in order
                    revs[change.key] = change.rev
                    if sum(revs.values()) == 40:
                        break
                return len(revs)

            watching = [asyncio.create_task(follow()) for _ in range(WATCHERS)]
            for n in range(10):
                for key in ("k1", "k2", "k3", "k4", "other"):
                    await store.patch(key, {"n": n})
                await asyncio.sleep(0.01)
            assert await asyncio.gather(*watching) == [4] * WATCHERS

    run(main())
    assert not _wake._notifiers, "somebody still listens"


@pytest.mark.parametrize("wakes", [False, True])
def test_a_wait_ends_by_a_change_or_by_the_timeout(root: Path, monkeypatch: pytest.MonkeyPatch, wakes: bool) -> None:
    if not wakes:
        monkeypatch.setattr(_wake, "_start", lambda _directory: None)

    async def main() -> None:
        async with AsyncStore(root) as store:
            token = await store.token()
            assert [change async for change in store.watch(since=token, timeout=0)] == []
            task = asyncio.create_task(anext(store.watch(since=token)))
            await asyncio.sleep(0.1)
            await store.create("k", {})
            change = await asyncio.wait_for(task, 20.0)
            assert isinstance(change, Change)
            assert (change.key, change.kind) == ("k", "created")
            assert [change async for change in store.watch(since=change.token, timeout=0.1)] == []

    run(main())


def test_errors_come_at_the_first_step(root: Path) -> None:
    """Also that the store was closed, while somebody waits."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            with pytest.raises(WatchExpired):
                await anext(store.watch(since="nonsense"))
            with pytest.raises(InvalidQuery):
                await anext(store.watch(timeout=-1))
            watch = store.watch()
            task = asyncio.create_task(anext(watch))
            await asyncio.sleep(0.1)
        with pytest.raises(StoreClosed):
            await asyncio.wait_for(task, 20.0)

    run(main())


def test_a_cancelled_watcher_listens_no_more(root: Path) -> None:
    async def main() -> None:
        async with AsyncStore(Store(root)) as store:

            async def follow() -> None:
                async for _ in store.watch():
                    pass

            task = asyncio.create_task(follow())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())
    assert not _wake._notifiers
