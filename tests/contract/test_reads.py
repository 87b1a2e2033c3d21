"""get, [], in, len, iter, and the snapshots they return."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from shardstore import Session, SessionNotFound, Store
from tests.contract import backend as peers

ENTRY = {"a": 1, "b": {"c": [1, {"d": 2}]}, "e": [[1], [2]]}


def test_a_session_tells_what_it_is(store: Store) -> None:
    """Every attribute of a Session has the documented type and value."""
    begun = datetime.now(UTC) - timedelta(seconds=1)
    store.create("agent:main", {"a": 1})
    session = store.patch("agent:main", {"a": 2})
    assert isinstance(session, Session)
    assert session.key == "agent:main"
    assert session.rev == 2
    assert isinstance(session.version, str)
    assert session.created_at.tzinfo is not None
    assert session.created_at.utcoffset() is not None
    assert begun <= session.created_at <= session.updated_at <= datetime.now(UTC) + timedelta(seconds=1)
    assert type(session.data) is dict


def test_a_session_is_read_as_a_mapping(store: Store) -> None:
    """A session gives its fields by name, as a mapping does."""
    session = store.create("k", {"model": "opus", "null": None})
    assert session["model"] == "opus"
    assert session.get("model") == "opus"
    assert session.get("x") is None
    assert session.get("x", 5) == 5
    assert "model" in session
    assert "x" not in session
    assert session["null"] is None
    with pytest.raises(KeyError):
        session["x"]


def test_a_session_is_immutable(store: Store) -> None:
    """No attribute and no field of a snapshot can be set."""
    session = store.create("k", {"a": 1})
    for name in ("key", "rev", "version", "by", "created_at", "updated_at", "data"):
        with pytest.raises(AttributeError):
            setattr(session, name, None)
    with pytest.raises(TypeError):
        session["a"] = 2  # type: ignore[index]
    with pytest.raises(TypeError):
        del session["a"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        session.anything = 1  # type: ignore[attr-defined]


def test_a_snapshot_stays_what_it_was(store: Store) -> None:
    """A session that was read does not follow later updates."""
    old = store.create("k", {"a": 1})
    store.patch("k", {"a": 2})
    store.delete("k")
    assert (old.rev, old["a"], old.data) == (1, 1, {"a": 1})


@pytest.mark.parametrize("verb", ["get", "getitem", "create", "update", "patch", "replace", "get_or_create", "history"])
def test_returned_data_is_the_callers_own(store: Store, elsewhere, backend: peers.Backend, verb: str) -> None:
    """Changing what any verb returned, however deep, changes neither the store nor what anybody else gets."""
    store.create("k", ENTRY)
    store.patch("k", {"a": 1, "extra": [1]})
    expected = {**ENTRY, "extra": [1]}
    returned = {
        "get": lambda: store.get("k"),
        "getitem": lambda: store["k"],
        "create": lambda: store.create("new", expected),
        "update": lambda: store.update("k", lambda draft: None),
        "patch": lambda: store.patch("k", {"a": 1}),
        "replace": lambda: store.replace("k", expected),
        "get_or_create": lambda: store.get_or_create("k", {}),
        "history": lambda: store.history("k")[-1],
    }[verb]()
    assert returned is not None
    before = backend.written()
    kept = store["k"]
    data = returned.data
    data["b"]["c"][1]["d"] = "mine"
    data["e"].append("mine")
    data["a"] = "mine"
    data["added"] = "mine"
    returned["b"]["c"].append("mine")
    assert kept.data == expected
    assert store["k"].data == expected
    assert store.history("k")[-1].data == expected
    assert elsewhere["k"].data == expected
    assert backend.written() == before
    assert store.patch("k", {"z": 1}).data == {**expected, "z": 1}


def test_two_readers_do_not_share_data(store: Store) -> None:
    """Two reads of one state give two independent copies."""
    store.create("k", ENTRY)
    one, two = store["k"], store["k"]
    one.data["b"]["c"].append("mine")
    assert two.data == ENTRY


@pytest.mark.processes
def test_sessions_can_be_copied_and_pickled(store: Store, backend: peers.Backend, crew) -> None:
    """A session crosses a process boundary unchanged, and serves as an expectation there."""
    session = store.create("k", ENTRY)
    for twin in (pickle.loads(pickle.dumps(session)), copy.copy(session), copy.deepcopy(session)):
        assert (twin.key, twin.rev, twin.version, twin.data) == ("k", 1, session.version, ENTRY)
        assert (twin.created_at, twin.updated_at, twin.actor) == (session.created_at, session.updated_at, session.actor)
    foreign = crew(1)[0].run(peers.session_of, backend, "k")
    assert foreign.version == session.version
    assert store.replace("k", {"a": 2}, expect=foreign).rev == 2


def test_the_representation_of_a_session_is_short(store: Store) -> None:
    """repr names key and revision and does not print a whole 40 KB entry into a log."""
    session = store.create("k", {"blob": "x" * 40_000})
    assert "'k'" in repr(session)
    assert len(repr(session)) < 1_000


def test_created_at_stays_and_updated_at_grows(store: Store) -> None:
    """created_at belongs to the incarnation, updated_at to the last change; neither goes back."""
    first = store.create("k", {"n": 0})
    stamps = [store.patch("k", {"n": n}) for n in range(1, 5)]
    assert {session.created_at for session in stamps} == {first.created_at}
    times = [session.updated_at for session in (first, *stamps)]
    assert times == sorted(times)
    store.delete("k")
    again = store.create("k", {})
    assert again.created_at >= stamps[-1].updated_at


def test_by_names_the_actor_of_the_last_change(store_factory) -> None:
    """Every record carries its writer's name, and a reader sees who changed what."""
    one, two = store_factory(actor="agent:main"), store_factory(actor='quoted "name" \n é')
    one.create("k", {"a": 1})
    assert two.get("k").actor == "agent:main"
    assert two.patch("k", {"a": 2}).actor == 'quoted "name" \n é'
    assert one["k"].actor == 'quoted "name" \n é'
    assert [session.actor for session in one.history("k")] == ["agent:main", 'quoted "name" \n é']


