"""The mutex of one session between the threads of a process, and the guard against waiting for oneself."""

from __future__ import annotations

import contextvars
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import NestedUpdate
from shardstore._inside import FifoMutex, Token, _Grant, _inside, inside_update, new_token
from tests.support.actions import in_background

SOON = 0.15  # seconds: a free mutex is entered, a held one is not


@pytest.fixture
def mutex(tmp_path: Path) -> FifoMutex:
    """Return the mutex of a place of its own: a test may end while it is inside."""
    _inside.set(())
    return FifoMutex("agent:main", str(tmp_path))


def enter(mutex: FifoMutex, timeout: float | None = 30.0) -> Token | None:
    """Enter in a context of one's own, as every thread has."""
    token = new_token(mutex)
    return token if mutex.enter(token, timeout) else None


def elsewhere(function: Callable[[], object]) -> Callable[[], object]:
    """Run in another thread, which is inside of nothing."""
    return in_background(contextvars.Context().run, function)


def test_it_lets_one_in(mutex: FifoMutex) -> None:
    """While one thread is inside, no other gets in, with or without waiting; afterwards it does."""
    token = enter(mutex, None)
    assert token is not None
    assert mutex.holds(token)
    assert not mutex.is_free()
    assert inside_update()
    assert elsewhere(lambda: mutex.try_enter(new_token(mutex)))() is False
    assert elsewhere(lambda: enter(mutex, SOON))() is None
    mutex.leave(token)
    assert mutex.is_free()
    assert not inside_update()
    assert elsewhere(lambda: enter(mutex, SOON))() is not None


def test_it_is_handed_over_in_the_order_of_arrival(mutex: FifoMutex) -> None:
    """Threads get in as they came, though the one that left asks again at once."""
    order: list[int] = []
    first = enter(mutex)
    assert first is not None

    def work(me: int) -> None:
        token = enter(mutex)
        assert token is not None
        order.append(me)
        mutex.leave(token)

    waits = []
    for me in range(10):
        waits.append(elsewhere(lambda me=me: work(me)))  # type: ignore[misc]
        while len(mutex.queue) <= me:
            time.sleep(0.001)
    mutex.leave(first)
    work(99)
    for wait in waits:
        wait()
    assert order == [*range(10), 99]


def test_whoever_tries_does_not_pass_those_who_wait(mutex: FifoMutex) -> None:
    """A free mutex with a queue is not free for a passer-by."""
    first = enter(mutex)
    assert first is not None
    waiting = elsewhere(lambda: mutex.leave(enter(mutex)))  # type: ignore[arg-type]
    while not mutex.queue:
        time.sleep(0.001)
    mutex.holder.clear()
    assert not mutex.try_enter(new_token(mutex))
    mutex.leave(first)
    waiting()


def test_a_waiter_that_gives_up_leaves_the_queue(mutex: FifoMutex) -> None:
    """It is passed over: the mutex never ends in the hands of nobody."""
    for _ in range(20):
        token = enter(mutex)
        assert token is not None

        def try_shortly() -> None:
            got = enter(mutex, 0.005)
            if got is not None:
                mutex.leave(got)

        impatient = [elsewhere(try_shortly) for _ in range(4)]
        patient = elsewhere(lambda: mutex.leave(enter(mutex)))  # type: ignore[arg-type]
        time.sleep(0.005)
        mutex.leave(token)
        for wait in (*impatient, patient):
            wait()
        assert mutex.is_free()
        assert not mutex.queue


def test_under_random_timeouts_one_is_inside_at_a_time(mutex: FifoMutex) -> None:
    """Many threads with short patience: never two inside, and in the end it is free."""
    inside, entered, wrong = [0], [0], []
    stop = time.monotonic() + 0.8

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < stop:
            token = enter(mutex, rng.choice([0.0, 0.0001, 0.001, 0.01]))
            if token is not None:
                inside[0] += 1
                if inside[0] != 1:
                    wrong.append(inside[0])
                entered[0] += 1
                time.sleep(rng.choice([0, 0.0001, 0.001]))
                inside[0] -= 1
                mutex.leave(token)

    for wait in [elsewhere(lambda seed=seed: work(seed)) for seed in range(8)]:  # type: ignore[misc]
        wait()
    assert wrong == []
    assert entered[0] > 50
    assert mutex.is_free()
    assert not mutex.queue


def test_leaving_twice_or_without_being_inside_does_nothing(mutex: FifoMutex) -> None:
    """A token stands for one attempt: nobody is put out by somebody else's end."""
    token, other = enter(mutex), new_token(mutex)
    assert token is not None
    mutex.leave(other)
    assert mutex.holds(token)
    mutex.leave(token)
    mutex.leave(token)
    again = enter(mutex)
    assert again is not None
    mutex.leave(token)
    assert mutex.holds(again)
    mutex.leave(again)


