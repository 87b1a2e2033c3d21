"""What a user of typed sessions writes, for each kind of model. Never run; each `type: ignore` must be needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, assert_type

import msgspec
import pydantic

from shardstore import DELETE, Session, SessionInfo, Store
from shardstore.aio import AsyncStore
from shardstore.typed import AsyncTypedStore, TypedDraft, TypedLog, TypedSession, TypedStore

store = Store("sessions")


@dataclass
class Chat:
    status: Literal["new", "running"] = "new"
    turns: int = 0
    tags: list[str] = field(default_factory=list)


@dataclass
class Message:
    role: str
    content: str


class ChatDict(TypedDict, total=False):
    turns: int


class ChatModel(pydantic.BaseModel):
    turns: int = 0


class ChatStruct(msgspec.Struct):
    turns: int = 0


# A dataclass, and the type of the log's items
chats = store.typed(Chat, item=Message)
assert_type(chats, TypedStore[Chat, Message])
assert_type(store.typed(Chat), TypedStore[Chat, Any])
assert_type(store.typed(Chat, default=Chat(turns=1)), TypedStore[Chat, Any])
assert_type(store.typed(Chat, default=lambda: Chat(turns=1)), TypedStore[Chat, Any])


def turn(chat: Chat) -> None:
    chat.turns += 1
    chat.turns = "many"  # type: ignore[assignment]


def another(chat: Chat) -> Chat:
    return Chat(turns=chat.turns + 1)


session = chats.update("k", turn)
assert_type(session, TypedSession[Chat, Message])
assert_type(chats.update("k", another), TypedSession[Chat, Message])
assert_type(chats.update("k", lambda chat: DELETE if chat.turns > 5 else None), TypedSession[Chat, Message])
assert_type(chats.update("k", lambda chat: Chat(turns=chat.turns)), TypedSession[Chat, Message])
assert_type(session.value, Chat)
assert_type(session.value.turns, int)
assert_type(session.session, Session)
assert_type(session.log, TypedLog[Message])
assert_type(session.log[0], Message)
assert_type(session.log[-3:], list[Message])
assert_type([message.role for message in session.log], list[str])
assert_type(chats["k"].value, Chat)
assert_type(chats.get("k"), TypedSession[Chat, Message] | None)
assert_type(chats.log("k", -20), list[Message])
assert_type(chats.list(where={"status": "running"}), list[SessionInfo])
assert_type(chats.delete("k", expect=session.version), bool)
with chats.edit("k") as draft:
    assert_type(draft, TypedDraft[Chat, Message])
    assert_type(draft.value, Chat)
    draft.value = Chat()
    draft.log.append(Message("user", "hi"), id="u1")
    draft.log.append("hi")  # type: ignore[arg-type]
    draft.delete()
assert_type(draft.session.value, Chat)
chats.append("k", [Message("user", "hi")], turn)
chats.append("k", [Message("user", "hi")], {"status": "running"})
chats.append("k", ["hi"])  # type: ignore[list-item]
chats.create("k", Chat())
chats.create("k", {"turns": 1})  # type: ignore[arg-type]
chats.update("k", lambda chat: 5)  # type: ignore[arg-type,return-value]
chats.replace("k", Chat(), expect=session)
chats.get_or_create("k", Chat)
chats.create_many({"a": Chat()}, on_exists="skip")


# One parameter is enough where the items may be anything
def of_any_items(found: TypedSession[Chat]) -> int:
    assert_type(found.log[0], Any)
    return found.value.turns


def all_turns(of: TypedStore[Chat, Message]) -> Iterator[int]:
    for one in of.sessions("agent:"):
        yield one.value.turns


# The other kinds
dicts = store.typed(ChatDict)
assert_type(dicts["k"].value, ChatDict)
assert_type(dicts.update("k", lambda chat: chat.update({"turns": chat.get("turns", 0) + 1})).value, ChatDict)
dicts.create("k", {"turns": 1})
dicts.create("k", {"turns": "1"})  # type: ignore[typeddict-item]
models = store.typed(ChatModel)
assert_type(models["k"].value.turns, int)
models.create("k", ChatModel(turns=2))
models.create("k", Chat())  # type: ignore[arg-type]
structs = store.typed(ChatStruct, item=ChatStruct)
assert_type(structs["k"].log[0].turns, int)


# asyncio: the same verbs
async def awaited(shared: AsyncStore) -> None:
    chats = shared.typed(Chat, item=Message)
    assert_type(chats, AsyncTypedStore[Chat, Message])
    assert_type(await chats.update("k", turn), TypedSession[Chat, Message])
    assert_type(await chats.get("k"), TypedSession[Chat, Message] | None)
    assert_type(await chats.count(), int)
    assert_type([one.value async for one in chats.sessions()], list[Chat])
    await chats.update("k", later)  # type: ignore[arg-type]


async def later(chat: Chat) -> None: ...
