"""create, get_or_create, and what absent, empty, null and deleted mean."""

from __future__ import annotations

import time

import pytest

from shardstore import DELETE, SessionExists, SessionNotFound, Store
from tests.contract import backend as peers

BOTH_DURABILITIES = True

ENTRY = {"model": "opus", "tokens": 5, "origin": {"to": None, "ids": [1, 2]}}


def test_create_stores_the_entry_as_revision_one(store: Store) -> None:
    """What create is given is what every reader gets, at revision 1."""
    made = store.create("agent:main", ENTRY)
    assert (made.key, made.rev, made.data) == ("agent:main", 1, ENTRY)
    assert store["agent:main"].data == ENTRY


def test_create_refuses_an_existing_session(store: Store, backend: peers.Backend) -> None:
    """A second create changes nothing and says which session is in the way."""
    first = store.create("k", {"a": 1})
    before = backend.written()
    with pytest.raises(SessionExists) as caught:
        store.create("k", {"a": 2})
    assert caught.value.key == "k"
    assert backend.written() == before
    assert store["k"].version == first.version


def test_create_after_delete_is_a_new_incarnation(store: Store) -> None:
    """A session made again begins at revision 1 and its version matches none of the old ones."""
    old = [store.create("k", {"a": 1}), store.patch("k", {"a": 2})]
    store.delete("k")
    new = store.create("k", {"a": 1})
    assert new.rev == 1
    assert new.version not in {session.version for session in old}
    assert store.patch("k", {"a": 2}).version not in {session.version for session in old}


def test_versions_never_match_across_many_incarnations(store: Store) -> None:
    """No version of any incarnation is ever used again, of this key or of another."""
    versions = []
    for _ in range(20):
        versions += [store.create("k", {}).version, store.patch("k", {"a": 1}).version]
        versions.append(store.get_or_create("other", {}).version)
        store.delete("k")
    store.delete("other")
    assert len(set(versions)) == 2 * 20 + 1


@pytest.mark.processes
def test_only_one_of_many_creators_wins(store: Store, backend: peers.Backend, crew) -> None:
    """Of processes that create the same session in the same instant exactly one succeeds, the others are told."""
    for attempt in range(10):
        moment = time.monotonic() + 0.05
        arguments = [(moment, backend, "create", f"k{attempt}", {"maker": n}) for n in range(4)]
        outcomes = crew(4).each(peers.outcome_at, arguments)
        assert sorted(outcomes) == ["Session", *["SessionExists"] * 3]
        assert store[f"k{attempt}"].rev == 1


def test_get_or_create_returns_what_is_there(store: Store, backend: peers.Backend) -> None:
    """On an existing session get_or_create neither writes nor calls the function."""
    store.create("k", {"a": 1})
    before = backend.written()
    assert store.get_or_create("k", {"a": 2}).data == {"a": 1}
    assert store.get_or_create("k", lambda: pytest.fail("called for a session that exists")).data == {"a": 1}
    assert backend.written() == before


def test_get_or_create_makes_an_absent_session(store: Store) -> None:
    """On an absent session get_or_create stores the mapping, or what the function returns."""
    assert store.get_or_create("a", {"x": 1}).rev == 1
    assert store.get_or_create("b", lambda: {"x": 2}).data == {"x": 2}
    assert store["a"].data == {"x": 1}
    assert store["b"].data == {"x": 2}


@pytest.mark.processes
def test_concurrent_get_or_create_converges_on_one(store: Store, backend: peers.Backend, crew) -> None:
    """All callers of get_or_create get the same incarnation and entry, whoever made it."""
    for attempt in range(10):
        moment = time.monotonic() + 0.05
        arguments = [(moment, backend, f"k{attempt}", n) for n in range(4)]
        outcomes = crew(4).each(peers.race_to_make, arguments)
        assert len({version for version, _ in outcomes}) == 1
        assert all(data == outcomes[0][1] for _, data in outcomes)
        assert store[f"k{attempt}"].rev == 1


def test_a_failing_function_of_get_or_create_leaves_nothing(store: Store) -> None:
    """An exception in the function reaches the caller and no session comes to be."""

    def fail() -> dict[str, int]:
        raise LookupError("no template")

    with pytest.raises(LookupError):
        store.get_or_create("k", fail)
    assert "k" not in store
    assert store.get_or_create("k", {"a": 1}).rev == 1


def test_absent_null_empty_and_deleted_are_told_apart(store: Store) -> None:
    """An absent session, an empty one, a null field, an absent field and a deleted session differ for every reader."""
    assert store.get("absent") is None
    store.create("empty", {})
    store.create("null", {"a": None})
    store.create("gone", {"a": 1})
    store.delete("gone")
    empty, null = store["empty"], store["null"]
    assert empty.data == {}
    assert "a" not in empty
    assert null.data == {"a": None}
    assert "a" in null
    assert null["a"] is None
    with pytest.raises(KeyError):
        empty["a"]
    assert store.get("gone") is None
    assert [key in store for key in ("absent", "empty", "null", "gone")] == [False, True, True, False]
    assert sorted(store) == ["empty", "null"]


def test_a_deleted_field_differs_from_a_null_one_after_patching(store: Store) -> None:
    """patch with None keeps the field as null; patch with unset takes it away."""
    store.create("k", {"a": 1, "b": 1})
    store.patch("k", {"a": None}, unset=["b"])
    assert store["k"].data == {"a": None}


def test_update_creates_an_absent_session_even_when_it_changes_nothing(store: Store) -> None:
    """Absent and empty are two things: a mutator that leaves its draft empty creates an empty session."""
    assert store.update("k", lambda draft: None).data == {}
    assert "k" in store
    assert store.update("k", lambda draft: None).rev == 1


def test_create_false_refuses_an_absent_session(store: Store, backend: peers.Backend) -> None:
    """With create=False no writer makes a session, calls the mutator or leaves anything that lists."""
    store.create("gone", {})
    store.delete("gone")
    for key in ("absent", "gone"):
        with pytest.raises(SessionNotFound) as caught:
            store.update(key, lambda draft: pytest.fail("called for an absent session"), create=False)
        assert caught.value.key == key
        with pytest.raises(KeyError):
            store.patch(key, {"a": 1}, create=False)
        with pytest.raises(SessionNotFound), store.edit(key, create=False):
            pytest.fail("entered for an absent session")
        assert store.get(key) is None
    assert len(store) == 0


def test_create_false_updates_what_is_there(store: Store) -> None:
    """With create=False an existing session is updated as ever."""
    store.create("k", {"a": 1})
    assert store.update("k", lambda draft: draft.update(a=2), create=False).rev == 2
    assert store.patch("k", {"a": 3}, create=False).rev == 3
    with store.edit("k", create=False) as draft:
        draft["a"] = 4
    assert store["k"].data == {"a": 4}


def test_delete_from_inside_a_mutator_on_an_absent_session(store: Store) -> None:
    """DELETE from the mutator of a session that never was leaves it absent."""
    assert not store.update("k", lambda draft: DELETE).exists
    assert "k" not in store
    assert store.history("k") == []
