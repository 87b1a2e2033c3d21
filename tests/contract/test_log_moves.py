"""copy, rename, erase_history, archive and follow: the session moves whole, with its log."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from shardstore import Conflict, NestedUpdate, SessionExists, SessionNotFound, Store, StoreClosed
from tests.contract.log_items import fill, message

LONG = 700


def test_copy_takes_fields_and_the_log_up_to_a_place(store: Store) -> None:
    """A branch: items with their ids, times and actors; the source stays; the copy is a session of its own."""
    store.using(actor="a").append("k", ["x", "y", "z"], {"f": 1}, ids=["1", "2", "3"])
    branch = store.using(actor="b").copy("k", "branch", stop=2)
    assert (branch.data, branch.log[:], branch.log.ids(), branch.rev) == ({"f": 1}, ["x", "y"], ["1", "2"], 1)
    assert {entry.actor for entry in branch.log.entries()} == {"a"}
    assert [entry.at for entry in branch.log.entries()] == [entry.at for entry in store["k"].log.entries(0, 2)]
    assert branch.actor == "b"
    assert store.copy("k", "all").log[:] == ["x", "y", "z"]
    assert store.copy("k", "less", stop=-1).log[:] == ["x", "y"]
    assert store["k"].log[:] == ["x", "y", "z"]
    assert branch.version.split(".")[0] != store["k"].version.split(".")[0]


def test_copy_of_a_long_log(store: Store) -> None:
    """Settled items are copied, and both go on by themselves."""
    fill(store, "k", LONG, ids=True)
    store.copy("k", "c", stop=650)
    store.append("c", ["only here"])
    store.append("k", ["only there"])
    assert store["c"].log[:] == [*(message(n, 1_000) for n in range(650)), "only here"]
    assert store["c"].log.find("id600") == 600
    assert len(store["k"].log) == LONG + 1


@pytest.mark.parametrize("verb", ["copy", "rename"])
def test_copy_and_rename_refuse_what_they_must(store: Store, verb: str) -> None:
    """No source, a target that is there, or the same key; nothing changes."""
    move = getattr(store, verb)
    with pytest.raises(SessionNotFound) as caught:
        move("k", "t")
    assert caught.value.key == "k"
    assert not store.exists("t")
    with pytest.raises(SessionNotFound):
        move("k", "k")
    store.append("k", [1])
    store.create("t", {})
    with pytest.raises(SessionExists) as existing:
        move("k", "t")
    assert existing.value.key == "t"
    with pytest.raises(SessionExists):
        move("k", "k")
    for inside, other in (("k", "new"), ("new", "k")):
        with pytest.raises(NestedUpdate):
            store.update(inside, lambda draft, other=other: move("k", "new"))
    assert store["k"].log == [1]


def test_rename_keeps_what_a_session_is(store: Store) -> None:
    """Incarnation, versions, times, history, log; the old key is absent and free."""
    store.append("k", [1], {"a": 1}, ids=["one"])
    store.delete("k")
    store.append("k", ["x"], {"a": 1}, ids=["one"])
    store.patch("k", {"a": 2})
    before, past = store["k"], store.history("k")
    moved = store.rename("k", "t")
    assert (moved.key, moved.version, moved.created_at, moved.updated_at, moved.actor, moved.data, moved.log[:]) == (
        "t", before.version, before.created_at, before.updated_at, before.actor, {"a": 2}, ["x"],
    )  # fmt: skip
    assert [(s.key, s.version, s.data, len(s.log)) for s in store.history("t")] == [
        ("t", s.version, s.data, len(s.log)) for s in past
    ]
    assert store.get("k") is None
    assert store.create("k", {}).rev == 1
    assert store.patch("t", {"a": 3}, expect=before.version).rev == 3
    assert sorted(store) == ["k", "t"]
    assert [info.key for info in store.list(order_by="key")] == ["k", "t"]


def test_rename_moves_a_long_log(store: Store) -> None:
    """And it can be moved again, and back, and appended to."""
    fill(store, "k", LONG, ids=True)
    for source, target in (("k", "t"), ("t", "u"), ("u", "k")):
        assert store.rename(source, target).log[LONG - 1] == message(LONG - 1, 1_000)
        store.append(target, [source])
        fill(store, target, 400)
    assert store["k"].log[:LONG] == [message(n, 1_000) for n in range(LONG)]
    assert len(store["k"].log) == LONG + 3 * 401


def test_rename_checks_expect(store: Store) -> None:
    """A stale version moves nothing."""
    seen = store.append("k", [1])
    store.append("k", [2])
    with pytest.raises(Conflict):
        store.rename("k", "t", expect=seen)
    assert (store.exists("k"), store.exists("t")) == (True, False)
    assert store.rename("k", "t", expect=store["k"]).log == [1, 2]


def test_renames_in_both_directions_do_not_wait_for_each_other(store: Store) -> None:
    """Two threads swap two keys again and again: each call ends, in a move or in an error that names the key."""
    store.create("a", {"n": 1})
    done: list[str] = []

    def swap(source: str, target: str) -> None:
        for _ in range(40):
            try:
                store.using(durability="relaxed", lock_timeout=20.0).rename(source, target)
            except (SessionNotFound, SessionExists):
                continue
        done.append(source)

    threads = [threading.Thread(target=swap, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == ["a", "b"]
    assert store.exists("a") != store.exists("b")


def test_erase_history_leaves_the_present_alone(store: Store) -> None:
    """Revisions, dropped items and archived copies go; the session, its version and its log stay."""
    store.append("k", ["old secret"], {"s": "secret"})
    store.prune(older_than=0)
    fill(store, "k", LONG, ids=True)
    with store.edit("k") as draft:
        draft["s"] = "new"
        del draft.log[:10]
        draft.log[0] = "redacted"
    before = store["k"]
    report = store.erase_history("k")
    after = store["k"]
    assert (after.version, after.data, len(after.log), after.log.dropped) == (before.version, {"s": "new"}, 690, 10)
    assert (after.log[0], after.log[1], after.log.find("id10")) == ("redacted", message(11, 1_000), 0)
    assert len(store.history("k")) == 1
    assert store.archive.list() == []
    assert report.key == "k"
    with pytest.raises(SessionNotFound):
        store.erase_history("absent")


def test_archive_and_restore_move_the_log(store: Store) -> None:
    """What comes back is the session with its whole log, and it goes on."""
    fill(store, "k", LONG, ids=True)
    before = store["k"]
    assert store.prune(older_than=0).ok
    assert store.get("k") is None
    back = store.archive.restore("k")
    assert (back.version, back.log[:]) == (before.version, [message(n, 1_000) for n in range(LONG)])
    fill(store, "k", 400)
    assert len(store["k"].log) == LONG + 400
    store.prune(older_than=0, purge=True)
    assert store.get("k") is None


@pytest.mark.parametrize("purge", [False, True])
def test_a_dry_run_of_prune_counts_the_log_as_the_run_does(store: Store, purge: bool) -> None:
    """A long log stands in a file of its own, which goes as well."""
    fill(store, "chat", LONG)
    plan = store.prune(older_than=0, purge=purge, dry_run=True)
    done = store.prune(older_than=0, purge=purge, trust_clock=True)
    assert [(one.key, one.size) for one in plan.actions] == [(one.key, one.size) for one in done.actions]
    assert plan.bytes_freed == done.bytes_freed


def taken(items: Iterator[object], count: int) -> list[object]:
    """Return so many items of a follower."""
    return [next(items) for _ in range(count)]


def test_a_follower_loses_nothing_between_next_and_ready(store: Store) -> None:
    """What one look found and was not returned yet comes before what the next one finds."""
    store.append("k", ["a", "b", "c"])
    follower = store.follow("k", -3)
    assert next(follower) == "a"
    store.append("k", ["d"])
    assert follower.ready() == ["b", "c", "d"]
    assert follower.ready() == []
    follower.close()


def test_a_follower_waits_for_the_first_item_wanted(store: Store) -> None:
    """Its number may lie beyond the end; once the log was that long, a cut takes the follower to the new end."""
    store.append("k", list(range(3)))
    follower = store.follow("k", 5)
    assert follower.ready() == []
    store.append("k", [3, 4])
    assert follower.ready() == []
    store.append("k", [5, 6])
    assert follower.ready() == [5, 6]
    with store.edit("k") as draft:
        del draft.log[2:]
    assert follower.ready() == []
    store.append("k", ["again"])
    assert follower.ready() == ["again"]
    follower.close()
    early = store.follow("late", 1)
    store.append("late", ["a", "b"])
    assert early.ready() == ["b"]
    early.close()


def test_follow_yields_what_comes(store: Store) -> None:
    """From now on, from the newest few, or from a position; across drops, deletes and the settle limit."""
    store.append("k", [0, 1, 2])
    now, newest, third, early = store.follow("k"), store.follow("k", -2), store.follow("k", 2), store.follow("late")
    writer = threading.Thread(target=lambda: (time.sleep(0.05), store.append("k", [3, 4])))
    writer.start()
    assert taken(now, 2) == [3, 4]
    writer.join()
    assert taken(newest, 4) == [1, 2, 3, 4]
    assert taken(third, 3) == [2, 3, 4]
    store.append("late", ["a"])
    assert next(early) == "a"
    with store.edit("k") as draft:
        del draft.log[:4]
    store.append("k", [5])
    assert next(now) == 5
    store.delete("k")
    store.append("k", ["new"])
    assert next(now) == "new"
    fill(store, "k", LONG)
    assert taken(now, LONG) == [message(n, 1_000) for n in range(LONG)]
    now.close()
    assert list(now) == []
    view = store.using()
    newest = view.follow("k", -1)
    view.close()
    with pytest.raises(StoreClosed):
        next(newest)
