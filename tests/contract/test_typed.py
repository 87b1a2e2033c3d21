"""Typed sessions, of each kind of model, on each engine."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from shardstore import DELETE, Conflict, InvalidEntry, SessionExists, SessionNotFound, Store
from shardstore.typed import TypedSession, TypedStore
from tests.contract.backend import Backend
from tests.contract.models import KINDS, Kind, Status

ENTRY: dict[str, Any] = {
    "status": "running",
    "turns": 3,
    "x-first": {"of": "a later version"},
    "mode": "slow",
    "origin": {"channel": "telegram", "ids": [1, 2], "x-deep": True},
    "parts": [{"channel": "a", "ids": [], "x": 1}, {"channel": "b", "ids": [], "x": 2}],
    "started": "2026-01-02T03:04:05+00:00",
    "limits": {"usd": 1.5},
    "x-last": [1],
}


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Return each kind of model."""
    found: Kind = request.param
    return found


@pytest.fixture
def typed(store: Store, kind: Kind) -> TypedStore[Any, Any]:
    """Return the store as one of this kind of model."""
    return store.typed(kind.chat, item=kind.message)


def test_what_is_stored_is_read_as_the_model(store: Store, typed: TypedStore[Any, Any], kind: Kind) -> None:
    """Enums, times, nested models and collections come back as what they are; rev, version and times are beside."""
    plain = store.create("k", ENTRY)
    found = typed["k"]
    assert isinstance(found, TypedSession)
    value = found.value
    assert kind.get(value, "status") is Status.RUNNING
    assert kind.get(value, "started") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert kind.get(kind.get(value, "origin"), "ids") == [1, 2]
    assert kind.get(kind.get(value, "parts")[1], "channel") == "b"
    assert (found.key, found.rev, found.version) == ("k", 1, plain.version)
    assert (found.created_at, found.updated_at, found.actor) == (plain.created_at, plain.updated_at, plain.actor)
    assert found.session == plain
    assert typed.get("nobody") is None


def test_only_fields_that_differ_are_written(store: Store, typed: TypedStore[Any, Any], kind: Kind) -> None:
    """Another field, also one that the model knows, stays as it is, whoever wrote it; so does the order."""
    store.create("k", ENTRY)
    found = typed.update("k", kind.add_one)
    assert kind.get(found.value, "turns") == 4
    assert store["k"].data == ENTRY | {"turns": 4}
    assert list(store["k"].data) == list(ENTRY)


def test_a_mutator_that_changes_nothing_writes_nothing(
    store: Store, typed: TypedStore[Any, Any], kind: Kind, backend: Backend
) -> None:
    """Nor does the model's own spelling: defaults that are not stored, and times and numbers written otherwise."""
    store.create("k", {"turns": 1, "started": "2026-01-02T03:04:05Z", "limits": {"usd": 1}, "origin": {"x": 1}})
    before = backend.written()
    assert typed.update("k", lambda _value: None).rev == 1
    assert typed.update("k", lambda value: value).rev == 1
    with typed.edit("k"):
        pass
    assert backend.written() == before
    typed.update("k", kind.add_one)
    assert store["k"].data == {
        "turns": 2, "started": "2026-01-02T03:04:05Z", "limits": {"usd": 1}, "origin": {"x": 1}
    }  # fmt: skip


def test_what_the_model_does_not_know_survives_deep_inside(
    store: Store, typed: TypedStore[Any, Any], kind: Kind
) -> None:
    """A changed nested model keeps its unknown members; an item of a list keeps them where it moves and is changed."""

    def change(value: Any) -> None:
        kind.get(kind.get(value, "origin"), "ids").append(3)
        parts = kind.get(value, "parts")
        parts.reverse()
        parts.append(kind.origin(channel="c", ids=[]))

    store.create("k", ENTRY)
    typed.update("k", change)
    assert store["k"]["origin"] == {"channel": "telegram", "ids": [1, 2, 3], "x-deep": True}
    first, second = ENTRY["parts"]
    assert store["k"]["parts"] == [second, first, {"channel": "c", "ids": []}]
    typed.update("k", lambda value: kind.put(kind.get(value, "parts")[0], "channel", "B"))
    assert store["k"]["parts"][0] == {"channel": "B", "ids": [], "x": 2}


