"""watch and token: every change is seen, as of its newest state, once the token is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shardstore import DELETE, InvalidQuery, Store, StoreClosed, WatchExpired
from shardstore.watch import Change
from tests.contract.backend import Backend, call, holder
from tests.support.peer import Peers

Seen = list[tuple[str, str, int]]


def seen(store: Store, since: str, prefix: str | None = None) -> Seen:
    """Return key, kind and revision of what changed since a token."""
    return [(change.key, change.kind, change.rev) for change in store.watch(prefix, since=since, timeout=0)]


def test_what_changes_is_seen(store: Store) -> None:
    """Created, changed and deleted, by every verb; nothing else, and nothing that was there before."""
    store.create("kept", {})
    store.create("old", {"n": 1})
    store.create("gone", {})
    token = store.token()
    assert seen(store, token) == []
    store.create("new", {})
    store.patch("old", {"n": 2})
    store.delete("gone")
    store.append("log", [1])
    store.get("kept")
    store.patch("kept", {})
    found = seen(store, token)
    assert sorted(found) == [
        ("gone", "deleted", 2),
        ("log", "created", 1),
        ("new", "created", 1),
        ("old", "changed", 2),
    ]


def test_a_change_is_the_session_as_it_is_now(store: Store) -> None:
    token = store.token()
    made = store.create("k", {})
    (change,) = store.watch(since=token, timeout=0)
    assert change == Change("k", "created", 1, made.version, made.updated_at, change.token)
    store.patch("k", {"a": 1})
    store.delete("k")
    (change,) = store.watch(since=change.token, timeout=0)
    absent = store.update("k", lambda _: DELETE)
    assert change[:5] == ("k", "deleted", 3, change.version, change.updated_at)
    assert change.updated_at is not None and made.updated_at < change.updated_at
    assert not absent.exists


def test_several_commits_are_one_change(store: Store) -> None:
    """As of the newest; a session that was made meanwhile is new, whatever its revision."""
    store.create("old", {"n": 0})
    token = store.token()
    store.create("new", {"n": 0})
    for n in range(1, 20):
        store.patch("old", {"n": n})
        store.patch("new", {"n": n})
    assert sorted(seen(store, token)) == [("new", "created", 20), ("old", "changed", 20)]


def test_made_and_deleted_between_two_looks(store: Store) -> None:
    """Also where nothing is left of it, and where it was made again."""
    store.create("again", {})
    token = store.token()
    store.create("short", {})
    store.delete("short")
    store.create("whole:1", {})
    store.delete_all("whole:")
    store.delete("again")
    store.create("again", {})
    assert sorted(seen(store, token)) == [("again", "created", 1), ("short", "deleted", 2), ("whole:1", "deleted", 0)]
    assert sorted(seen(store, token, "whole:")) == [("whole:1", "deleted", 0)]


def test_made_and_removed_whole_while_it_is_made_anew(store: Store) -> None:
    """It comes as deleted at once, however long whoever makes it anew stands inside."""
    token = store.token()
    watch = store.watch(timeout=0)

    def make(draft: Any) -> None:
        draft["n"] = 1
        assert seen(store, token) == [("whole:1", "deleted", 0)]
        assert [(change.key, change.kind) for change in watch] == [("whole:1", "deleted")]

    store.create("whole:1", {})
    store.delete_all("whole:")
    store.update("whole:1", make)
    assert seen(store, token) == [("whole:1", "created", 1)]
    assert [(change.key, change.kind) for change in watch] == [("whole:1", "created")]
    watch.close()


def test_what_was_removed_whole_is_deleted(store: Store) -> None:
    """By prune, into the archive and for good; a restored one is new, though its version is not."""
    versions = {key: store.create(key, {"n": 1}).version for key in ("archived", "purged", "stays")}
    token = store.token()
    store.prune(older_than=0, prefix="archived")
    store.prune(older_than=0, prefix="purged", purge=True, trust_clock=True)
    found = {change.key: change for change in store.watch(since=token, timeout=0)}
    assert {key: (one.kind, one.rev, one.version) for key, one in found.items()} == {
        "archived": ("deleted", 1, versions["archived"]),
        "purged": ("deleted", 1, versions["purged"]),
    }
    token = store.token()
    store.archive.restore("archived")
    (change,) = store.watch(since=token, timeout=0)
    assert (change.key, change.kind, change.version) == ("archived", "created", versions["archived"])


def test_copies_and_renames(store: Store) -> None:
    store.create("a", {"n": 1})
    store.patch("a", {"n": 2})
    token = store.token()
    store.copy("a", "copy")
    store.rename("a", "b")
    assert sorted(seen(store, token)) == [("a", "deleted", 2), ("b", "created", 2), ("copy", "created", 1)]


def test_housekeeping_is_no_change(store: Store) -> None:
    """Rewriting, sweeping and listing change nothing that a watcher sees."""
    for n in range(5):
        store.create(f"k{n}", {"text": "x" * 1000})
    for n in range(300):
        store.patch("k0", {"text": str(n) * 500})
    store.delete("k1")
    token = store.token()
    with store.watch(timeout=0) as watch:
        store.compact()
        store.erase_history("k2")
        store.list()
        store.compact()
        assert [change.key for change in watch] == []
    assert seen(store, token) == []


def test_prefixes(store: Store) -> None:
    token = store.token()
    for key in ("a:1", "a:2", "b:1", "ä:1"):
        store.create(key, {})
    assert sorted(key for key, *_ in seen(store, token, "a:")) == ["a:1", "a:2"]
    assert [key for key, *_ in seen(store, token, "ä")] == ["ä:1"]
    (change,) = store.watch("b", since=token, timeout=0)
    store.patch("a:1", {"n": 1})
    assert seen(store, change.token)[-1] == ("a:1", "changed", 2), "a token knows no prefix"


def test_each_token_is_good_to_go_on_from(store: Store) -> None:
    """Whoever stops behind any change, and begins again there, misses nothing."""
    token = store.token()
    keys = {f"k{n}" for n in range(5)}
    for key in keys:
        store.create(key, {})
    changes = list(store.watch(since=token, timeout=0))
    assert {change.key for change in changes} == keys
    for stop, change in enumerate(changes):
        rest = {key for key, *_ in seen(store, change.token)}
        assert rest >= {one.key for one in changes[stop + 1 :]}
    assert seen(store, changes[-1].token) == []
    store.patch("k3", {"n": 1})
    assert seen(store, changes[-1].token) == [("k3", "changed", 2)]
    with store.watch(since=token, timeout=0) as watch:
        first = next(watch)
        assert {key for key, *_ in seen(store, watch.token)} >= keys - {first.key}


def test_a_watcher_begins_where_it_is_made(store: Store) -> None:
    """Not where it is first asked: what comes in between is seen."""
    store.create("old", {})
    watch = store.watch(timeout=0)
    store.create("k", {})
    assert [change.key for change in watch] == ["k"]
    store.create("l", {})
    assert [change.key for change in watch] == ["l"], "it ended for want of a change, and goes on"
    watch.close()
    store.create("m", {})
    assert list(watch) == []


def test_waiting_for_a_change(store: Store) -> None:
    """A change ends the wait; without one the iteration ends when the time is up, counted from the last change."""
    watch = store.watch("k", timeout=30.0)
    timer = threading.Timer(0.1, lambda: store.create("k", {}))
    timer.start()
    began = time.monotonic()
    assert next(watch).key == "k"
    assert time.monotonic() - began < 20.0
    timer.join()
    watch.close()
    began = time.monotonic()
    assert list(store.watch(timeout=0.2)) == []
    assert time.monotonic() - began >= 0.2


def test_many_watchers(store: Store) -> None:
    """Each sees everything, in the order in which each session went."""
    watchers = [store.watch("k") for _ in range(50)]
    last: list[dict[str, int]] = [{} for _ in watchers]
    for n in range(10):
        for key in ("k1", "k2", "other"):
            store.update(key, lambda draft, n=n: draft.update(n=n))  # type: ignore[misc]
        for watch, known in zip(watchers[n::3], last[n::3], strict=True):
            for change in watch.ready():
                assert change.rev > known.get(change.key, 0)
                known[change.key] = change.rev
    for watch, known in zip(watchers, last, strict=True):
        known.update({change.key: change.rev for change in watch.ready()})
        assert known == {"k1": 10, "k2": 10}
        watch.close()


def test_a_commit_that_did_not_happen_is_no_change(store: Store) -> None:
    store.create("k", {})
    token = store.token()
    with pytest.raises(ZeroDivisionError):
        store.update("k", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        store.update("new", lambda _: 1 // 0)
    store.patch("k", {})
    assert seen(store, token) == []


def test_watching_inside_an_update(store: Store) -> None:
    """A look waits for nobody, whatever this call is in the middle of."""
    token = store.token()

    def look(draft: Any) -> None:
        draft["n"] = 1
        store.create("inside", {})
        assert seen(store, token) == [("inside", "created", 1)]
        store.token()

    store.update("k", look)
    assert sorted(seen(store, token)) == [("inside", "created", 1), ("k", "created", 1)]


def test_malformed_arguments(store: Store, store_factory: Callable[..., Store]) -> None:
    for arguments in ({"prefix": 1}, {"since": 7}, {"timeout": -1}, {"timeout": "1"}, {"timeout": float("nan")}):
        with pytest.raises(InvalidQuery):
            store.watch(**arguments)
    for token in ("", "x", "a.b", "a.1.c", "memory.1.1", "scan.0", "\udc80", "0" * 16 + ".5.0", store.token() + "x"):
        with pytest.raises(WatchExpired):
            list(store.watch(since=token, timeout=0))
    closed = store_factory()
    watch = closed.watch(timeout=0)
    closed.close()
    with pytest.raises(StoreClosed):
        next(watch)
    with pytest.raises(StoreClosed):
        closed.watch()
    watch.close()


def test_a_token_of_another_store(store: Store, backend: Backend) -> None:
    with backend.another("other").open() as other, pytest.raises(WatchExpired):
        list(other.watch(since=store.token(), timeout=0))


@pytest.mark.processes
def test_other_processes(store: Store, backend: Backend, crew: Callable[[int], Peers]) -> None:
    """What they commit is seen, also while one is inside an update."""
    token = store.token()
    crew(1)[0].run(call, backend, "create", "k", {"n": 1})
    with holder(backend, "held") as peer:
        assert seen(store, token) == [("k", "created", 1)]
        later = store.token()
        assert seen(store, later) == []
        peer.tell("go on")
        assert peer.result() == 1
    assert seen(store, later) == [("held", "created", 1)]
    assert sorted(seen(store, token)) == [("held", "created", 1), ("k", "created", 1)]


@pytest.mark.files
@pytest.mark.parametrize("listed", [False, True])
def test_read_only(store: Store, store_factory: Callable[..., Store], backend: Backend, listed: bool) -> None:
    """Watching writes nothing then, and misses nothing, with an index and without."""
    store.create("old", {})
    if listed:
        store.list()
        store.patch("old", {"n": 0})
    reader = store_factory(read_only=True)
    token = reader.token()
    watch = reader.watch(timeout=0)
    index = backend.root / "index"
    before = sorted(path.name for path in index.iterdir()) if index.exists() else None
    assert seen(reader, token) == []
    assert list(watch) == []
    for n in range(1, 4):
        store.patch("old", {"n": n})
        store.patch("new", {"n": n})
        assert sorted(change.key for change in watch) == ["new", "old"]
    store.delete("new")
    store.create("short", {})
    store.delete("short")
    assert sorted((change.key, change.kind) for change in watch) == [("new", "deleted"), ("short", "deleted")]
    assert {key: kind for key, kind, _ in seen(reader, token)} == {
        "old": "changed", "new": "deleted", "short": "deleted",
    }  # fmt: skip
    assert (sorted(path.name for path in index.iterdir()) if index.exists() else None) == before
