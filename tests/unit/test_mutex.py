"""The gate between threads: one is inside, and it is handed over in the order of arrival."""

from __future__ import annotations

import threading
import time

from shardstore import _mutex as gate_module
from tests.support.actions import in_background


def soon() -> float:
    """Give a deadline that a free lock meets and a held one does not."""
    return time.monotonic() + 0.15


def test_the_gate_lets_one_in() -> None:
    """While one thread is inside, no other gets in, with or without waiting; afterwards it does."""
    gate = gate_module.Gate()
    assert gate.acquire(None)
    assert gate.owner == threading.get_ident()
    assert in_background(gate.try_acquire)() is False
    assert in_background(lambda: gate.acquire(soon()))() is False
    gate.release()
    assert gate.owner == 0
    assert in_background(lambda: gate.acquire(soon()))() is True


def test_the_gate_is_handed_over_in_the_order_of_arrival() -> None:
    """Threads get in as they came, though the one that released asks again at once."""
    gate, order = gate_module.Gate(), []
    gate.acquire(None)

    def enter(me: int) -> None:
        assert gate.acquire(time.monotonic() + 30)
        order.append(me)
        gate.release()

    waits = []
    for me in range(10):
        waits.append(in_background(enter, me))
        time.sleep(0.01)
    gate.release()
    assert gate.acquire(time.monotonic() + 30)
    order.append(99)
    gate.release()
    for wait in waits:
        wait()
    assert order == [*range(10), 99]


def test_a_waiter_that_gives_up_leaves_the_queue() -> None:
    """The gate passes over those who gave up: it never ends in the hands of nobody."""
    gate = gate_module.Gate()
    for _ in range(20):
        gate.acquire(None)
        impatient = [in_background(lambda: gate.acquire(time.monotonic() + 0.005)) for _ in range(4)]
        patient = in_background(lambda: gate.acquire(time.monotonic() + 30) and gate.release() is None)
        time.sleep(0.005)
        gate.release()
        got = [wait() for wait in impatient]
        for _ in range(sum(got)):
            gate.release()
        assert patient()
        assert gate.try_acquire()
        gate.release()


def test_the_gate_under_random_timeouts_admits_one_at_a_time() -> None:
    """Many threads with short patience: never two inside, and in the end it is free."""
    import random

    gate, inside, entered, wrong = gate_module.Gate(), [0], [0], []
    stop = time.monotonic() + 0.8

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < stop:
            if gate.acquire(time.monotonic() + rng.choice([0.0, 0.0001, 0.001, 0.01])):
                inside[0] += 1
                if inside[0] != 1:
                    wrong.append(inside[0])
                entered[0] += 1
                time.sleep(rng.choice([0, 0.0001, 0.001]))
                inside[0] -= 1
                gate.release()

    for wait in [in_background(work, seed) for seed in range(8)]:
        wait()
    assert wrong == []
    assert entered[0] > 50
    assert gate.try_acquire()