def test_replace_keeps_what_the_model_does_not_know(store: Store, typed: TypedStore[Any, Any], kind: Kind) -> None:
    """It also mends an entry that does not fit."""
    store.create("k", {"turns": "many", "x": 1})
    value = kind.chat(turns=5)
    assert kind.get(typed.replace("k", value).value, "turns") == 5
    assert store["k"]["x"] == 1


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"turns": "3"}, "entry['turns']"),
        ({"turns": True}, "entry['turns']"),
        ({"status": "gone"}, "entry['status']"),
        ({"origin": {"ids": [1, "2b"]}}, "entry['origin']['ids'][1]"),
        ({"parts": [{}, {"channel": 5}]}, "entry['parts'][1]['channel']"),
        ({"started": "yesterday"}, "entry['started']"),
        ({"mode": None}, "entry['mode']"),
    ],
)
def test_a_stored_entry_that_does_not_fit_changes_nothing(  # noqa: PLR0913
    store: Store, typed: TypedStore[Any, Any], kind: Kind, backend: Backend, entry: dict[str, Any], path: str
) -> None:
    """InvalidEntry names the place; the function is not called, and nothing is written."""
    store.create("k", entry)
    before = backend.written()
    for call in (
        lambda: typed.update("k", lambda _value: pytest.fail("it was called")),
        lambda: typed.edit("k").__enter__(),
        lambda: typed.get("k"),
        lambda: typed["k"],
        lambda: typed.patch("k", {"x": 1}),
        lambda: typed.append("k", [], lambda _value: pytest.fail("it was called")),
        lambda: typed.history("k")[0].value,
    ):
        with pytest.raises(InvalidEntry) as found:
            call()
        assert found.value.path == path
    assert backend.written() == before
    store.update("k", lambda draft: draft.update(y=1))  # the lock is free


def test_a_model_that_was_made_not_to_fit_changes_nothing(
    store: Store, typed: TypedStore[Any, Any], kind: Kind, backend: Backend
) -> None:
    """Whatever the attributes were set to: what is written can be read again."""
    store.create("k", ENTRY)
    before = backend.committed()
    for name, wrong in [("turns", "3"), ("status", "running!"), ("limits", {"usd": "x"})]:
        with pytest.raises(InvalidEntry) as found:
            typed.update("k", lambda value, name=name, wrong=wrong: kind.put(value, name, wrong))
        assert found.value.path.startswith(f"entry['{name}']"), found.value
        with pytest.raises(InvalidEntry), typed.edit("new") as draft:
            kind.put(draft.value, name, wrong)
    with pytest.raises(InvalidEntry):
        typed.update("k", lambda value: kind.put(value, "limits", {"usd": float("nan")}))
    with pytest.raises(InvalidEntry):  # the libraries do not say which
        typed.update("k", lambda value: kind.put(value, "turns", object()))
    with pytest.raises(InvalidEntry):
        typed.patch("k", {"turns": "many"})
    assert backend.committed() == before


