"""AsyncStore on a database: no call on the loop waits for the network."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from shardstore._postgres.connection import Connection
from shardstore.aio import AsyncStore
from tests.contract.backend import PostgresBackend


def test_the_loop_never_waits_for_the_network(database: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = Connection._ask

    def asking(self: Connection, *args: Any, **kwargs: Any) -> Any:
        asked.append(threading.get_ident())
        return original(self, *args, **kwargs)

    async def use(store: AsyncStore) -> None:
        await store.create("a", {"n": 0})
        token = await store.token()
        await asyncio.gather(*(store.update("a", lambda draft: draft.update(n=draft["n"] + 1)) for _ in range(5)))
        await store.append("a", [{"i": i} for i in range(3)])
        session = await store.get("a")
        assert session is not None
        assert session["n"] == 5
        assert await store.exists("a")
        assert await store.get("b") is None
        assert [info.key for info in await store.list()] == ["a"]
        assert await store.log("a", -1) == [{"i": 2}]
        assert [key async for key in store] == ["a"]
        assert [one.key async for one in store.sessions()] == ["a"]
        async for item in store.follow("a", 0):
            assert item == {"i": 0}
            break
        assert [change.key async for change in store.watch(since=token, timeout=0)] == ["a"]
        assert (await store.verify()).ok
        await store.delete("a")

    store = AsyncStore(database.url)
    monkeypatch.setattr(Connection, "_ask", asking)

    async def main() -> None:
        async with store:
            await use(store)

    asyncio.run(main())
    assert asked
    assert threading.get_ident() not in asked
