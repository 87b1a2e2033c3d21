"""Exceptions that come from outside, at random as in life: soft time limits, Ctrl-C, those thrown into a thread."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shardstore import NestedUpdate, Store
from tests.scenarios import people
from tests.scenarios.people import KEY, PATIENCE, Outside, run_python
from tests.support import actions
from tests.support.peer import environment


def test_soft_time_limits(root: Path) -> None:
    """Nothing stays locked; at most the interrupted call is unfinished."""
    people.an_exception_from_outside_leaves_nothing_locked(root)


@pytest.mark.leaks("an exception between os.open and the name that is to hold its number")
def test_exceptions_thrown_into_a_thread(root: Path) -> None:
    """As func_timeout does it: the thread's session is free for the others afterwards."""
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    with Store(root, durability="relaxed", lock_timeout=5.0) as store:
        store.patch(KEY, {"n": 0})
        for number in range(15):
            begun = threading.Event()

            def work(begun: threading.Event = begun) -> None:
                try:
                    begun.set()
                    while True:
                        store.update(KEY, actions.add_one)
                except Outside:
                    return

            thread = threading.Thread(target=work)
            thread.start()
            assert begun.wait(PATIENCE)
            time.sleep(0.005 + number % 5 * 0.001)
            throw(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Outside))
            thread.join(PATIENCE)
            assert not thread.is_alive(), "it waits for a lock that it holds"
            assert store.patch(KEY, {"free": number})["free"] == number


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_every_way_to_enter_an_edit(root: Path, kind: str) -> None:
    """A with block, an ExitStack, calls by hand, and whoever looks whether there is an `__exit__`."""
    with Store(root) if kind == "files" else Store.memory() as store:
        with store.edit(KEY) as draft:
            draft["n"] = 1
        held = store.edit(KEY)
        assert hasattr(held, "__exit__")
        assert isinstance(held, contextlib.AbstractContextManager)
        gc.collect()
        with held as draft:
            assert hasattr(held, "__exit__")
            gc.collect()
            with pytest.raises(NestedUpdate):
                store.patch(KEY, {})
            draft["n"] += 1
        with pytest.raises(RuntimeError), held:
            pass
        with contextlib.ExitStack() as stack:
            draft = stack.enter_context(store.edit(KEY))
            gc.collect()
            draft["n"] += 1
        assert draft.session.rev == 3
        held = store.edit(KEY)
        held.__enter__()["n"] = 10
        gc.collect()
        held.__exit__(None, None, None)
        with pytest.raises(RuntimeError):
            held.__exit__(None, None, None)
        with pytest.raises(ValueError), store.edit(KEY) as draft:
            draft["n"] = 99
            raise ValueError
        assert store[KEY]["n"] == 10


INTERRUPTED = """
import sys, threading, time, os, signal
from shardstore import Store
store = Store(sys.argv[1], lock_timeout=5)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts a background job with it ignored
for _ in range(20):  # the first one of each kind handles exceptions of its own
    store.update("k", lambda draft: draft.update(n=draft.get("n", 0) + 1))
print("ready", flush=True)
while True:
    store.update("k", lambda draft: draft.update(n=draft.get("n", 0) + 1))
"""


def test_control_c_prints_one_traceback(root: Path) -> None:
    """KeyboardInterrupt is the only one, whatever it came in the middle of; the next process goes on at once."""
    for number in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, str(root)],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + number * 0.007)
        process.send_signal(signal.SIGINT)
        try:
            _, printed = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGINT, printed
        assert printed.count("Traceback (most recent call last)") == 1, printed
        assert "Exception ignored" not in printed
    with Store(root, lock_timeout=0.5) as store:
        assert store.patch("k", {"after": 1})["after"] == 1


def test_an_exception_in_a_list_leaves_the_next_one_right(root: Path) -> None:
    """list, verify and compact are interrupted at random: afterwards they answer, and nothing is locked."""
    out = run_python(LISTS, root)
    assert out.endswith("right"), out


LISTS = """
import random, signal, sys, time
from shardstore import Store
class Outside(Exception): pass
def handler(*_): raise Outside
store = Store(sys.argv[1], durability="relaxed", lock_timeout=2)
for n in range(30): store.patch(f"k{n}", {"n": n})
store.list(); store.verify(); store.compact(dry_run=True)
chance = random.Random(3)
signal.signal(signal.SIGALRM, handler)
end, raised = time.monotonic() + 2, 0
while time.monotonic() < end:
    store.patch(f"k{raised % 30}", {"m": raised})
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 3e-3))
        chance.choice([store.list, store.verify, store.count, lambda: store.compact(dry_run=True)])()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Outside:
        raised += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
assert raised > 10, raised
assert {i.key: i.rev for i in store.list()} == {k: store[k].rev for k in store}
assert store.verify().ok
print("right")
"""
