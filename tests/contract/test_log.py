"""append, log and the snapshot: what was added stands there, in order, beside the fields of the same commit."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from shardstore import (
    DELETE,
    Conflict,
    InvalidEntry,
    InvalidKey,
    LogItem,
    LogReplaced,
    NestedUpdate,
    SessionNotFound,
    Store,
)
from tests.contract.log_items import fill, message

LONG = 700  # items of 1 KB: some are settled, some are not


def test_append_adds_items_and_fields_in_one_commit(store: Store) -> None:
    """One revision holds both, and the session that comes back shows them."""
    session = store.append("k", [{"role": "user"}, "text", None, 3.5], {"status": "running"})
    assert (session.rev, session.log[:], session["status"]) == (1, [{"role": "user"}, "text", None, 3.5], "running")
    again = store.append("k", [[1]], {"status": "done"})
    assert (again.rev, again.log[-1], len(again.log), store["k"].data) == (2, [1], 5, {"status": "done"})
    assert len(session.log) == 4, "a snapshot stays what it was"


def test_appends_are_read_back_across_the_settle_limit(store: Store) -> None:
    """However many there are, items keep their order, and every kind of slice gives what a list gives."""
    fill(store, "k", LONG)
    log, model = store["k"].log, [message(n, 1_000) for n in range(LONG)]
    assert len(log) == LONG
    assert log[:] == model
    assert list(log) == model
    assert list(reversed(log)) == model[::-1]
    for cut in (slice(-20, None), slice(0, 3), slice(250, 270), slice(-1, None), slice(None, None, -100), slice(5, 5)):
        assert log[cut] == model[cut]
    assert [log[0], log[-1], log[300]] == [model[0], model[-1], model[300]]
    with pytest.raises(IndexError):
        log[LONG]
    assert store.log("k", -2) == model[-2:]
    assert store.log("k", 10, 12) == model[10:12]
    assert log.index(model[3]) == 3
    assert model[699] in log


def test_a_log_is_a_sequence_without_a_hash(store: Store) -> None:
    """It is equal to a list of the same items; `not` and `len` work as for one."""
    store.create("k", {})
    assert not store["k"].log
    assert store["k"].log == []
    session = store.append("k", [1, 2])
    assert session.log == [1, 2]
    assert session.log != [1]
    assert session.log == store["k"].log
    assert repr(session.log) == "Log('k', items=2)"
    with pytest.raises(TypeError):
        hash(session.log)


def test_entries_say_who_added_what_when(store: Store) -> None:
    """Index, id, time, actor and value of each item, settled or not."""
    store.using(actor="alice").append("k", ["a"], ids=["one"])
    session = store.using(actor="bob").append("k", ["b", "c"])
    assert [(e.index, e.id, e.actor, e.value) for e in session.log.entries()] == [
        (0, "one", "alice", "a"),
        (1, None, "bob", "b"),
        (2, None, "bob", "c"),
    ]
    assert isinstance(session.log.entries(-1)[0], LogItem)
    assert session.log.entries()[1].at == session.updated_at
    fill(store, "k", LONG)
    assert [(e.index, e.id, e.actor) for e in store["k"].log.entries(0, 2)] == [(0, "one", "alice"), (1, None, "bob")]


def test_the_log_of_nobody(store: Store) -> None:
    """Reading needs a session; append makes one, unless it may not."""
    with pytest.raises(SessionNotFound):
        store.log("k")
    with pytest.raises(SessionNotFound):
        store.append("k", [1], create=False)
    assert not store.exists("k")
    with pytest.raises(InvalidKey):
        store.append("", [1])


@pytest.mark.parametrize("items", [{"role": "user"}, "text", b"bytes", bytearray(b"x")])
def test_items_that_are_one_item_are_refused(store: Store, items: Any) -> None:
    """A mapping or a text in place of the list is a mistake, not as many items as it has parts."""
    with pytest.raises(TypeError, match=r"\[item\]"):
        store.append("k", items)
    assert not store.exists("k")


def test_an_item_that_json_cannot_hold_is_named(store: Store) -> None:
    """The error names the item, and nothing was written."""
    with pytest.raises(InvalidEntry, match=r"items\[2\]\['a'\]\[1\]") as caught:
        store.append("k", [1, 2, {"a": [0, float("nan")]}])
    assert caught.value.path == "items[2]['a'][1]"
    with pytest.raises(InvalidEntry, match=r"items\[0\].*surrogate"):
        store.append("k", ["\ud800"])
    assert not store.exists("k")


def test_one_append_has_a_bound(store: Store) -> None:
    """More than 64 MiB in one call is refused with the item that went past it."""
    piece = "x" * (16 << 20)
    with pytest.raises(InvalidEntry) as caught:
        store.append("k", [piece, piece, piece, piece])
    assert caught.value.path == "items[3]"


def test_an_empty_append_changes_nothing_more_than_its_patch(store: Store) -> None:
    """No items: the session is made, and a second call writes nothing."""
    assert store.append("k", []).rev == 1
    assert store.append("k", []).rev == 1
    assert store.append("k", [], {"a": 1}).rev == 2


def test_patch_may_be_a_function_that_sees_the_items(store: Store) -> None:
    """It runs after the items were added, and may return a mapping of all fields."""
    store.create("k", {"old": 1})

    def count(draft: Any) -> None:
        draft["items"] = len(draft.log)
        assert draft.log[-1] == "b"

    assert store.append("k", ["a", "b"], count).data == {"old": 1, "items": 2}
    assert store.append("k", ["c"], lambda draft: {"all": len(draft.log)}).data == {"all": 3}


def test_patch_cannot_delete(store: Store) -> None:
    """DELETE and draft.delete() are TypeErrors; nothing was added."""
    store.create("k", {})
    with pytest.raises(TypeError):
        store.append("k", [1], lambda draft: DELETE)
    with pytest.raises(TypeError):
        store.append("k", [1], lambda draft: draft.delete())
    with pytest.raises(TypeError):
        store.append("k", [1], 5)  # type: ignore[arg-type]
    assert store["k"].log == []


def test_expect_is_checked_inside_the_lock(store: Store) -> None:
    """A stale version adds nothing."""
    seen = store.append("k", [1])
    store.append("k", [2])
    with pytest.raises(Conflict):
        store.append("k", [3], expect=seen)
    assert store["k"].log == [1, 2]


def test_a_retry_with_ids_does_nothing(store: Store) -> None:
    """Every id is known: patch is not run, expect is not looked at, the present session comes back."""
    first = store.append("k", ["a", "b"], {"n": 1}, ids=["1", "2"])
    later = store.append("k", ["c"], {"n": 2})
    again = store.append("k", ["a", "b"], lambda draft: 1 / 0, ids=["1", "2"], expect=first)
    assert (again.version, again.log[:], again["n"]) == (later.version, ["a", "b", "c"], 2)


def test_ids_that_are_new_are_added_beside_known_ones(store: Store) -> None:
    """Only the new items are added, those without an id always; one id twice in a call counts once."""
    store.append("k", ["a"], ids=["1"])
    session = store.append("k", ["a", "b", "x", "b"], {"n": 1}, ids=["1", "2", None, "2"])
    assert (session.log[:], session.log.ids(), session["n"]) == (["a", "b", "x"], ["1", "2", None], 1)
    assert (session.log.find("2"), session.log.find("3")) == (1, None)
    with pytest.raises(Conflict):
        store.append("k", ["a", "new"], ids=["1", "3"], expect="nonsense")


@pytest.mark.parametrize("ids", [["1"], ["1", 2], ["1", "\ud800"], ["1", "x" * 5_000]])
def test_malformed_ids_are_refused(store: Store, ids: Any) -> None:
    """One for each item, text of at most 4,096 bytes."""
    with pytest.raises(InvalidEntry, match="ids"):
        store.append("k", ["a", "b"], ids=ids)
    with pytest.raises(TypeError):
        store.append("k", ["a", "b"], ids="ab")
    assert not store.exists("k")


def test_ids_are_known_as_long_as_their_item_stands(store: Store) -> None:
    """Settled or pending, replaced or not; a cut item's id is free again."""
    fill(store, "k", LONG, ids=True)
    assert [store["k"].log.find(f"id{n}") for n in (0, 5, 350, 699)] == [0, 5, 350, 699]
    assert len(store.append("k", ["again"], ids=["id3"]).log) == LONG
    with store.edit("k") as draft:
        draft.log[5] = "new"
        assert draft.log.append("x", id="id5") is False
        del draft.log[:3]
        del draft.log[690:]
        assert draft.log.append("first again", id="id0") is True
        assert draft.log.append("last again", id="id699") is True
    log = store["k"].log
    assert (log.find("id0"), log.find("id1"), log.find("id5"), log.find("id699")) == (690, None, 2, 691)
    assert (log[2], log.ids(2, 3), log.dropped) == ("new", ["id5"], 3)


