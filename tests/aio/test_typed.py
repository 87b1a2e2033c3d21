"""The typed verbs of AsyncStore are those of Store, awaited."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from shardstore import InvalidEntry
from shardstore.aio import AsyncStore
from shardstore.typed import AsyncTypedStore, TypedStore
from tests.contract.models import Chat, Message
from tests.scenarios.awaited import run


def add_one(chat: Chat) -> None:
    chat.turns += 1


def test_every_verb_is_there() -> None:
    """Those that a loop cannot have are left out: edit, and what Python calls without await."""
    verbs = {name for name in vars(TypedStore) if not name.startswith("_")}
    assert verbs - {name for name in vars(AsyncTypedStore) if not name.startswith("_")} == {"edit"}
    for name in verbs - {"edit", "sessions", "follow"}:
        assert inspect.signature(getattr(AsyncTypedStore, name)) == inspect.signature(getattr(TypedStore, name))


def test_the_typed_verbs_awaited(root: Path) -> None:
    """Many tasks on one session lose nothing; results are models; what does not fit is refused."""

    async def main() -> None:
        async with AsyncStore(root) as store:
            chats = store.typed(Chat, item=Message)
            await asyncio.gather(*[chats.update("k", add_one) for _ in range(20)])
            found = await chats.get("k")
            assert found is not None
            assert found.value.turns == 20
            assert await chats.get("nobody") is None
            hello = Message("user", "hello")
            assert (await chats.append("k", [hello], add_one)).log[0] == hello
            assert await chats.log("k") == [hello]
            assert (await chats.patch("k", {"turns": 1})).value.turns == 1
            assert (await chats.create("a", Chat(turns=2))).value.turns == 2
            assert (await chats.get_or_create("a", Chat)).value.turns == 2
            assert (await chats.replace("a", Chat(turns=3))).value.turns == 3
            assert (await chats.revert("a", 1)).value.turns == 2
            assert [one.value.turns for one in await chats.history("a")] == [2, 3, 2]
            assert (await chats.copy("k", "b")).log[0] == hello
            assert (await chats.rename("b", "c")).key == "c"
            assert await chats.create_many([("d", Chat())]) == 1
            assert list(await chats.get_many(["a", "d"])) == ["a", "d"]
            assert sorted([one.key async for one in chats.sessions()]) == ["a", "c", "d", "k"]
            assert (await chats.count(), await chats.exists("a"), await chats.delete("a")) == (4, True, True)
            async for item in chats.follow("k", 0):
                assert item == hello
                break
            await store.create("bad", {"turns": "many"})
            with pytest.raises(InvalidEntry):
                await chats.update("bad", add_one)
            assert repr(chats).endswith(".typed(Chat)")

    run(main())
