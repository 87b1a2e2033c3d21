"""Threads, forks, signal handlers and finalizers in the middle of the index: each answers, or raises, and none hangs."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import NestedUpdate, Store, StoreBusy
from shardstore._files import forking
from shardstore._files import index as index_module
from shardstore._files.change_file import tracker
from shardstore._files.change_file.file import ChangeFile
from shardstore._files.index import catalog, lister, refresh
from shardstore._files.index.upkeep import audit
from shardstore._files.locks import flock
from tests.index.actors import Actor, change_file, once_after, once_before, truth
from tests.support import actions

HANGS_S = 5.0
Patch = pytest.MonkeyPatch


def numbers(store: Store) -> dict[str, int]:
    return {info.key: info.fields["n"] for info in store.list()}


MOMENTS: dict[str, tuple[Any, str]] = {
    "marking": (ChangeFile, "write"),
    "following": (tracker.ChangeTracker, "_follow"),
    "reading the changes": (ChangeFile, "read"),
    "asking the catalog": (catalog.Catalog, "part"),
    "refreshing": (refresh, "read_locked"),
    "publishing": (catalog.Catalog, "publish"),
    "sealing": (refresh, "stamp"),
    "looking at the seal": (lister, "is_sealed"),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("when", [once_before, once_after])
def test_a_call_from_a_handler_answers(
    filled: Store, monkeypatch: Patch, moment: str, when: Callable[..., list[bool]]
) -> None:
    """As a signal handler or a finalizer would, in the middle of an update or a list: list, count, update, get."""
    answers: list[Any] = []

    def handler() -> None:
        begun = time.monotonic()
        filled.patch("k3", {"n": 33})
        found = numbers(filled)
        assert found["k3"] == 33
        assert len(found) == filled.count() == 5
        assert filled["k3"]["n"] == 33
        assert time.monotonic() - begun < HANGS_S / 2
        answers.append(found)

    happened = when(monkeypatch, *MOMENTS[moment], handler)
    filled.patch("k1", {"n": 11})
    first = numbers(filled)
    monkeypatch.undo()
    assert happened and answers
    assert (first["k0"], first["k1"], first["k2"]) == (10, 11, 2)
    assert numbers(filled) == {"k0": 10, "k1": 11, "k2": 2, "k3": 33, "k4": 4}


def test_a_list_from_a_handler_in_the_middle_of_the_first_import(store: Store, monkeypatch: Patch) -> None:
    """It cannot be waited for: StoreBusy."""
    store.create("s", {"n": 1})
    monkeypatch.setattr(index_module.Index, "_opening", True)
    with pytest.raises(StoreBusy, match="call it later"):
        store.list()
    monkeypatch.undo()
    assert numbers(store) == {"s": 1}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_handlers_at_any_moment(store: Store) -> None:
    """A timer's handler lists and updates, hundreds of times, at moments that nobody chose."""
    for n in range(20):
        store.create(f"k{n}", {"n": 0})
    store.list()
    calls = {"answered": 0, "refused": 0}
    inside: list[bool] = []

    def handler(*_: object) -> None:
        if inside:
            return  # the timer is quicker than the handler
        inside.append(True)
        try:
            count = store.patch(f"h{calls['answered'] % 7}", {"n": calls["answered"]})["n"]
            assert store.list(limit=1)[0].fields["n"] == count
            calls["answered"] += 1
        except (NestedUpdate, StoreBusy):
            calls["refused"] += 1
        finally:
            inside.clear()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        begun = time.monotonic()
        n = 0
        while (passed := time.monotonic() - begun) < 2.0 or (calls["answered"] <= 20 and passed < 60.0):
            n += 1
            store.patch(f"k{n % 20}", {"n": n})
            assert len(store.list()) >= 20
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls["answered"] > 20
    assert len(store.list(prefix="k")) == 20


# Forks


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fork_at_any_moment_leaves_two_usable_processes(filled: Store, monkeypatch: Patch, moment: str) -> None:
    """The child lists and updates, while its parent goes on with what it was in the middle of; then the parent does."""
    codes: list[int] = []
    monkeypatch.setattr(forking, "_PATIENCE_S", 0.1)  # what holds SQLite here waits for the fork itself

    def fork() -> None:
        def child() -> None:
            monkeypatch.undo()
            filled.patch("child", {"n": 1})
            assert numbers(filled)["child"] == 1
            filled.patch("child", {"n": 2})
            assert numbers(filled)["child"] == 2

        with actions_thread(lambda: codes.append(actions.wait_for(actions.in_child(child)))):
            pass

    happened = once_before(monkeypatch, *MOMENTS[moment], fork)
    filled.patch("k1", {"n": 11})
    numbers(filled)
    monkeypatch.undo()
    assert happened and codes == [0]
    assert numbers(filled) == {"k0": 10, "k1": 11, "k2": 2, "k3": 3, "k4": 4, "child": 2}