def test_an_absent_session_begins_as_the_model_or_the_default(store: Store, kind: Kind) -> None:
    """`default` is a model, of which each session has its own, or a function."""
    assert store.typed(kind.chat).update("a", kind.add_one).rev == 1
    assert store["a"]["turns"] == 1
    begin = kind.chat(turns=5, origin=kind.origin(channel="x", ids=[]))
    typed = store.typed(kind.chat, default=begin)
    typed.update("b", lambda value: kind.get(kind.get(value, "origin"), "ids").append(1))
    typed.update("c", lambda value: kind.get(kind.get(value, "origin"), "ids").append(2))
    assert (store["b"]["turns"], store["b"]["origin"]["ids"]) == (5, [1])
    assert store["c"]["origin"]["ids"] == [2]
    made = store.typed(kind.chat, default=lambda: kind.chat(turns=7))
    assert kind.get(made.update("d", lambda _value: None).value, "turns") == 7
    with pytest.raises(SessionNotFound):
        made.update("e", kind.add_one, create=False)
    if kind.name == "TypedDict":  # which can be made without its members, and not be stored
        with pytest.raises(InvalidEntry, match="missing"):
            store.typed(kind.message).update("f", lambda _value: None)
    else:
        with pytest.raises(TypeError, match="default="):
            store.typed(kind.message).update("f", lambda _value: None)
    assert "f" not in store


def test_a_mutator_may_return_another_model_or_delete(store: Store, typed: TypedStore[Any, Any], kind: Kind) -> None:
    """Anything else is a TypeError, and writes nothing."""
    store.create("k", ENTRY)
    typed.update("k", lambda _value: kind.chat(turns=9))
    assert store["k"]["turns"] == 9
    assert store["k"]["x-first"] == ENTRY["x-first"]

    async def later(_value: Any) -> None: ...

    wrong: list[Any] = [lambda _value: 5, lambda _value: [], later]
    for fn in wrong:
        with pytest.raises(TypeError, match="typed session"):
            typed.update("k", fn)
    gone = typed.update("k", lambda _value: DELETE)
    assert not gone
    assert not gone.exists
    assert "k" not in store
    with pytest.raises(SessionNotFound):
        _ = gone.value


def test_edit_yields_a_draft(store: Store, typed: TypedStore[Any, Any], kind: Kind) -> None:
    """Its value can be changed or assigned; log, session and delete stand beside it."""
    with typed.edit("k") as draft:
        assert not draft.exists
        assert draft.key == "k"
        kind.add_one(draft.value)
        assert draft.log.append(kind.message(role="user", content="hi"), id="u1")
        assert not draft.log.append(kind.message(role="user", content="again"), id="u1")
    assert kind.get(draft.session.value, "turns") == 1
    assert kind.get(draft.session.log[0], "content") == "hi"
    with typed.edit("k") as draft:
        draft.value = kind.chat(turns=8)
    assert store["k"]["turns"] == 8
    with pytest.raises(ValueError, match="stop"), typed.edit("k") as draft:
        kind.add_one(draft.value)
        raise ValueError("stop")
    assert store["k"]["turns"] == 8
    with typed.edit("k") as draft:
        draft.delete()
    assert not draft.session.exists


def test_items_are_models_too(store: Store, typed: TypedStore[Any, Any], kind: Kind) -> None:
    """append, the log of a session, `log` and a draft's log take and give the type of `item`."""
    hello, bye = kind.message(role="user", content="hello"), kind.message(role="agent", content="bye")
    found = typed.append("k", [hello, bye], kind.add_one, ids=["1", "2"])
    assert (kind.get(found.value, "turns"), list(found.log), len(found.log)) == (1, [hello, bye], 2)
    assert store.log("k") == [{"role": "user", "content": "hello"}, {"role": "agent", "content": "bye"}]
    assert typed.log("k", -1) == [bye]
    assert found.log[::-1] == list(reversed(found.log)) == [bye, hello]
    assert (found.log.find("2"), found.log.ids(), found.log.entries()[1].value) == (1, ["1", "2"], bye)
    with typed.edit("k") as draft:
        draft.log[0] = bye
        assert draft.log[:] == [bye, bye]
        assert draft.log.pop() == bye
        draft.log.extend([hello])
        draft.log.keep([1])
    assert list(draft.session.log) == [hello]
    follower = typed.follow("k", 0)
    assert next(follower) == hello
    follower.close()
    with pytest.raises(InvalidEntry, match=r"items\[1\]"):
        typed.append("k", [hello, {"role": "user"}])
    with pytest.raises(TypeError, match="list of items"):
        typed.append("k", {"role": "user", "content": "x"})
    store.append("k", [{"role": "cook", "content": ""}])
    with pytest.raises(InvalidEntry) as misfit:
        typed.log("k", 1)
    assert misfit.value.path == "log[1]['role']"


