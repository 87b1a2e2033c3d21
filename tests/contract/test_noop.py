"""A call that changes nothing writes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shardstore import DELETE, Draft, Store
from tests.contract.backend import Backend

ENTRY = {"a": 1, "b": {"c": [1, 2]}, "d": None, "e": 1.5}


def _touch_nested(draft: Draft) -> None:
    draft["b"]["c"].append(3)
    draft["b"]["c"].pop()


def _set_and_restore(draft: Draft) -> None:
    draft["a"] = 2
    draft["new"] = 1
    del draft["new"]
    draft["a"] = 1


NOTHING: dict[str, Callable[[Store], object]] = {
    "update that only reads": lambda store: store.update("k", lambda draft: dict(draft) and None),
    "update to the same value": lambda store: store.update("k", lambda draft: draft.update(a=1)),
    "update with an equal copy": lambda store: store.update("k", lambda draft: draft.copy()),
    "update that returns the draft": lambda store: store.update("k", lambda draft: draft),
    "nested change taken back": lambda store: store.update("k", _touch_nested),
    "fields changed and restored": lambda store: store.update("k", _set_and_restore),
    "patch of nothing": lambda store: store.patch("k", {}),
    "patch to the same values": lambda store: store.patch("k", {"a": 1, "b": {"c": [1, 2]}}),
    "unset of what is not there": lambda store: store.patch("k", {}, unset=["x", "y"]),
    "get_or_create of what is there": lambda store: store.get_or_create("k", {"z": 1}),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_changed_means_nothing_written(store: Store, backend: Backend, store_factory, name: str) -> None:
    """rev, version, times, bytes and file times stay as they were, and the session returned is the current one."""
    store.create("k", ENTRY)
    for cold in (False, True):
        if cold:
            store.close()
        writer = store_factory() if cold else store
        current = writer["k"]
        before = backend.written()
        returned = NOTHING[name](writer)
        assert backend.written() == before
        assert returned is not None
        assert (returned.rev, returned.version, returned.updated_at) == (1, current.version, current.updated_at)  # type: ignore[attr-defined]
        assert len(writer.history("k")) == 1


def test_an_edit_that_changes_nothing_writes_nothing(store: Store, backend: Backend) -> None:
    """The with form is no exception."""
    store.create("k", ENTRY)
    before = backend.written()
    with store.edit("k") as draft:
        assert draft["b"]["c"] == [1, 2]
    assert backend.written() == before


def test_deleting_what_is_absent_writes_nothing(store: Store, backend: Backend) -> None:
    """A delete of an absent or deleted session says so and leaves no trace."""
    store.create("gone", {})
    store.delete("gone")
    before = backend.written()
    assert store.delete("never") is False
    assert store.delete("gone") is False
    assert not store.update("gone", lambda draft: DELETE).exists
    assert backend.written() == before


def test_reading_writes_nothing(store: Store, backend: Backend) -> None:
    """No verb that reads changes a session, of an existing, absent or deleted key."""
    store.create("k", ENTRY)
    store.create("gone", {})
    store.delete("gone")
    before = backend.written()
    for key in ("k", "gone", "never"):
        store.get(key)
        store.history(key)
        assert (key in store) is (key == "k")
    assert len(store) == 1
    assert list(store) == ["k"]
    assert [info.key for info in store.list()] == ["k"]
    assert store.count() == 1
    store.stats()
    assert store.verify().ok
    store.compact(dry_run=True)
    assert backend.written() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (1, True),
        (0, False),
        (1, 1.0),
        (0, None),
        ("", None),
        ([], {}),
        (0.0, -0.0),
        ({"a": 1}, {"a": True}),
        ([1], [1.0]),
    ],
    ids=repr,
)
def test_values_that_python_calls_equal_but_json_does_not_are_changes(
    store: Store, elsewhere, old: object, new: object
) -> None:
    """1, 1.0 and True are one value to ==, three to JSON: going from one to the other is written."""
    writers: list[Callable[[], object]] = [
        lambda: store.patch("k", {"v": new}),
        lambda: store.update("k", lambda draft: draft.update(v=new)),
        lambda: store.update("k", lambda draft: {"v": new}),
    ]
    for writer in writers:
        store.delete("k")
        store.create("k", {"v": old})
        writer()
        for reader in (store, elsewhere):
            assert repr(reader["k"]["v"]) == repr(new)
        assert store["k"].rev == 2


def test_a_different_order_of_nested_fields_is_kept_or_unchanged_but_never_half(store: Store, elsewhere) -> None:
    """Whatever the store decides about order inside a value, cached and fresh readers agree on it."""
    store.create("k", {"v": {"a": 1, "b": 2}})
    store.patch("k", {"v": {"b": 2, "a": 1}})
    assert list(store["k"]["v"]) == list(elsewhere["k"]["v"])
