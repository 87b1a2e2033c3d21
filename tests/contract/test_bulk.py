"""The bulk verbs: many sessions in one call, each a session of its own, and the same call finishes what was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from shardstore import (
    CorruptShard,
    InvalidEntry,
    InvalidKey,
    InvalidQuery,
    LockTimeout,
    NestedUpdate,
    SessionExists,
    Store,
)
from tests.contract.backend import Backend, Elsewhere, holder
from tests.support import disk

KEYS = [f"agent:{n:02d}" for n in range(30)]


@pytest.fixture
def filled(store: Store) -> Store:
    """Return a store of thirty sessions of one agent and one of another."""
    store.create_many({key: {"n": n, "even": n % 2 == 0} for n, key in enumerate(KEYS)})
    store.create("other", {"n": -1})
    return store


@pytest.mark.parametrize("durability", ["commit", "relaxed"])
def test_create_many_makes_sessions_as_create_does(store: Store, elsewhere: Elsewhere, durability: str) -> None:
    """Each session is at revision 1 by the store's actor, from pairs, triples or a mapping; others read them at once."""
    bulk = store.using(actor="importer", durability=durability)
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert bulk.create_many([("a", {"n": 1}), ("b", {}, at), ["c", {"x": None}, None]]) == 3
    assert bulk.create_many({"d": {"n": 4}}) == 1
    assert bulk.create_many([]) == 0
    assert [(elsewhere[key].rev, elsewhere[key].actor) for key in "abcd"] == [(1, "importer")] * 4
    assert [elsewhere[key].data for key in "abcd"] == [{"n": 1}, {}, {"x": None}, {"n": 4}]
    assert elsewhere["b"].updated_at == at
    assert {info.key for info in store.list()} == set("abcd")
    assert store.patch("a", {"n": 2}).rev == 2


def test_create_many_raises_or_skips_what_is_there(store: Store) -> None:
    """By default the first session in the way stops it, and what was made before stays; skip leaves it alone."""
    there = store.create("b", {"old": 1})
    rows = [("a", {"n": 1}), ("b", {"n": 2}), ("c", {"n": 3})]
    with pytest.raises(SessionExists) as caught:
        store.create_many(rows)
    assert caught.value.key == "b"
    assert sorted(store) == ["a", "b"]
    assert store.create_many(rows, on_exists="skip") == 1
    assert store["b"].version == there.version
    assert store.create_many(rows, on_exists="skip") == 0
    assert store.create_many([("d", {}), ("d", {"n": 1})], on_exists="skip") == 1
    assert store["d"].data == {}


def test_create_many_makes_a_deleted_session_again(store: Store, elsewhere: Elsewhere) -> None:
    """A session that was deleted is made again, as create does, at revision 1."""
    old = store.create("a", {"n": 1}).version
    store.delete("a")
    assert store.create_many([("a", {"n": 2}), ("b", {"n": 3})]) == 2
    assert (elsewhere["a"].rev, elsewhere["a"].data) == (1, {"n": 2})
    assert elsewhere["a"].version != old


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (("k", {"x": {1, 2}}), InvalidEntry),
        (("k", [1]), InvalidEntry),
        (("", {}), InvalidKey),
        (("k", {}, datetime(2026, 1, 1)), InvalidQuery),  # noqa: DTZ001  # that is what is refused
        (("k",), TypeError),
        ("kv", TypeError),
    ],
    ids=str,
)
def test_create_many_stops_at_what_is_malformed(store: Store, bad: object, error: type[Exception]) -> None:
    """What came before is made, the malformed one and what follows is not."""
    with pytest.raises(error):
        store.create_many([("a", {}), bad, ("z", {})])
    assert sorted(store) == ["a"]


def test_create_many_asks_for_pairs_while_nothing_is_locked(store: Store) -> None:
    """A generator of pairs may use the store, the sessions just made too; what it raises leaves what was made."""

    def pairs() -> Iterator[tuple[str, dict[str, int]]]:
        for n in range(3):
            yield f"k{n}", {"n": n}
            store.patch(f"k{n}", {"seen": 1})
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        store.create_many(pairs())
    assert [store[f"k{n}"].data for n in range(3)] == [{"n": n, "seen": 1} for n in range(3)]