def test_an_append_makes_a_session_that_fits(store: Store, kind: Kind) -> None:
    """It begins as the model; patch may be a mapping of stored names."""
    typed = store.typed(kind.chat, default=lambda: kind.chat(turns=2))
    typed.append("k", [1])
    assert kind.get(typed["k"].value, "turns") == 2
    typed.append("k", [2], {"turns": 3})
    with pytest.raises(InvalidEntry):
        typed.append("k", [3], {"turns": "4"})
    assert (store["k"]["turns"], store.log("k")) == (3, [1, 2])


def test_the_other_verbs(store: Store, typed: TypedStore[Any, Any], kind: Kind) -> None:
    """Each takes and returns models, and does what the verb of the store does."""
    one, two = kind.chat(turns=1), kind.chat(turns=2)
    first = typed.create("a", one)
    assert kind.get(first.value, "turns") == 1
    with pytest.raises(SessionExists):
        typed.create("a", two)
    assert kind.get(typed.get_or_create("a", two).value, "turns") == 1
    assert kind.get(typed.get_or_create("b", lambda: two).value, "turns") == 2
    changed = typed.patch("a", {"turns": 7}, unset="mode")
    assert kind.get(changed.value, "turns") == 7
    with pytest.raises(Conflict):
        typed.update("a", kind.add_one, expect=first)
    assert kind.get(typed.update("a", kind.add_one, expect=changed).value, "turns") == 8
    assert kind.get(typed.revert("a", 1).value, "turns") == 1
    old = typed.get("a", rev=2)
    assert old is not None
    assert kind.get(old.value, "turns") == 7
    assert [one.rev for one in typed.history("a")] == [1, 2, 3, 4]
    assert kind.get(typed.copy("a", "c").value, "turns") == 1
    assert typed.rename("c", "d").key == "d"
    assert typed.create_many({"e": one, "a": two}, on_exists="skip") == 1
    assert list(typed.get_many(["e", "nobody", "a"])) == ["e", "a"]
    assert {session.key for session in typed.sessions()} == set(typed) == {"a", "b", "d", "e"}
    assert (len(typed), "a" in typed, "c" in typed, bool(typed)) == (4, True, False, True)
    assert typed.list("a", limit=1)[0].key == "a"
    assert typed.count(where={"turns": 1}) == 3
    assert typed.delete("a")
    assert not typed.exists("a")
    assert typed.delete_all("e") == 1
    assert repr(typed).endswith(f".typed({kind.chat.__name__})")


def test_a_typed_session_can_be_pickled_and_compared(store: Store, typed: TypedStore[Any, Any], kind: Kind) -> None:
    """It is equal to another exactly when key and version are."""
    found = typed.create("k", kind.chat(turns=1))
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert hash(again) == hash(found)
    assert again.value == found.value
    assert found != typed.update("k", kind.add_one)
    assert repr(found) == "TypedSession('k', rev=1, fields=" + str(len(found.session)) + ")"


def test_concurrent_writers_of_other_fields_lose_nothing(store: Store, typed: TypedStore[Any, Any], kind: Kind) -> None:
    """A field that the model read and did not change is not written back."""
    store.create("k", ENTRY)
    stale = typed["k"].value
    store.patch("k", {"mode": "fast"})
    typed.update("k", kind.add_one)
    assert store["k"]["mode"] == "fast"
    assert kind.get(stale, "mode") == "slow"
