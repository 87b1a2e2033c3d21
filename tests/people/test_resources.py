"""The ends of resources: inodes, descriptors, threads; greenlets; a stopped process at the head of a queue."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import Store
from tests.scenarios import people
from tests.scenarios.people import KEY, run_python
from tests.support import actions
from tests.support.peer import Peers, one_peer, peers


@pytest.mark.parametrize(
    "scenario",
    [
        people.no_inode_at_a_rewrite_is_no_failed_update,
        people.idle_descriptors_are_given_up_first,
        people.unstable_inode_numbers_end_at_the_timeout,
        people.a_wait_without_threads_keeps_the_timeout,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_resources(root: Path, scenario: Callable[[Path], None]) -> None:
    """Each scenario stands in tests/scenarios/people.py, for its mutation."""
    scenario(root)


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import gevent, sys, time
from shardstore import Store, LockTimeout
store = Store(sys.argv[1], lock_timeout=0.5)
beats = []
def beat():
    while True:
        beats.append(time.monotonic())
        gevent.sleep(0.02)
gevent.spawn(beat)
gevent.sleep(0.1)
began = time.monotonic()
try:
    store.patch("agent:main:main", {"n": 1})
    outcome = "updated"
except LockTimeout:
    outcome = "LockTimeout"
took = time.monotonic() - began
gevent.sleep(0.1)
print(outcome, took < 2.0, max(b - a for a, b in zip(beats, beats[1:])) < 0.5)
jobs = [gevent.spawn(store.update, "other", lambda draft: draft.update(n=draft.get("n", 0) + 1)) for _ in range(50)]
gevent.joinall(jobs, raise_error=True)
print(store["other"]["n"])
"""


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
def test_greenlets_go_on_while_one_waits(root: Path) -> None:
    """Under monkey.patch_all() the timeout is kept, and no other greenlet stands still for long."""
    with Store(root) as store, one_peer() as peer:
        store.patch(KEY, {"n": 0})
        peer.start(actions.hold, root, KEY)
        peer.heard()
        assert run_python(GREENLETS, root).splitlines() == ["LockTimeout True True", "50"]
        peer.tell()
        peer.result()


AT_EXIT = """
import atexit, sys
from shardstore import Store, ShardStoreError
store = Store(sys.argv[1], lock_timeout=10)
def save():
    try:
        print("saved", store.update("agent:main:main", lambda draft: draft.update(bye=1))["bye"])
    except ShardStoreError as error:
        print("typed", error)
    except BaseException as error:
        print("BARE", repr(error))
atexit.register(save)
"""


def test_a_last_save_at_exit_waits_for_a_busy_session(root: Path) -> None:
    """The interpreter ends, and may start no thread any more: the save waits, and succeeds."""
    with Store(root) as store, one_peer() as peer:
        store.patch(KEY, {"n": 0})
        peer.start(actions.hold, root, KEY)
        peer.heard()
        wait = actions.in_background(run_python, AT_EXIT, root)
        time.sleep(0.7)
        peer.tell()
        peer.result()
        assert wait() == "saved 1"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_stopped_process_at_the_head_of_a_queue(root: Path) -> None:
    """It waits for a session and is stopped: a newcomer passes it by in far less than a second each time."""
    with Store(root) as store, peers(2) as group:
        store.patch(KEY, {"n": 0})
        holder, stopped = group
        holder.start(actions.hold, root, KEY)
        holder.heard()
        stopped.start(actions.increment, root, KEY, 1)
        time.sleep(0.5)
        stopped.stop()
        try:
            holder.tell()
            holder.result()
            took = []
            for number in range(5):
                began = time.monotonic()
                store.patch(KEY, {"m": number})
                took.append(time.monotonic() - began)
            assert sorted(took)[2] < 2.0, took
            assert max(took) < 8.0, took
        finally:
            stopped.resume()
        stopped.result()
        assert store[KEY]["n"] == 1


def test_few_descriptors_and_many_sessions(root: Path, crew: Callable[[int], Peers]) -> None:
    """A process with 64 descriptors uses 300 sessions, lists, and verifies."""
    assert crew(1)[0].run(few_descriptors, root) == 300


def few_descriptors(root: Path) -> int:
    """Work with few descriptors; return what list says."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        with Store(root, durability="relaxed") as store:
            for number in range(300):
                store.patch(f"k{number}", {"n": number})
            for number in range(300):
                assert store[f"k{number}"]["n"] == number
            assert store.verify().ok
            assert len(os.listdir("/dev/fd")) < 64
            return len(store.list())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
