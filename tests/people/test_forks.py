"""Forks at any moment, in a process whose threads list, import and rewrite: the child works."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from shardstore import Store
from tests.scenarios import people
from tests.scenarios.people import KEY, PATIENCE, run_python
from tests.support import actions


def test_during_a_late_import(root: Path) -> None:
    """The fork waits for the import."""
    people.a_child_forked_during_a_late_import_works(root)


def test_while_threads_list_and_rewrite(root: Path) -> None:
    """Fifteen children of a busy process: each lists, updates and reads within seconds."""
    keys = [f"k{number}" for number in range(30)]
    with Store(root, durability="relaxed", lock_timeout=20.0) as store:
        for key in keys:
            store.patch(key, {"n": 0, "pad": "x" * 100})
        over = threading.Event()

        def work(seed: int) -> None:
            chance = random.Random(seed)
            while not over.is_set():
                store.patch(chance.choice(keys), {"n": seed, "pad": "y" * chance.randrange(20_000)})
                store.list(where={"n": seed}) if seed % 2 else store.list(limit=5, order_by="key")

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        children: list[int] = []
        try:
            for number in range(15):
                children.append(actions.in_child(lambda number=number: _child(store, keys[number])))
                time.sleep(0.01)
            assert [actions.wait_for(child, PATIENCE) for child in children] == [0] * 15
        finally:
            over.set()
            for thread in threads:
                thread.join(PATIENCE)


def _child(store: Store, key: str) -> None:
    assert len(store.list()) == 30
    assert store.patch(key, {"child": 1})["child"] == 1
    assert store[key]["child"] == 1


def test_a_child_that_never_imported_anything(root: Path) -> None:
    """Threads make their first calls, with every late import, while the process forks again and again."""
    with Store(root) as store:
        store.patch(KEY, {"n": 0})
    assert run_python(FIRST_CALLS, root) == "20 children ended"


FIRST_CALLS = """
import os, sys, threading, time
from shardstore import Store
store = Store(sys.argv[1], lock_timeout=5)
calls = [store.list, store.verify, lambda: store.compact(dry_run=True), store.stats, store.archive.list]
threads = [threading.Thread(target=call) for call in calls]
children = []
def child():
    try:
        store.verify(); store.list(); store.stats(); store.patch("agent:main:main", {"n": 1})
        os._exit(0)
    except BaseException:
        import traceback; traceback.print_exc()
        os._exit(1)
for number in range(20):
    if number < len(threads): threads[number].start()
    pid = os.fork()
    if not pid: child()
    children.append(pid)
    time.sleep(0.003)
end = time.monotonic() + 20
left = set(children)
while left and time.monotonic() < end:
    for pid in list(left):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, status
            left.discard(pid)
    time.sleep(0.01)
for pid in left: os.kill(pid, 9); os.waitpid(pid, 0)
for thread in threads: thread.join()
assert not left, f"{len(left)} children hang"
print(len(children), "children ended")
"""


def test_a_fork_that_waits_for_the_import_of_sqlite_waits_for_its_use_too(root: Path) -> None:
    """The first list imports it. A hook that is registered meanwhile comes too late for this fork."""
    Store(root).close()
    assert run_python(FIRST_USE, root) == "the fork waits for users of SQLite: True"


FIRST_USE = """
import importlib, os, sys, threading, time
from shardstore import Store
from shardstore._imports import late_imports
store = Store(sys.argv[1])
assert "sqlite3" not in sys.modules
inside, found = threading.Event(), []
def first_list():
    with late_imports:
        inside.set()
        forking = importlib.import_module("shardstore._files.forking")
        end = time.monotonic() + 2
        while not forking._forking and time.monotonic() < end:
            time.sleep(0.01)
        found.append(bool(forking._forking))
thread = threading.Thread(target=first_list)
thread.start()
inside.wait()
pid = os.fork()
if not pid: os._exit(0)
os.waitpid(pid, 0)
thread.join()
print("the fork waits for users of SQLite:", found[0])
"""
