"""Several processes and threads on one session: nothing is lost, nobody is let in twice."""

from __future__ import annotations

import os
import threading
import time

import pytest

from shardstore import LockTimeout, Store
from tests.contract import backend as peers
from tests.support import actions
from tests.support.actions import add_one


@pytest.mark.parametrize("durability", ["commit", "relaxed"])
def test_processes_lose_no_increment(backend: peers.FileBackend, crew, durability: str) -> None:
    """Three processes that add to one counter through update leave the sum."""
    crew(3).run(peers.increment, backend, "k", 100, 0.0005, durability)
    with backend.open() as store:
        assert store["k"]["n"] == 300
        assert store["k"].rev == 300


def test_threads_of_one_store_lose_no_increment(store: Store) -> None:
    """Eight threads that share one Store object leave the sum."""
    waits = [
        actions.in_background(lambda: [store.update("k", lambda draft: add_one(draft, 0.0005)) for _ in range(40)])
        for _ in range(8)
    ]
    for wait in waits:
        wait()
    assert (store["k"]["n"], store["k"].rev) == (320, 320)


def test_threads_with_stores_of_their_own_lose_no_increment(store_factory) -> None:
    """Eight threads, each with its own Store object on one store, leave the sum."""
    stores = [store_factory() for _ in range(8)]
    waits = [
        actions.in_background(lambda mine=mine: [mine.update("k", lambda d: add_one(d, 0.0005)) for _ in range(40)])
        for mine in stores
    ]
    for wait in waits:
        wait()
    assert stores[0]["k"]["n"] == 320


def test_two_mutators_of_one_session_never_overlap(store: Store, store_factory) -> None:
    """While one mutator runs, no other mutator of the session runs, in this or another Store object."""
    running = threading.Semaphore(1)
    overlaps: list[int] = []

    def mutate(draft: dict[str, int]) -> None:
        if not running.acquire(blocking=False):
            overlaps.append(1)
            return
        time.sleep(0.001)
        draft["n"] = draft.get("n", 0) + 1
        running.release()

    stores = [store, store_factory(), store_factory(durability="relaxed")]
    waits = [
        actions.in_background(lambda mine=mine: [mine.update("k", mutate) for _ in range(40)])
        for mine in stores
        for _ in range(2)
    ]
    for wait in waits:
        wait()
    assert overlaps == []
    assert store["k"]["n"] == 240


@pytest.mark.processes
def test_a_lock_timeout_names_key_time_and_owner(store_factory, backend: peers.FileBackend) -> None:
    """A writer that waits too long is told for whom, for how long, and which process was in the way."""
    store = store_factory(lock_timeout=0.3)
    store.create("k", {"n": 0})
    with actions_holder(backend, "k") as peer:
        before = backend.written()
        begun = time.monotonic()
        with pytest.raises(LockTimeout) as caught:
            store.patch("k", {"n": 1})
        waited = time.monotonic() - begun
        assert 0.3 <= waited < 1.3
        assert caught.value.key == "k"
        assert caught.value.waited == pytest.approx(waited, abs=0.2)
        if os.path.exists("/proc/locks"):
            assert caught.value.pid == peer.pid
        assert isinstance(caught.value, TimeoutError)
        assert backend.written() == before
        peer.tell()
        assert peer.result() == 2
    assert store.patch("k", {"n": 1}).rev == 3


def actions_holder(backend: peers.FileBackend, key: str):
    """Start a process that holds the lock of a session until told."""
    import contextlib
    from collections.abc import Iterator

    from tests.support.peer import Peer, one_peer

    @contextlib.contextmanager
    def holding() -> Iterator[Peer]:
        with one_peer() as peer:
            peer.start(actions.hold, backend.root, key)
            assert peer.heard() == "holding"
            yield peer

    return holding()


@pytest.mark.parametrize("verb", ["update", "patch", "edit", "create", "get_or_create", "replace", "delete"])
def test_every_writer_waits_and_times_out(store_factory, verb: str) -> None:
    """No writing verb gets past a held lock, and each gives up after the timeout; the wait counts from the call."""
    store, other = store_factory(lock_timeout=0.15), store_factory()
    store.create("k", {"n": 0})
    attempts = {
        "update": lambda: store.update("k", lambda draft: draft.update(n=1)),
        "patch": lambda: store.patch("k", {"n": 1}),
        "edit": lambda: store.edit("k").__enter__(),
        "create": lambda: store.create("absent", {"n": 1}),
        "get_or_create": lambda: store.get_or_create("absent", {"n": 1}),
        "replace": lambda: store.replace("k", {"n": 1}),
        "delete": lambda: store.delete("k"),
    }
    key = "absent" if verb in {"create", "get_or_create"} else "k"
    with other.edit(key) as draft:
        draft["outer"] = True
        begun = time.monotonic()
        with pytest.raises(LockTimeout):
            actions.in_background(attempts[verb])()
        assert 0.15 <= time.monotonic() - begun < 1.15
    assert other[key]["outer"] is True
    assert other[key].rev == (1 if key == "absent" else 2)