def test_a_waiter_whose_waker_died_sees_the_grant_by_itself(mutex: FifoMutex) -> None:
    """An exception from outside may end a thread between granting and waking: the waiter looks now and then."""
    token = enter(mutex)
    assert token is not None
    got = elsewhere(lambda: enter(mutex, 5.0))
    while not mutex.queue:
        time.sleep(0.001)
    waiter = mutex.queue.popleft()
    mutex.holder[0] = _Grant(waiter)  # and never woken
    began = time.monotonic()
    theirs = got()
    assert theirs is not None
    assert time.monotonic() - began < 2.0
    mutex.leave(theirs)  # type: ignore[arg-type]
    assert mutex.is_free()


def test_a_waiter_whose_holder_died_before_handing_over_helps_itself(mutex: FifoMutex) -> None:
    """The holder freed the mutex and ended before it woke anybody."""
    token = enter(mutex)
    got = elsewhere(lambda: enter(mutex, 5.0))
    while not mutex.queue:
        time.sleep(0.001)
    mutex.holder.clear()
    assert got() is not None
    assert token is not None


def test_an_exception_while_waiting_leaves_nothing_behind(mutex: FifoMutex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is torn out of the queue neither stays in it nor keeps the mutex."""
    token = enter(mutex)
    assert token is not None

    def torn_out(self: FifoMutex, waiter: object, deadline: float | None) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(FifoMutex, "_is_granted", torn_out)
    with pytest.raises(KeyboardInterrupt):
        elsewhere(lambda: enter(mutex, 5.0))()
    assert not mutex.queue
    monkeypatch.undo()
    mutex.leave(token)
    assert mutex.is_free()


# Waiting for oneself


def test_a_thread_that_is_inside_is_refused(mutex: FifoMutex) -> None:
    """At once, without a timeout too, and also in a context that was copied before."""
    before = contextvars.copy_context()
    token = enter(mutex)
    assert token is not None
    for run in (lambda f: f(), before.run):
        with pytest.raises(NestedUpdate):
            run(lambda: enter(mutex, None))
    mutex.leave(token)
    assert enter(mutex, SOON) is not None


def test_a_chain_of_calls_that_is_inside_is_refused_on_another_thread(mutex: FifoMutex) -> None:
    """As asyncio.to_thread does: the context goes along, the thread is another one."""
    token = enter(mutex)
    assert token is not None
    with pytest.raises(NestedUpdate):
        in_background(contextvars.copy_context().run, lambda: enter(mutex, None))()
    mutex.leave(token)


def test_a_context_that_outlives_its_update_is_not_refused(mutex: FifoMutex) -> None:
    """A task that was started inside an update goes on when that is over."""
    token = enter(mutex)
    assert token is not None
    copied = contextvars.copy_context()
    mutex.leave(token)
    assert copied.run(lambda: enter(mutex, SOON)) is not None
    assert not inside_update()


def test_a_mutex_of_the_same_place_is_the_same(mutex: FifoMutex) -> None:
    """A shard that was evicted and opened again has another mutex: the chain inside the old one is still refused."""
    token = enter(mutex)
    assert token is not None
    other = FifoMutex(mutex.name, mutex.place)
    blocker = elsewhere(lambda: enter(other))()
    assert blocker is not None
    with pytest.raises(NestedUpdate):
        enter(other, 1.0)
    mutex.leave(token)


def test_a_waiting_thread_is_not_to_wait_behind_itself(mutex: FifoMutex) -> None:
    """A signal handler that comes while its thread stands in the queue would never get its turn."""
    holder = enter(mutex)
    refused: list[BaseException] = []

    def wait() -> None:
        acquire = FifoMutex._is_granted

        def interrupted(self: FifoMutex, waiter: object, deadline: float | None) -> bool:
            FifoMutex._is_granted = acquire  # type: ignore[method-assign]
            try:
                enter(mutex, None)
            except NestedUpdate as error:
                refused.append(error)
            return acquire(self, waiter, deadline)  # type: ignore[arg-type]

        FifoMutex._is_granted = interrupted  # type: ignore[method-assign,assignment]
        try:
            assert enter(mutex, 0.2) is None
        finally:
            FifoMutex._is_granted = acquire  # type: ignore[method-assign]

    elsewhere(wait)()
    assert len(refused) == 1
    assert holder is not None


def test_a_forked_child_is_free(mutex: FifoMutex) -> None:
    """The threads of the parent are not there: nobody is inside, nobody waits."""
    assert enter(mutex) is not None
    mutex.after_fork()
    assert mutex.is_free()
    assert elsewhere(lambda: enter(mutex, SOON))() is not None
    assert threading.active_count() >= 1