def test_bulk_verbs_inside_an_update(store: Store) -> None:
    """Inside a session's update the others can be made and deleted; that one is NestedUpdate, not a wait for ever."""
    store.create_many({"a": {}, "b:1": {}})
    with store.edit("a") as draft:
        assert store.create_many([("c", {})]) == 1
        with pytest.raises(NestedUpdate):
            store.create_many([("a", {})], on_exists="skip")
        assert store.delete_all("b:") == 1
        draft["n"] = 1
    assert sorted(store) == ["a", "c"]


def test_delete_all_deletes_a_prefix_and_nothing_else(filled: Store, elsewhere: Elsewhere) -> None:
    """It returns how many there were; the rest stays; deleted sessions can be made again, as new incarnations."""
    old = filled["agent:10"].version
    assert filled.delete_all("agent:1") == 10
    assert sorted(filled) == sorted([*(key for key in KEYS if not key.startswith("agent:1")), "other"])
    assert elsewhere.get("agent:10") is None
    assert filled.delete_all("agent:1") == 0
    assert filled.create("agent:10", {"n": 10}).rev == 1
    assert filled["agent:10"].version != old


def test_delete_all_refuses_an_empty_prefix(filled: Store) -> None:
    """Deleting everything is said in another way."""
    with pytest.raises(ValueError, match="empty prefix"):
        filled.delete_all("")
    with pytest.raises(TypeError):
        filled.delete_all(None)  # type: ignore[arg-type]
    assert len(filled) == 31


@pytest.mark.processes
def test_a_busy_session_stops_the_bulk_verbs_and_a_repeat_goes_on(filled: Store, backend: Backend) -> None:
    """They wait for a session as single verbs do; what was done before the timeout stays done."""
    impatient = filled.using(lock_timeout=0.1)
    with holder(backend, "agent:05"):
        with pytest.raises(LockTimeout):
            impatient.delete_all("agent:")
        assert "agent:05" in filled
        assert "agent:04" not in filled
        with pytest.raises(LockTimeout):
            impatient.create_many([("agent:04", {}), ("agent:05", {})], on_exists="skip")
        assert "agent:04" in filled
    assert filled.delete_all("agent:") == 26


def test_get_many_answers_in_the_order_asked(filled: Store) -> None:
    """What is there, once each, in the order asked, equal to what get returns; what is absent is left out."""
    filled.delete("agent:03")
    asked = ["agent:20", "nobody", "agent:03", "other", "agent:01", "agent:20"]
    found = filled.get_many(asked)
    assert list(found) == ["agent:20", "other", "agent:01"]
    assert all(found[key] == filled[key] and found[key].data == filled[key].data for key in found)
    assert filled.get_many(iter(["other"]))["other"]["n"] == -1
    assert filled.get_many([]) == {}


def test_get_many_refuses_what_is_no_list_of_keys(store: Store) -> None:
    """One text is a mistake, and so is what is no key."""
    with pytest.raises(TypeError):
        store.get_many("agent")
    with pytest.raises(InvalidKey):
        store.get_many(["a", ""])
    with pytest.raises(ValueError, match="on_damage"):
        store.get_many(["a"], on_damage="ignore")  # type: ignore[arg-type]


def test_get_many_sees_what_this_process_and_others_wrote(filled: Store, elsewhere: Elsewhere) -> None:
    """Open sessions and cold ones alike are read as they are now."""
    filled.patch("agent:01", {"n": 100})
    if elsewhere._peer is not None:
        elsewhere._run(patch_elsewhere, elsewhere._backend, "agent:02")
    found = filled.get_many(KEYS[:3])
    assert found["agent:01"]["n"] == 100
    assert elsewhere._peer is None or found["agent:02"]["n"] == 200


def patch_elsewhere(backend: Backend, key: str) -> None:
    """In a peer: change a session."""
    with backend.open() as store:
        store.patch(key, {"n": 200})


