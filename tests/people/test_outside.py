"""Exceptions that come from outside, at random as in life: soft time limits, Ctrl-C, those thrown into a thread."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from shardstore import Store
from tests.scenarios import people
from tests.scenarios.people import KEY, PATIENCE, Outside, run_python
from tests.support import actions
from tests.support.peer import environment


def test_soft_time_limits(root: Path) -> None:
    """Nothing stays locked; at most the interrupted call is unfinished."""
    people.an_exception_from_outside_leaves_nothing_locked(root)


def test_exceptions_thrown_into_a_thread(root: Path) -> None:
    """As func_timeout does it: the thread's session is free for the others afterwards."""
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    with Store(root, durability="relaxed", lock_timeout=5.0) as store:
        store.patch(KEY, {"n": 0})
        for number in range(15):

            def work() -> None:
                try:
                    while True:
                        store.update(KEY, actions.add_one)
                except Outside:
                    return

            thread = threading.Thread(target=work)
            thread.start()
            time.sleep(0.005 + number % 5 * 0.001)
            throw(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Outside))
            thread.join(PATIENCE)
            assert not thread.is_alive(), "it waits for a lock that it holds"
            assert store.patch(KEY, {"free": number})["free"] == number


INTERRUPTED = """
import sys, threading, time, os, signal
from shardstore import Store
store = Store(sys.argv[1], lock_timeout=5)
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
        _, printed = process.communicate(timeout=PATIENCE)
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
