"""Watching by the change file: what it costs, and what becomes of it when the index does."""

from __future__ import annotations

import base64
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shardstore._files.watch.changes as watching
from shardstore import DamagedSessions, Store, StoreNotFound, WatchExpired, _wake
from shardstore._files.index import refresh
from shardstore._files.watch import scan
from shardstore.watch import Watch
from tests.index.actors import change_file
from tests.scenarios import watching as scenarios
from tests.support import actions, disk

Patch = pytest.MonkeyPatch
SCENARIOS = [
    scenarios.a_commit_that_was_only_marked_is_seen_later,
    scenarios.a_session_that_changes_again_is_seen_again,
    scenarios.a_session_made_and_deleted_between_two_looks_is_seen,
    scenarios.a_session_removed_whole_is_seen_while_it_is_made_anew,
    scenarios.an_index_made_anew_ends_a_watch,
    scenarios.an_interrupted_look_loses_nothing,
    scenarios.nothing_is_missed_under_kills,
    scenarios.bulk_verbs_that_are_killed_are_finished_by_the_same_call,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_nothing_is_missed(root: Path, scenario: Callable[[Path], None]) -> None:
    scenario(root)


@pytest.mark.lazy
def test_a_change_file_that_goes_on_is_followed(root: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(refresh, "BYTES_MAX", 0)
    scenarios.a_change_file_that_goes_on_is_followed(root)


def found(watch: Watch) -> list[tuple[str, str]]:
    return sorted((change.key, change.kind) for change in watch.ready())


# What it costs


@pytest.fixture
def calls(monkeypatch: Patch) -> Iterator[Counter[str]]:
    """Count the calls of the system that a watcher makes through the module os."""
    counted: Counter[str] = Counter()

    def counting(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("access", "close", "fstat", "listdir", "lseek", "lstat", "open", "pread", "scandir", "stat", "write"):
        counting(name)
    yield counted
    monkeypatch.undo()


def test_an_idle_look_is_one_call_of_the_system(store: Store, calls: Counter[str]) -> None:
    """Whatever changed before."""
    for n in range(100):
        store.create(f"k{n}", {})
    with store.watch() as watch:
        store.patch("k1", {"n": 1})
        assert found(watch) == [("k1", "changed")]
        calls.clear()
        for _ in range(10):
            assert watch.ready() == []
        assert calls == {"lstat": 10}


def test_an_update_pays_one_more_line_for_each_look(store: Store, calls: Counter[str]) -> None:
    """And nothing where no watcher looked in between."""
    store.list()
    with store.watch() as watch:
        store.patch("k", {"n": 0})
        found(watch)
        writes = []
        for n in range(1, 4):
            calls.clear()
            store.patch("k", {"n": n})
            writes.append(calls["write"])
        assert writes == [1, 0, 0], "its line in the change file; records are written by pwrite"


def test_watchers_share_their_marks(store: Store) -> None:
    """A second one that reads the same lines finds the mark of the first behind them."""
    watchers = [store.watch() for _ in range(20)]
    store.patch("k", {"n": 0})
    size = change_file(Path(store.location)).stat().st_size
    for watch in watchers:
        assert found(watch) == [("k", "created")]
        watch.close()
    assert change_file(Path(store.location)).stat().st_size == size + len("12345678 +\n")


@pytest.mark.lazy
def test_the_change_file_does_not_grow_for_ever(root: Path, monkeypatch: Patch) -> None:
    """Where nobody lists, a watcher has the index refreshed; a list reads no more than a bounded part of the file."""
    monkeypatch.setattr("shardstore._files.index.lister.BEHIND_BYTES_MAX", 1_000)
    monkeypatch.setattr(watching, "BEHIND_BYTES_MAX", 1_000)
    monkeypatch.setattr(refresh, "BYTES_MAX", 3_000)
    files = set()
    with Store(root, durability="relaxed") as store, store.watch() as watch:
        for n in range(200):
            store.patch("k", {"n": n})
            assert found(watch) == [("k", "created" if n == 0 else "changed")]
            file = change_file(root)
            files.add(file.name)
            assert file.stat().st_size < 5_000
    assert len(files) > 3


# Waking


def test_watchfiles_wakes_a_watcher(store: Store) -> None:
    """Long before it would look by itself."""
    pytest.importorskip("watchfiles")
    with store.watch(timeout=30.0) as watch:
        waker = watch.rests.listen()
        assert waker.longest == _wake.SELDOM_S
        while watch.rests.pause() < _wake.SELDOM_S:
            pass
        waker.wait(0.2)
        timer = threading.Timer(0.1, lambda: store.patch("k", {"n": 1}))
        timer.start()
        assert waker.wait(20.0)
        timer.join()
        assert next(watch).key == "k"
    assert not _wake._notifiers


def test_without_watchfiles_a_watcher_polls(store: Store, monkeypatch: Patch) -> None:
    monkeypatch.setattr(_wake, "_start", lambda _directory: None)
    with store.watch(timeout=30.0) as watch:
        assert watch.rests.listen().longest == _wake.OFTEN_S
        timer = threading.Timer(0.1, lambda: store.patch("k", {"n": 1}))
        timer.start()
        assert next(watch).key == "k"
        timer.join()


def test_a_forked_child_goes_on_watching(store: Store) -> None:
    """With what it inherited, without the thread that woke its parent."""
    store.create("k", {})
    with store.watch(timeout=30.0) as watch:
        watch.rests.listen()

        def child() -> None:
            assert watch.ready() == []
            store.patch("k", {"n": 1})
            assert next(watch).rev == 2
            os._exit(0)

        assert actions.wait_for(actions.in_child(child)) == 0
        assert found(watch) == [("k", "changed")]


# What becomes of the index


def vandalised(root: Path, how: str) -> None:
    file = change_file(root)
    if how == "deleted":
        shutil.rmtree(root / "index")
    elif how == "file deleted":
        file.unlink()
    elif how == "cut off":
        os.truncate(file, 100)
    elif how == "a line overwritten":
        data = bytearray(file.read_bytes())
        data[-3] ^= 1
        file.write_bytes(data)
    else:
        copy = file.read_bytes()
        file.unlink()
        file.write_bytes(copy)


@pytest.mark.parametrize("how", ["deleted", "file deleted", "cut off", "a line overwritten", "replaced by a copy"])
def test_an_index_that_was_damaged_ends_a_watch(root: Path, how: str) -> None:
    """For the watcher and for the token; whoever begins anew sees what comes."""
    with Store(root) as store:
        store.create("k", {})
        watch, token = store.watch(), store.token()
        store.create("before", {})
        vandalised(root, how)
        with Store(root) as other:
            other.patch("k", {"n": 1})
        for ask in (watch.ready, lambda: list(store.watch(since=token, timeout=0))):
            with pytest.raises(WatchExpired):
                ask()
        watch.close()
        watch = store.watch()
        store.patch("k", {"n": 2})
        assert found(watch) == [("k", "changed")]
        watch.close()


def test_a_token_of_another_life_of_the_machine(store: Store, monkeypatch: Patch) -> None:
    token = store.token()
    monkeypatch.setattr("shardstore._files.index.place.life_of", lambda _directory: "another boot")
    with pytest.raises(WatchExpired):
        store.watch(since=token)


def test_a_store_that_vanishes(root: Path) -> None:
    with Store(root) as store:
        watch = store.watch()
        shutil.rmtree(root)
        with pytest.raises(StoreNotFound):
            watch.ready()
        watch.close()


def test_what_is_done_by_hand_is_seen_once_compact_found_it(root: Path) -> None:
    """Files that are copied in or taken away."""
    with Store(root) as store:
        for key in ("taken", "copied"):
            store.create(key, {})
        store.list()
        copied = disk.shard(root, "copied")
        kept = copied.read_bytes()
        copied.unlink()
        store.compact()
        with store.watch() as watch:
            copied.write_bytes(kept)
            disk.shard(root, "taken").unlink()
            store.compact()
            assert found(watch) == [("copied", "created"), ("taken", "deleted")]
            store.compact()
            assert found(watch) == []


@pytest.mark.damages
def test_a_damaged_session_is_left_out_with_a_warning(root: Path) -> None:
    """Until it is repaired: then it is seen."""
    with Store(root) as store:
        store.create("k", {"n": 1})
        store.patch("k", {"n": 2})
        store.create("other", {})
        with store.watch() as watch:
            store.patch("k", {"n": 3})
            store.patch("other", {"n": 3})
            path = disk.shard(root, "k")
            data = path.read_bytes()
            path.write_bytes(data.replace(b'"n":2', b'"n":7'))
            with pytest.warns(DamagedSessions):
                assert found(watch) == [("other", "changed")]
            store.verify(repair=True)
            assert [key for key, _ in found(watch)] == ["k"]


def test_a_token_names_no_file_outside_the_store(store: Store) -> None:
    """What stands in a token may come from anywhere."""
    waiting = base64.urlsafe_b64encode(b'{"../../etc/passwd":["k","?"],"08/x":["",""]}').decode()
    with store.watch(since=f"{store.token()}.{waiting}") as watch:
        assert watch.ready() == []
        assert watch.token.count(".") == 2


# Without an index


def test_only_the_newest_tokens_of_a_store_without_index_are_good(root: Path, monkeypatch: Patch) -> None:
    """And only in this process."""
    with Store(root) as store:
        store.create("k", {})
        with Store(root, read_only=True) as reader:
            tokens = [reader.token() for _ in range(scan._SNAPSHOTS_MAX + 1)]
            store.patch("k", {"n": 1})
            assert [change.key for change in reader.watch(since=tokens[1], timeout=0)] == ["k"]
            with pytest.raises(WatchExpired):
                reader.watch(since=tokens[0])
            monkeypatch.setattr(scan, "_snapshots", type(scan._snapshots)())
            with pytest.raises(WatchExpired):
                reader.watch(since=tokens[-1])


def test_a_lost_directory_is_no_deletion(root: Path) -> None:
    """With an index and without: what is not there is not known to be absent."""
    with Store(root) as store:
        store.create("k", {})
        with Store(root, read_only=True) as reader, reader.watch() as unindexed, store.watch() as indexed:
            store.patch("k", {"n": 1})
            place = disk.shard(root, "k").parent
            place.rename(root / "elsewhere")
            assert found(unindexed) == found(indexed) == []
            (root / "elsewhere").rename(place)
            assert found(unindexed) == found(indexed) == [("k", "changed")]


def test_a_slow_look_is_followed_by_a_long_rest(root: Path) -> None:
    """A watcher that has to read every session spends a tenth of its time on it, and looks once a second all the same."""
    with Store(root) as store:
        store.create("k", {})
        with Store(root, read_only=True) as reader, reader.watch() as watch:
            watch._took = 0.05
            assert watch.pause() == pytest.approx(0.5)
            watch._took = 5.0
            assert watch.pause() == pytest.approx(1.0)
            assert time.monotonic() > 0