class actions_thread:  # noqa: N801
    """Run something in a thread, and wait for it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.thread = threading.Thread(target=function)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.thread.join(HANGS_S)
        assert not self.thread.is_alive()


def test_a_fork_in_the_middle_of_making_the_index(root: Path) -> None:
    """In the progress of a rebuild, which is the caller's own code: the child answers, the parent's index is whole."""
    codes: list[int] = []
    inside: list[bool] = []

    def progress(done: int, _total: int) -> None:
        if done == 100 and not inside:
            inside.append(True)
            pid = os.fork()
            if pid:
                codes.append(os.waitpid(pid, 0)[1])
            else:
                child.append(True)

    child: list[bool] = []
    with Store(root, scan_progress=progress) as store:
        store.create("s", {"n": 1})
        try:
            found = numbers(store)
            if child:
                store.patch("child", {"n": 2})
                os._exit(0 if found == {"s": 1} and numbers(store) == {"s": 1, "child": 2} else 1)
        finally:
            if child:
                os._exit(2)
        assert codes == [0]
        assert found["s"] == 1
        assert numbers(store) == {"s": 1, "child": 2}


def test_a_parent_that_dies_leaves_the_index_lock_to_others(root: Path) -> None:
    """Its child lives on with a copy of the descriptor that the lock is on."""
    with Store(root) as store:
        store.create("s", {"n": 1})
        store.list()
    read, write = os.pipe()

    def parent() -> None:
        mine = Store(root)
        mine.list()
        place = mine._engine.index.lister.place
        file = place.change_file(change_file(root).name)
        assert file.lock()
        if os.fork() == 0:
            os.close(write)
            os.read(read, 1)  # until the test is over
            os._exit(0)
        os._exit(0)

    assert actions.wait_for(actions.in_child(parent)) == 0
    try:
        fd = os.open(change_file(root), os.O_RDONLY)
        end = time.monotonic() + HANGS_S
        while not (free := flock.try_lock(fd)) and time.monotonic() < end:
            time.sleep(0.01)  # the child may not have come to its first step yet
        assert free
        os.close(fd)
    finally:
        os.close(write)
        os.close(read)


# Threads


def test_threads_list_and_write_at_once(store: Store) -> None:
    """Each list shows what its own thread has written before."""
    for n in range(40):
        store.create(f"k{n}", {"n": 0})
    failures: list[BaseException] = []
    end = time.monotonic() + 1.5

    def work(me: int) -> None:
        try:
            n = 0
            while time.monotonic() < end:
                n += 1
                store.patch(f"k{me}", {"n": n})
                assert {i.key: i.fields["n"] for i in store.list(prefix=f"k{me}")}[f"k{me}"] == n
                assert store.count() == 40
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert audit(store._engine.index.lister) == []


# Other code in the process that opens the catalog: SQLite's locks fall when it closes it


def test_a_copy_of_the_store_made_by_a_process_that_has_it_open(root: Path, tmp_path: Path) -> None:
    """copytree reads and closes the catalog; lists stay right, and the copy's index is made anew, not believed."""
    with Store(root, durability="relaxed") as store:
        for n in range(200):
            store.create(f"k{n}", {"n": n})
        for turn in range(5):
            store.list()
            store.patch("k1", {"n": turn})
            copy = tmp_path / f"copy{turn}"
            shutil.copytree(root, copy)
            assert numbers(store)["k1"] == turn
            with Store(copy) as copied:
                assert numbers(copied) == numbers(store)
                assert copied._engine.index.lister.problem is not None


def test_another_sqlite_connection_of_the_same_process(root: Path) -> None:
    """As an inspector may have; here through the same library. It reads, and closes, in the middle of lists."""
    one, other = Actor(root), Actor(root)
    for n in range(300):
        one.write(f"k{n:03}", n=n)
    one.list()
    for turn in range(20):
        one.write(f"k{turn:03}", n=-1 - turn)
        db = sqlite3.connect(root / "index" / "catalog")
        assert db.execute("SELECT count(*) FROM session").fetchone() == (300,)
        assert other.list() == truth(root)
        db.close()
        assert one.list(refresh=False) == truth(root)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which descriptors there are")
def test_nothing_stays_open(root: Path) -> None:
    """Descriptors, after lists, refreshes, new change files and rebuilds."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Store(root) as store:
        store.create("s", {"n": 0})
        for n in range(40):
            if n == 8:
                before = descriptors()
            store.patch("s", {"n": n})
            assert numbers(store) == {"s": n}
            if n % 10 == 0:
                store._engine.index.lister.rebuild()
            if n % 7 == 0:
                change_file(root).unlink()
        store.patch("s", {"n": 99})
        assert numbers(store) == {"s": 99}
        assert descriptors() <= before
