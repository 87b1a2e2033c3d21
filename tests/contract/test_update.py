"""update, patch and edit: what a mutator sees, what it may return, and what becomes of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import MutableMapping
from types import MappingProxyType
from typing import Any

import pytest

from shardstore import DELETE, Draft, InvalidEntry, Store
from tests.contract.backend import Backend

BOTH_DURABILITIES = True

ENTRY = {"a": 1, "b": {"c": [1, {"d": None}]}, "e": "text", "f": None, "g": True, "h": 1.5}


def test_update_returns_the_new_state(store: Store) -> None:
    """The session that update returns is the one that was written, and the one a reader then gets."""
    store.create("k", ENTRY)
    updated = store.update("k", lambda draft: draft.update(a=2))
    assert (updated.rev, updated["a"]) == (2, 2)
    seen = store["k"]
    assert (seen.rev, seen.version, seen.data) == (updated.rev, updated.version, updated.data)


def test_a_draft_behaves_as_a_mutable_mapping(store: Store) -> None:
    """Everything that a MutableMapping can do works on a draft and is committed."""
    store.create("k", ENTRY)

    def exercise(draft: Draft) -> None:
        assert isinstance(draft, MutableMapping)
        assert len(draft) == 6
        assert list(draft) == list(ENTRY)
        assert dict(draft.items()) == ENTRY
        assert draft == ENTRY
        assert draft.copy() == ENTRY
        assert type(draft.copy()) is dict
        assert type(draft["b"]) is dict
        assert "a" in draft
        assert "x" not in draft
        assert draft.get("x", 7) == 7
        assert draft.pop("a") == 1
        assert draft.pop("x", 8) == 8
        assert draft.setdefault("e", "other") == "text"
        assert draft.setdefault("new", []) == []
        draft["new"].append(1)
        draft.update({"h": 2.5}, i=3)
        del draft["f"]
        assert "f" not in draft
        with pytest.raises(KeyError):
            del draft["f"]
        with pytest.raises(KeyError):
            draft["f"]
        assert list(draft.values()) == [ENTRY["b"], "text", True, 2.5, [1], 3]

    expected = {"b": ENTRY["b"], "e": "text", "g": True, "h": 2.5, "new": [1], "i": 3}
    assert store.update("k", exercise).data == expected
    assert list(store["k"].data) == list(expected)


def test_clear_and_popitem_of_a_draft(store: Store) -> None:
    """A draft can be emptied, which leaves an empty session, not an absent one."""
    store.create("k", {"a": 1, "b": 2})

    def pop_one(draft: Draft) -> None:
        name, value = draft.popitem()
        assert {name: value} in ({"a": 1}, {"b": 2})

    assert len(store.update("k", pop_one).data) == 1
    assert store.update("k", lambda draft: draft.clear()).data == {}
    assert "k" in store


def test_a_change_deep_inside_a_draft_is_committed(store: Store) -> None:
    """A nested value that the mutator changes in place is written though its field was never assigned."""
    store.create("k", ENTRY)

    def deep(draft: Draft) -> None:
        draft["b"]["c"][1]["d"] = "set"

    store.update("k", deep)
    assert store["k"].data == {**ENTRY, "b": {"c": [1, {"d": "set"}]}}


def test_a_value_met_through_items_or_values_may_be_changed_too(store: Store) -> None:
    """A nested value changed in place is committed whichever way the mutator came by it."""
    store.create("k", {"a": [1], "b": [1], "c": [1], "d": [1]})

    def through_all(draft: Draft) -> None:
        dict(draft.items())["a"].append(2)
        list(draft.values())[1].append(2)
        value = draft.get("c")
        assert value is not None
        value.append(2)
        draft.setdefault("d", []).append(2)

    store.update("k", through_all)
    assert store["k"].data == {name: [1, 2] for name in "abcd"}


def test_one_value_in_two_fields_is_stored_in_both(store: Store) -> None:
    """A value that stands in two fields of the draft is written to both as it is at the end."""

    def share(draft: Draft) -> None:
        shared: list[int] = []
        draft["a"] = shared
        draft["b"] = {"same": shared}
        shared.append(1)

    assert store.update("k", share).data == {"a": [1], "b": {"same": [1]}}
    assert store["k"].data == {"a": [1], "b": {"same": [1]}}


@pytest.mark.parametrize("kind", [dict, OrderedDict, MappingProxyType], ids=lambda kind: kind.__name__)
def test_a_returned_mapping_replaces_the_entry(store: Store, kind: Any) -> None:
    """A mapping that the mutator returns becomes the whole entry; fields it does not name are gone."""
    store.create("k", ENTRY)
    replaced = store.update("k", lambda draft: kind({"z": 1, "a": draft["a"]}))
    assert replaced.data == {"z": 1, "a": 1}
    assert list(store["k"].data) == ["z", "a"]
    assert replaced.rev == 2


def test_returning_the_draft_commits_the_draft(store: Store) -> None:
    """A mutator that returns its own draft means that draft."""
    store.create("k", {"a": 1, "b": 2})

    def same(draft: Draft) -> Draft:
        draft["a"] = 5
        return draft

    assert store.update("k", same).data == {"a": 5, "b": 2}


def test_returning_a_copy_of_the_draft(store: Store) -> None:
    """The usual shape of a pure function, a changed copy, works."""
    store.create("k", ENTRY)
    assert store.update("k", lambda draft: {**draft, "a": 9}).data == {**ENTRY, "a": 9}
    assert store.update("k", lambda draft: draft.copy() | {"a": 10}).data == {**ENTRY, "a": 10}


@pytest.mark.parametrize("returned", [1, "text", True, [], [("a", 1)], object], ids=repr)
def test_any_other_return_value_is_an_error(store: Store, backend: Backend, returned: object) -> None:
    """What a mutator returns by mistake (a length, a bool, a list) neither replaces the entry nor is ignored."""
    store.create("k", {"a": 1})
    before = backend.written()
    with pytest.raises((TypeError, InvalidEntry)):
        store.update("k", lambda draft: returned)
    assert backend.written() == before


def test_returning_delete_deletes(store: Store) -> None:
    """A mutator that returns DELETE deletes the session, whatever it did to the draft; update returns None."""
    store.create("k", {"a": 1})

    def finish(draft: Draft) -> object:
        draft["a"] = 2
        return DELETE

    assert not store.update("k", finish).exists
    assert "k" not in store
    assert store.create("k", {}).rev == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
def test_an_exception_in_a_mutator_writes_nothing_and_frees_the_lock(
    store: Store, backend: Backend, store_factory, error: type[BaseException]
) -> None:
    """Whatever a mutator raises reaches the caller; nothing is written; the next writer is not kept waiting."""
    store.create("k", {"a": 1, "b": [1]})
    before = backend.written()

    def fail(draft: Draft) -> None:
        draft["a"] = 2
        draft["b"].append(2)
        raise error("in the middle")

    with pytest.raises(error):
        store.update("k", fail)
    with pytest.raises(error), store.edit("k") as draft:
        fail(draft)
    assert backend.written() == before
    assert store["k"].data == {"a": 1, "b": [1]}
    assert store_factory(lock_timeout=5.0).patch("k", {"a": 3}).rev == 2


def test_an_exception_while_creating_leaves_the_session_absent(store: Store) -> None:
    """When the first mutator of a session raises, there is no session."""

    def fail(draft: Draft) -> None:
        draft["a"] = 1
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        store.update("k", fail)
    assert "k" not in store
    assert list(store) == []
    assert store.history("k") == []


def test_a_draft_kept_after_its_update_changes_nothing(store: Store, elsewhere) -> None:
    """Neither a draft nor a nested value that leaks out of a mutator reaches the store afterwards."""
    store.create("k", {"a": 1, "b": {"c": [1]}, "d": [1]})
    leaked: list[Any] = []

    def leak(draft: Draft) -> None:
        draft["new"] = {"x": [1]}
        draft["d"].append(2)
        leaked.extend([draft, draft["b"], draft["new"], draft["d"], draft.copy()])

    store.update("k", leak)
    expected = {"a": 1, "b": {"c": [1]}, "d": [1, 2], "new": {"x": [1]}}
    draft, nested, new, changed, copy = leaked
    nested["c"].append("late")
    new["x"].append("late")
    changed.append("late")
    copy["b"]["c"].append("late")
    try:
        draft["a"] = "late"
    except Exception:
        pass
    for reader in (store, elsewhere):
        assert reader["k"].data == expected
    assert store.patch("k", {"a": 2}).data == {**expected, "a": 2}
    assert elsewhere["k"].data == {**expected, "a": 2}


def test_what_a_mutator_stores_is_a_copy(store: Store) -> None:
    """An object that the caller keeps and puts into a draft is stored as it was at the commit."""
    mine: dict[str, Any] = {"list": [1]}
    store.update("k", lambda draft: draft.update(a=mine))
    mine["list"].append(2)
    assert store["k"].data == {"a": {"list": [1]}}
    store.patch("k", {"b": mine})
    made = store.create("k2", mine)
    mine["list"].append(3)
    assert store["k"]["b"] == {"list": [1, 2]}
    assert store["k2"].data == {"list": [1, 2]}
    assert made.data == {"list": [1, 2]}


def test_patch_touches_only_the_fields_it_names(store: Store) -> None:
    """patch sets the named fields, unsets the named fields, and leaves every other as it was, in its place."""
    store.create("k", ENTRY)
    patched = store.patch("k", {"e": "new", "z": 26}, unset=["f", "not there"])
    expected = {"a": 1, "b": ENTRY["b"], "e": "new", "g": True, "h": 1.5, "z": 26}
    assert patched.data == expected
    assert list(store["k"].data) == list(expected)


def test_patch_replaces_a_nested_value_whole(store: Store) -> None:
    """patch works on top-level fields: a mapping in it replaces the old one and is not merged."""
    store.create("k", {"a": {"x": 1, "y": 2}})
    assert store.patch("k", {"a": {"x": 3}}).data == {"a": {"x": 3}}


def test_patch_creates_an_absent_session(store: Store) -> None:
    """patch of an absent session creates it with the fields it was given."""
    assert store.patch("k", {"a": 1}, unset=["b"]).data == {"a": 1}
    assert store["k"].rev == 1


def test_field_order_survives_every_verb(store: Store, elsewhere) -> None:
    """Fields keep their order; a new one comes last; one that was removed and set again comes last."""
    names = [f"field{n:02}" for n in range(35)]
    store.create("k", {name: n for n, name in enumerate(reversed(names))})
    order = list(reversed(names))
    store.patch("k", {"field10": "x"})
    store.update("k", lambda draft: draft.update(field20="y"))
    assert list(store["k"].data) == order
    store.patch("k", {"new": 1}, unset=["field30"])
    store.patch("k", {"field30": 1})
    expected = [name for name in order if name != "field30"] + ["new", "field30"]
    assert list(store["k"].data) == expected
    assert list(elsewhere["k"].data) == expected


def test_a_field_taken_out_and_put_back_by_one_mutator_is_where_the_mutator_left_it(store: Store, elsewhere) -> None:
    """The order that one mutator leaves is the order that every reader sees, cached or fresh."""
    store.create("k", {"a": 1, "b": 2, "c": 3})

    def move(draft: Draft) -> None:
        draft["a"] = draft.pop("a") + 1

    returned = store.update("k", move)
    assert returned.data == {"a": 2, "b": 2, "c": 3}
    assert list(returned.data) == list(store["k"].data) == list(elsewhere["k"].data)


def test_edit_is_update_as_a_with_statement(store: Store) -> None:
    """edit gives the draft and commits when the block ends."""
    store.create("k", {"a": 1})
    with store.edit("k") as draft:
        assert isinstance(draft, Draft)
        draft["a"] += 1
        draft["b"] = [1]
        draft["b"].append(2)
        assert store["k"].data == {"a": 1}, "a reader sees the state before the commit"
    assert store["k"].data == {"a": 2, "b": [1, 2]}
    assert store["k"].rev == 2


def test_edit_creates_an_absent_session(store: Store) -> None:
    """edit of an absent session creates it."""
    with store.edit("k") as draft:
        draft["a"] = 1
    assert store["k"].data == {"a": 1}


def test_leaving_an_edit_early_commits(store: Store) -> None:
    """return and break out of an edit are not exceptions: what was changed is committed."""

    def leave() -> int:
        with store.edit("k") as draft:
            draft["a"] = 1
            return 5

    assert leave() == 5
    assert store["k"].data == {"a": 1}


def test_an_invalid_value_in_an_edit_surfaces_where_the_block_ends(store: Store, backend: Backend) -> None:
    """A value that cannot be stored is an error of the with statement, and nothing is written."""
    store.create("k", {"a": 1})
    before = backend.written()
    with pytest.raises(InvalidEntry), store.edit("k") as draft:
        draft["a"] = {1, 2}
    assert backend.written() == before


def test_different_sessions_may_be_updated_inside_each_other(store: Store) -> None:
    """Only the same session may not be nested: a mutator may update another one."""

    def child(draft: Draft) -> None:
        draft["n"] = 1

    def parent(draft: Draft) -> None:
        draft["child"] = store.update("child", child).rev
        draft["seen"] = store["child"]["n"]

    assert store.update("parent", parent).data == {"child": 1, "seen": 1}