def test_a_session_keeps_its_items_until_their_file_is_replaced(store: Store) -> None:
    """A snapshot reads what it was; once its file went, it says so, and still knows its length."""
    fill(store, "k", LONG)
    before = store["k"]
    fill(store, "k", LONG)
    assert before.log[:] == [message(n, 1_000) for n in range(LONG)]
    with store.edit("k") as draft:
        del draft.log[10:]
    fill(store, "k", LONG)
    with pytest.raises(LogReplaced, match="get the session again"):
        before.log[:3]
    assert len(before.log) == LONG
    assert store["k"].log[9:12] == [message(9, 1_000), message(0, 1_000), message(1, 1_000)]


def test_a_delete_takes_the_log_along(store: Store) -> None:
    """A session made again begins with an empty log."""
    fill(store, "k", LONG)
    store.delete("k")
    assert store.create("k", {}).log == []
    assert store.append("k", [1]).log[:] == [1]


def test_replacing_the_fields_leaves_the_log(store: Store) -> None:
    """replace, revert and a mutator's mapping are about the fields."""
    store.append("k", [1], {"a": 1})
    store.replace("k", {"b": 2})
    store.revert("k", 1)
    assert store.update("k", lambda draft: {"c": 3}).log == [1]


def test_history_shows_the_lengths(store: Store) -> None:
    """Each revision that is kept knows how long the log was."""
    store.create("k", {})
    store.append("k", [1, 2])
    store.patch("k", {"a": 1})
    with store.edit("k") as draft:
        draft.log.pop()
    assert [len(session.log) for session in store.history("k")] == [0, 2, 2, 1]