def test_the_timeout_counts_from_the_call_for_everyone_in_the_queue(store_factory) -> None:
    """Twenty threads behind one holder all give up after their own timeout, not after each other's."""
    store = store_factory(lock_timeout=0.4)
    waited: list[float] = []

    def attempt() -> None:
        begun = time.monotonic()
        with pytest.raises(LockTimeout):
            store.patch("k", {"n": 1})
        waited.append(time.monotonic() - begun)

    with store_factory().edit("k"):
        waits = [actions.in_background(attempt) for _ in range(20)]
        for wait in waits:
            wait(5.0)
    assert len(waited) == 20
    assert 0.4 <= min(waited)
    assert max(waited) < 1.4


@pytest.mark.processes
def test_a_waiter_gets_the_lock_as_soon_as_it_is_free(store_factory, backend: peers.FileBackend) -> None:
    """A waiter is woken by the release itself, of another process or of another thread."""
    store = store_factory(lock_timeout=20.0)
    with actions_holder(backend, "k") as peer:
        wait = actions.in_background(lambda: (store.patch("k", {"n": 1}), time.monotonic())[1])
        time.sleep(0.2)
        released = time.monotonic()
        peer.tell()
        assert wait() - released < 1.0
    assert store["k"].data == {"held": 1, "n": 1}


@pytest.mark.processes
def test_a_store_without_a_timeout_waits_for_ever(store_factory, backend: peers.FileBackend) -> None:
    """lock_timeout=None waits as long as it takes and then sees what the holder wrote."""
    store = store_factory(lock_timeout=None)
    with actions_holder(backend, "k") as peer:
        wait = actions.in_background(lambda: store.patch("k", {"n": 1}))
        time.sleep(0.4)
        peer.tell()
        assert wait().data == {"held": 1, "n": 1}


def test_a_timeout_of_zero_does_not_wait(store_factory) -> None:
    """lock_timeout=0 tries once: it succeeds on a free session and fails at once on a busy one."""
    store = store_factory(lock_timeout=0)
    assert store.patch("k", {"n": 1}).rev == 1
    with store_factory().edit("k"):
        wait = actions.in_background(lambda: store.patch("k", {"n": 2}))
        begun = time.monotonic()
        with pytest.raises(LockTimeout):
            wait()
        assert time.monotonic() - begun < 0.5
    assert store.patch("k", {"n": 3}).rev == 2


@pytest.mark.parametrize("timeout", [-1, float("nan"), "10", True], ids=repr)
def test_a_malformed_timeout_is_refused(store_factory, timeout: object) -> None:
    """A timeout that means nothing is an error at the constructor, not a surprise at the first contention."""
    with pytest.raises((ValueError, TypeError)):
        store_factory(lock_timeout=timeout)


@pytest.mark.processes
def test_a_timed_out_waiter_leaves_nothing_behind(store_factory, backend: peers.FileBackend) -> None:
    """A waiter that gave up neither takes the lock later nor stands in anybody's way."""
    impatient, patient = store_factory(lock_timeout=0.1), store_factory(lock_timeout=5.0)
    with actions_holder(backend, "k") as peer:
        for _ in range(3):
            with pytest.raises(LockTimeout):
                impatient.patch("k", {"never": True})
        peer.tell()
        assert peer.result() == 1
        assert patient.patch("k", {"n": 1}).data == {"held": 1, "n": 1}
        peer.start(actions.hold, backend.root, "k")
        assert peer.heard() == "holding"
        peer.tell()
        assert peer.result() == 3
    assert impatient.patch("k", {"n": 2}).rev == 4


@pytest.mark.processes
def test_readers_do_not_wait_for_a_writer(store: Store, backend: peers.FileBackend) -> None:
    """While another process holds a session's lock every reader answers at once, with the state before."""
    store.create("k", {"n": 0})
    with actions_holder(backend, "k") as peer:
        begun = time.monotonic()
        assert store["k"]["n"] == 0
        assert "k" in store
        assert len(store.history("k")) == 1
        assert list(store) == ["k"]
        assert [info.key for info in store.list()] == ["k"]
        assert store.count() == 1
        assert store.stats().sessions == 1
        assert time.monotonic() - begun < 1.0
        peer.tell()
        peer.result()


@pytest.mark.processes
def test_other_sessions_are_not_held_up(store: Store, backend: peers.FileBackend) -> None:
    """While one session is locked, all others are written at full speed."""
    with actions_holder(backend, "k") as peer:
        begun = time.monotonic()
        for n in range(50):
            store.patch(f"other{n}", {"n": n})
        assert time.monotonic() - begun < 2.0
        peer.tell()
        peer.result()


@pytest.mark.processes
def test_a_dead_holder_is_gone_at_once(store_factory, backend: peers.FileBackend) -> None:
    """The lock of a killed process is free the instant it dies, and what it had not committed never happened."""
    store = store_factory(lock_timeout=5.0)
    store.create("k", {"n": 0})
    with actions_holder(backend, "k") as peer:
        wait = actions.in_background(lambda: (store.patch("k", {"n": 1}), time.monotonic()))
        time.sleep(0.05)
        peer.kill()
        killed = time.monotonic()
        session, moment = wait()
        assert moment - killed < 1.0
        assert session.data == {"n": 1}
        assert session.rev == 2
