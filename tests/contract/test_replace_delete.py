"""replace and delete: unconditional, and bound to an expected version."""

from __future__ import annotations

import pytest

from shardstore import Conflict, SessionNotFound, Store
from tests.contract import backend as peers

BOTH_DURABILITIES = True


def test_replace_puts_a_whole_new_entry(store: Store) -> None:
    """replace without an expectation replaces whatever is there, within the incarnation."""
    store.create("k", {"a": 1, "b": 2})
    replaced = store.replace("k", {"c": 3})
    assert (replaced.rev, replaced.data) == (2, {"c": 3})
    assert store["k"].data == {"c": 3}


def test_replace_with_the_current_version(store: Store) -> None:
    """A Session or its version string name the expected state; when it is the current one the entry is replaced."""
    first = store.create("k", {"a": 1})
    second = store.replace("k", {"a": 2}, expect=first)
    third = store.replace("k", {"a": 3}, expect=second.version)
    assert (second.rev, third.rev) == (2, 3)
    assert store["k"].data == {"a": 3}


@pytest.mark.parametrize("form", ["session", "version"])
def test_a_stale_expectation_is_a_conflict_that_writes_nothing(store: Store, backend: peers.Backend, form: str) -> None:
    """replace and delete with a version that is not the current one change nothing and name both versions."""
    old = store.create("k", {"a": 1})
    new = store.patch("k", {"a": 2})
    expect = old if form == "session" else old.version
    before = backend.written()
    for attempt in (
        lambda: store.replace("k", {"a": 3}, expect=expect),
        lambda: store.replace("k", {"a": 2}, expect=expect),
        lambda: store.delete("k", expect=expect),
    ):
        with pytest.raises(Conflict) as caught:
            attempt()
        assert (caught.value.key, caught.value.expected, caught.value.found) == ("k", old.version, new.version)
    assert backend.written() == before


def test_expecting_a_deleted_session_is_a_conflict(store: Store) -> None:
    """An expectation cannot be met by an absent session, nor by its next incarnation at the same revision."""
    old = store.create("k", {"a": 1})
    store.delete("k")
    with pytest.raises(Conflict) as caught:
        store.replace("k", {"a": 2}, expect=old)
    assert caught.value.found is None
    assert "k" not in store
    again = store.create("k", {"a": 1})
    assert again.rev == old.rev
    with pytest.raises(Conflict):
        store.replace("k", {"a": 2}, expect=old)
    with pytest.raises(Conflict):
        store.delete("k", expect=old)
    assert store["k"].version == again.version


def test_a_made_up_version_is_a_conflict(store: Store) -> None:
    """No string that the store did not hand out matches."""
    session = store.create("k", {"a": 1})
    for version in ("", "1", session.version + "0", session.version[:-1], session.version.upper() + " "):
        with pytest.raises((Conflict, ValueError, TypeError)):
            store.replace("k", {"a": 2}, expect=version)
        with pytest.raises((Conflict, ValueError, TypeError)):
            store.delete("k", expect=version)
    assert store["k"].data == {"a": 1}


def test_a_version_of_another_session_is_a_conflict(store: Store) -> None:
    """Versions of two sessions with the same history differ."""
    other = store.create("other", {"a": 1})
    store.create("k", {"a": 1})
    with pytest.raises(Conflict):
        store.replace("k", {"a": 2}, expect=other.version)
    with pytest.raises((Conflict, ValueError)):
        store.replace("k", {"a": 2}, expect=other)


def test_replace_of_an_absent_session(store: Store) -> None:
    """replace without an expectation either makes an absent session or says that there is none; it never pretends."""
    try:
        replaced = store.replace("k", {"a": 1})
    except SessionNotFound:
        assert "k" not in store
    else:
        assert (replaced.rev, store["k"].data) == (1, {"a": 1})


def test_delete_reports_whether_there_was_something(store: Store) -> None:
    """True the first time, False afterwards; the session is gone for every reader."""
    store.create("k", {"a": 1})
    assert store.delete("k") is True
    assert store.delete("k") is False
    assert store.get("k") is None
    assert list(store) == []
    with pytest.raises(SessionNotFound) as caught:
        store["k"]
    assert caught.value.key == "k"


def test_delete_with_the_current_version(store: Store) -> None:
    """delete with a met expectation deletes."""
    session = store.create("k", {"a": 1})
    assert store.delete("k", expect=session) is True
    session = store.create("k", {"a": 1})
    assert store.delete("k", expect=session.version) is True


@pytest.mark.processes
def test_compare_and_swap_loses_nothing(backend: peers.Backend, crew) -> None:
    """Processes that use only get and replace(expect) lose no increment: of several that expect one version one wins."""
    with backend.open() as store:
        store.create("k", {"n": 0})
    crew(3).run(peers.compare_and_swap, backend, "k", 60)
    with backend.open() as store:
        assert store["k"]["n"] == 180
        assert store["k"].rev == 181