def test_nothing_is_nested(store: Store) -> None:
    """An append inside a mutator of the same session is refused."""
    with pytest.raises(NestedUpdate):
        store.update("k", lambda draft: store.append("k", [1]))


def test_a_session_can_be_pickled(store: Store) -> None:
    """Its fields and pending items come along; settled ones where the engine can be found again."""
    session = store.append("k", [1, 2], {"a": 1}, ids=["x", None])
    copy = pickle.loads(pickle.dumps(session))
    assert (copy.data, copy.log[:], copy.log.find("x")) == (session.data, [1, 2], 0)


def test_a_no_op_on_the_log_writes_nothing(store: Store) -> None:
    """An item that gets the value it has, an append that is undone: no revision."""
    store.append("k", [1, {"a": 2}])

    def idle(draft: Any) -> None:
        draft.log[1] = {"a": 2}
        draft.log.append(3)
        draft.log.pop()

    assert store.update("k", idle).rev == 1


def test_a_list_shows_how_long_each_log_is_and_orders_by_it(store: Store) -> None:
    """In the index, after the list has refreshed it, as for a session that changed since."""
    store.append("three", [1, 2, 3])
    store.append("one", [1])
    store.create("none", {})
    assert {info.key: info.log_length for info in store.list()} == {"none": 0, "one": 1, "three": 3}
    store.append("one", [2, 3, 4])
    assert [info.key for info in store.list(order_by="-log_length")] == ["one", "three", "none"]
    assert [info.log_length for info in store.list(order_by="log_length")] == [0, 3, 4]


LENGTHS: list[tuple[Any, list[str]]] = [
    (3, ["three"]),
    (3.0, ["three"]),
    (("==", 0), ["none"]),
    (("!=", 1), ["none", "three"]),
    ((">", 0), ["one", "three"]),
    ((">=", 0.5), ["one", "three"]),
    (("<", 2), ["none", "one"]),
    (("<=", 2**64 - 1), ["none", "one", "three"]),
    (("in", [0, 3, "1", 2**64 - 1]), ["none", "three"]),
    (("in", []), []),
    (("exists", True), ["none", "one", "three"]),
    (("exists", False), []),
    ("3", []),
    (True, []),
    (("!=", "3"), ["none", "one", "three"]),
    (("<", "3"), []),
]


def test_where_knows_how_long_a_log_is(store: Store) -> None:
    """Whether or not the index knows the newest commit; a field of that name does not count."""
    store.append("three", [1, 2], {"kind": "long"})
    store.append("one", [1], {"log_length": 7})
    store.create("none", {})
    store.list()
    store.append("three", [3])
    for wanted, keys in LENGTHS * 2:
        where = {"log_length": wanted}
        assert [info.key for info in store.list(where=where, order_by="key")] == keys, wanted
        by_length = [info.key for info in store.list(where=where, order_by="-log_length")]
        assert by_length == [key for key in ("three", "one", "none") if key in keys], wanted
        assert store.count(where=where) == len(keys), wanted
        both = [info.key for info in store.list(where={**where, "kind": "long"})]
        assert both == [key for key in keys if key == "three"], wanted
    actions = store.prune(where={"log_length": (">", 1)}, dry_run=True).actions
    assert [action.key for action in actions] == ["three"]


def test_the_size_of_a_store_counts_its_logs(store: Store) -> None:
    """Items are no history: they are live, in the journal and in the log's file."""
    store.create("k", {"n": 1})
    before = store.stats().bytes_live
    fill(store, "k", LONG)
    stats = store.stats()
    assert LONG * 1_000 < stats.bytes_live - before < LONG * 1_200
    assert stats.bytes_total >= stats.bytes_live