def test_sessions_yields_what_list_names(filled: Store) -> None:
    """Whole sessions, each once, narrowed as list is."""
    assert {s.key for s in filled.sessions()} == {*KEYS, "other"}
    assert {s.key: s.data for s in filled.sessions("agent:0")} == {key: filled[key].data for key in KEYS[:10]}
    assert {s["n"] for s in filled.sessions("agent:", {"n": (">=", 25), "even": True})} == {26, 28}
    with pytest.raises(InvalidQuery):
        filled.sessions(where={"n": ("~", 1)})  # type: ignore[dict-item]


def test_sessions_leaves_out_what_does_not_match_any_more(filled: Store) -> None:
    """A session that changed or went between the list and its own turn is judged as it is by then."""
    found = filled.sessions(where={"even": True})
    first = next(found)
    for key in KEYS:
        if key != first.key:
            filled.patch(key, {"even": False})
    assert list(found) == []


@pytest.mark.files
@pytest.mark.damages("a shard is overwritten on purpose")
def test_damaged_sessions_are_raised_or_skipped(filled: Store) -> None:
    """A damaged session is never silently missing: it is an error, unless leaving it out was asked for."""
    path = disk.shard(filled.root, "agent:07")
    path.write_bytes(path.read_bytes().replace(b'"n":7', b'"n":8'))
    with pytest.raises(CorruptShard):
        filled.get_many(KEYS)
    assert list(filled.get_many(KEYS, on_damage="skip")) == [key for key in KEYS if key != "agent:07"]
    with pytest.raises(CorruptShard):
        list(filled.sessions("agent:"))
    assert len(list(filled.sessions(on_damage="skip"))) == 30
    assert len(list(filled.sessions("other"))) == 1


@pytest.mark.files
def test_get_many_opens_nothing_for_long(filled: Store) -> None:
    """Reading many sessions leaves those open that were."""
    filled.close()
    with Store(filled.root) as store:
        store.get("agent:00")
        store.get_many(KEYS)
        assert list(store.engine.pool._shards) == ["agent:00"]


def test_restore_many_brings_back_what_prune_took(filled: Store) -> None:
    """By prefix and by time; a session that was made again meanwhile stays, and is reported."""
    before = {key: filled[key].version for key in KEYS}
    filled.prune(prefix="agent:0", older_than=0)
    between = datetime.now(UTC)
    filled.prune(prefix="agent:1", older_than=0)
    filled.create("agent:12", {"new": 1})
    report = filled.archive.restore_many("agent:1")
    assert report.ok
    assert sorted(report.restored) == [key for key in KEYS[10:20] if key != "agent:12"]
    assert [one.key for one in report.skipped] == ["agent:12"]
    assert filled["agent:12"].data == {"new": 1}
    assert filled.archive.restore_many(since=between + timedelta(days=1)).restored == ()
    assert filled.archive.restore_many(since=between).restored == ()
    assert sorted(filled.archive.restore_many().restored) == KEYS[:10]
    assert {key: filled[key].version for key in KEYS if key != "agent:12"} == {
        key: version for key, version in before.items() if key != "agent:12"
    }
    with pytest.raises(InvalidQuery):
        filled.archive.restore_many(since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_restore_many_restores_the_newest_of_each(store: Store) -> None:
    """Of a session that was archived twice the last one comes back."""
    for n in (1, 2):
        store.create("k", {"n": n})
        store.prune(prefix="k", older_than=0)
    assert store.archive.restore_many("k").restored == ("k",)
    assert store["k"]["n"] == 2
    assert [one.key for one in store.archive.restore_many("k").skipped] == ["k"]


@pytest.mark.parametrize("verb", ["create_many", "delete_all", "restore_many"])
@pytest.mark.files
def test_read_only_stores_refuse_the_bulk_verbs(filled: Store, verb: str) -> None:
    """Nothing is written by a store that was opened to read."""
    with Store(filled.root, read_only=True) as store:
        owner = store.archive if verb == "restore_many" else store
        with pytest.raises(OSError, match="read_only"):
            getattr(owner, verb)({"new": {}} if verb == "create_many" else "agent:")
        assert len(store.get_many(KEYS)) == len(list(store.sessions("agent:"))) == 30
