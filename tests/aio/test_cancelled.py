"""A call is cancelled at each place where it suspends itself, whatever it is: it is whole or never was, and no call waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from shardstore.aio import AsyncStore
from tests.scenarios.awaited import LIMIT, adds, run
from tests.support.sound import check_store

Work = Callable[[AsyncStore], Coroutine[Any, Any, Any]]


async def first(items: AsyncIterator[Any]) -> Any:
    """Return the first of what comes, and end the iterator."""
    try:
        return await anext(items, None)
    finally:
        await items.aclose()  # type: ignore[attr-defined]


async def each(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


CALLS: dict[str, Work] = {
    "update": lambda store: store.update("k", adds(9)),
    "update an absent one": lambda store: store.update("new", adds(9)),
    "relaxed update": lambda store: store.using(durability="relaxed").update("k", adds(9)),
    "patch": lambda store: store.patch("k", {"n": 9}),
    "append": lambda store: store.append("k", [9], {"n": 9}),
    "append with ids": lambda store: store.append("k", [9], ids=["nine"]),
    "create": lambda store: store.create("new", {"n": 9}),
    "get_or_create": lambda store: store.get_or_create("new", {"n": 9}),
    "replace": lambda store: store.replace("k", {"n": 9}),
    "revert": lambda store: store.revert("k", 1),
    "delete": lambda store: store.delete("k"),
    "erase_history": lambda store: store.erase_history("k"),
    "copy": lambda store: store.copy("k", "new"),
    "rename": lambda store: store.rename("k", "new"),
    "create_many": lambda store: store.create_many([("new", {"n": 9}), ("other", {})]),
    "delete_all": lambda store: store.delete_all("k"),
    "get": lambda store: store.get("cold"),
    "exists": lambda store: store.exists("cold"),
    "log": lambda store: store.log("k"),
    "history": lambda store: store.history("k"),
    "get_many": lambda store: store.get_many(["k", "cold"]),
    "list": lambda store: store.list(),
    "count": lambda store: store.count(),
    "sessions": lambda store: each(store.sessions()),
    "keys": lambda store: each(store.keys()),
    "follow": lambda store: first(store.follow("k", 0)),
    "watch": lambda store: first(store.watch(timeout=0.05)),
    "token": lambda store: store.token(),
    "compact": lambda store: store.compact(),
    "prune": lambda store: store.prune(older_than=0, prefix="k"),
    "verify": lambda store: store.verify(),
    "stats": lambda store: store.stats(),
    "reindex": lambda store: store.reindex(["n"]),
    "archive.list": lambda store: store.archive.list(),
    "archive.restore": lambda store: store.archive.restore("archived"),
    "archive.purge": lambda store: store.archive.purge(0),
    "close": lambda store: store.close(),
}


class Until:
    """Awaits a coroutine; as it suspends itself for the so-manieth time, its task is cancelled."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, cancel: Callable[[], object]) -> None:
        self._work, self._at, self._cancel = work, at, cancel
        self.suspended = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        sent, error = None, None
        while True:
            try:
                asked = self._work.send(sent) if error is None else self._work.throw(error)
            except StopIteration as end:
                return end.value
            self.suspended += 1
            if self.suspended == self._at:
                self._cancel()
            sent, error = None, None
            try:
                sent = yield asked
            except BaseException as raised:
                error = raised


def prepare(root: Path) -> None:
    with Store(root) as store:
        store.append("k", [1], {"n": 1, "seen": []})
        store.append("k", [2], {"n": 2})
        store.create("cold", {"n": 1})
        store.create("archived", {"n": 1})
        store.prune(older_than=0, prefix="archived")


def versions(root: Path) -> dict[str, str]:
    """Return what is committed, as another process would see it."""
    with Store(root) as other:
        return {session.key: session.version for session in other.sessions()}


async def judge(root: Path, store: AsyncStore, sleep: Callable[[float], Coroutine[Any, Any, None]]) -> None:
    """Check that nothing more comes, that later calls go on, and that nobody is left in a lane."""
    seen = versions(root)
    await sleep(0.02)
    assert versions(root) == seen, "a commit came behind the call"
    if store._closing is None:
        assert (await store.update("k", adds(2)))["seen"][-1] == 2
        await sleep(0.001)
        assert store._home.lanes().by_key == {}, "a lane is left that nobody serves"
        seen = versions(root)
    await store.close()
    assert versions(root) == seen


async def cancelled_at(root: Path, work: Work, at: int) -> int:
    """Cancel a call there, behind another one on its session; return how often it suspended itself."""
    store = AsyncStore(root)
    others = [asyncio.create_task(store.update(key, adds(1))) for key in ("busy", "k")]
    await asyncio.sleep(0)
    made: list[Until] = []

    async def call() -> Any:
        task = asyncio.current_task()
        assert task is not None
        made.append(Until(work(store), at, task.cancel))
        return await made[0]

    task = asyncio.create_task(call())
    await asyncio.wait({task}, timeout=LIMIT)
    assert task.done(), "the call was cancelled, and did not end"
    if made[0].suspended < at:
        task.result()
    await asyncio.gather(*others)
    await judge(root, store, asyncio.sleep)
    return made[0].suspended


async def cancelled_on_trio(root: Path, work: Work, at: int) -> int:
    """The same on trio."""
    import trio

    store = AsyncStore(root)
    async with trio.open_nursery() as nursery:
        for key in ("busy", "k"):
            nursery.start_soon(store.update, key, adds(1))
        for _ in range(2):  # the others have begun
            await trio.lowlevel.checkpoint()
        with trio.fail_after(LIMIT), trio.CancelScope() as scope:
            until = Until(work(store), at, scope.cancel)
            await until
    await judge(root, store, trio.sleep)
    return until.suspended


def at_each(root: Path, cancelled: Callable[[Path, int], int]) -> None:
    """Cancel a call at its first await, its second one ..., each time in a store of its own, until it has no more."""
    at, suspended = 1, 1
    while suspended >= at:
        store = root.parent / f"{at}"
        prepare(store)
        suspended = cancelled(store, at)
        with Store(store) as again:
            check_store(again)
        at += 1


SOME = ("update", "append with ids", "rename", "sessions", "close")


@pytest.mark.sampled
@pytest.mark.parametrize("name", SOME)
def test_cancelled_at_each_await_of_some_calls(root: Path, name: str) -> None:
    at_each(root, lambda store, at: run(cancelled_at(store, CALLS[name], at)))  # type: ignore[no-any-return]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CALLS)
def test_cancelled_at_each_await_of_all_calls(root: Path, name: str) -> None:
    at_each(root, lambda store, at: run(cancelled_at(store, CALLS[name], at)))  # type: ignore[no-any-return]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CALLS)
def test_cancelled_at_each_await_on_trio(root: Path, name: str) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed")
    at_each(root, lambda store, at: trio.run(cancelled_on_trio, store, CALLS[name], at))  # type: ignore[no-any-return]


def test_every_awaited_verb_is_cancelled_here() -> None:
    """A verb that is added comes here too."""
    plain = {name for name in vars(AsyncStore) if not name.startswith("_")} - {"using", "archive", "typed"}
    assert plain <= {name.split()[-1] if name == "relaxed update" else name.split()[0] for name in CALLS}