def test_get_of_an_absent_session_is_none(store: Store) -> None:
    """get never raises for an absent key and never makes it."""
    assert store.get("k") is None
    assert "k" not in store
    with pytest.raises(SessionNotFound):
        store["k"]


def test_len_iter_and_in_agree(store: Store) -> None:
    """The three ways of asking what is there give one answer."""
    keys = {f"agent:{n}" for n in range(30)}
    for key in keys:
        store.create(key, {})
    for n in range(10):
        store.delete(f"agent:{n}")
    keys -= {f"agent:{n}" for n in range(10)}
    assert len(store) == 20
    assert set(store) == keys
    assert len(list(store)) == 20
    assert all(key in store for key in keys)
    assert "agent:0" not in store
    assert 5 not in store
    assert store.count() == 20


def test_a_store_is_not_itself_a_way_to_write(store: Store) -> None:
    """There is no item assignment or deletion that would take an entry without a lock or an expectation."""
    assert not isinstance(store, Mapping)
    with pytest.raises(TypeError):
        store["k"] = {}  # type: ignore[index]
    store.create("k", {})
    with pytest.raises(TypeError):
        del store["k"]  # type: ignore[attr-defined]


@pytest.mark.processes
def test_a_reader_sees_each_commit_of_another_process_at_once(store: Store, backend: peers.Backend, crew) -> None:
    """What another process committed is what the next get returns, warm or cold, and the other way round."""
    (other,) = crew(1)
    store.create("k", {"n": 0})
    for n in range(1, 20):
        other.run(peers.call, backend, "patch", "k", {"n": n})
        assert store["k"]["n"] == n
        store.patch("k", {"n": -n})
        assert other.run(peers.session_of, backend, "k")["n"] == -n
    other.run(peers.call, backend, "delete", "k")
    assert store.get("k") is None
    other.run(peers.call, backend, "create", "k", {"n": "new"})
    assert store["k"].data == {"n": "new"}
