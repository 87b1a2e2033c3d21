"""What a user writes first. Never run: mypy and pyright read it, and each `type: ignore` must be needed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict, assert_type

from shardstore import DELETE, JSON, CompactReport, Draft, Mutator, Session, SessionInfo, Store, StoreStats, Where
from shardstore.aio import AsyncStore

store = Store("sessions")


# As in the README: a function without annotations
def turn(draft):  # type: ignore[no-untyped-def]
    draft["turns"] = draft.get("turns", 0) + 1


assert_type(store.update("k", turn), Session)

# Lambdas
assert_type(store.update("k", lambda draft: draft.update(turns=draft.get("turns", 0) + 1)), Session)
assert_type(store.update("k", lambda _draft: {"a": 1}), Session)
assert_type(store.update("k", lambda _draft: DELETE), Session)
assert_type(store.update("k", lambda draft: DELETE if draft.get("done") else None), Session)


# Named mutators
def typed(draft: Draft) -> None:
    draft["turns"] = draft.get("turns", 0) + 1


class Entry(TypedDict):
    turns: int


def whole(_draft: Draft) -> Entry:
    return {"turns": 1}


mutator: Mutator = typed
assert_type(store.update("k", typed), Session)
assert_type(store.update("k", whole), Session)
assert_type(store.update("k", mutator, expect=store["k"]), Session)
entry: Entry = {"turns": 1}
store.create("k", entry)
store.replace("k", entry, expect="version")
store.patch("k", {"a": [1, "x", {"b": None}], "c": {"d": [True]}}, unset=["e"])
value: JSON = {"a": [1, 2.5, "x", None, {"b": True}]}
store.patch("k", {"value": value})


# What a checker refuses
async def coroutine(draft: Draft) -> None: ...


store.update("k", coroutine)  # type: ignore[arg-type]
store.update("k", lambda _draft: 5)  # type: ignore[arg-type,return-value]
store.list(order="x")  # type: ignore[call-arg]
store.patch("k", {"a": object()})  # type: ignore[dict-item]
store.patch("k", {"a": {1, 2}})  # type: ignore[dict-item]
Store("x", durability="comit")  # type: ignore[arg-type]
store.list(where={"a": {1, 2}})  # type: ignore[dict-item]

# Results
where: Where = {"status": "running", "tokens": (">", 5), "user": ("in", ["a", "b"]), "done": ("exists", False)}
info = store.list(where=where, limit=1)[0]
assert_type(info, SessionInfo)
assert_type(info.fields, dict[str, Any])
assert_type(info.updated_at, datetime)
assert_type(store.get("k"), Session | None)
assert_type(store.get("k", rev=1), Session | None)
assert_type(store.history("k"), list[Session])
assert_type(store["k"]["turns"], Any)
assert_type(store.compact(), CompactReport)
assert_type(store.stats(), StoreStats)
with store.edit("k") as draft:
    assert_type(draft, Draft)
    draft.delete()
assert_type(draft.session, Session)
assert_type(store.using(actor="web"), Store)
assert_type(Store.memory(), Store)
assert_type(store.archive.restore("k"), Session)


# asyncio: the same verbs
async def awaited(shared: AsyncStore) -> None:
    assert_type(await shared.update("k", typed, create=False), Session)
    assert_type(await shared.list(where=where, limit=1), list[SessionInfo])
    assert_type(await shared.get("k"), Session | None)
    assert_type(await shared.archive.restore("k"), Session)
    assert_type([session async for session in shared.sessions()], list[Session])
    await shared.list(order="x")  # type: ignore[call-arg]
    await shared.update("k", coroutine)  # type: ignore[arg-type]


AsyncStore("x", durability="comit")  # type: ignore[arg-type]
AsyncStore(store, actor="web")
