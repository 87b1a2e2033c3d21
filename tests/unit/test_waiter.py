"""A wait in the kernel's queue by a helper thread, on behalf of a caller who may give up and come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from shardstore._files.locks.waiter import Parked


class Lock:
    """A lock as the kernel has it, but made of a semaphore; it counts."""

    def __init__(self) -> None:
        self.free = threading.Semaphore(0)
        self.taken = self.released = 0

    def take(self, fd: int) -> None:
        assert fd == 7
        self.free.acquire()
        self.taken += 1

    def release(self, fd: int) -> None:
        assert fd == 7
        self.released += 1


@pytest.fixture
def lock() -> Iterator[Lock]:
    """Give a lock that somebody else holds; in the end it is free for every helper that still waits."""
    made = Lock()
    yield made
    for _ in range(4):
        made.free.release()


def until(condition) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_turn_comes(lock: Lock) -> None:
    """Who waits has the lock when the helper got it, and nobody releases it for them."""
    parked = Parked(7, lock.take, lock.release)
    lock.free.release()
    assert parked.wait(time.monotonic() + 10) is True
    assert (lock.taken, lock.released, parked.over, parked.error) == (1, 0, True, None)


def test_a_wait_that_was_given_up_is_passed_on(lock: Lock) -> None:
    """The turn that comes while nobody wants it is given back at once."""
    parked = Parked(7, lock.take, lock.release)
    assert parked.wait(time.monotonic() + 0.01) is False
    lock.free.release()
    until(lambda: lock.released == 1)
    assert parked.rejoin() is False  # it is over: stand in line anew


def test_a_wait_that_was_given_up_is_taken_over(lock: Lock) -> None:
    """Who comes back before the turn has the place that was kept."""
    parked = Parked(7, lock.take, lock.release)
    assert parked.wait(time.monotonic()) is False
    assert parked.rejoin() is True
    lock.free.release()
    assert parked.wait(None) is True
    assert lock.released == 0


def test_who_abandons_after_the_turn_came_passes_it_on(lock: Lock) -> None:
    """The lock that nobody asked for any more does not stay taken."""
    parked = Parked(7, lock.take, lock.release)
    lock.free.release()
    until(lambda: parked.over)
    parked.abandon()
    assert (lock.taken, lock.released) == (1, 1)


def test_an_error_is_the_callers(lock: Lock) -> None:
    """What the system answers instead of the lock reaches who waits, and nothing is released."""

    def fail(fd: int) -> None:
        raise OSError(5, "input/output error")

    parked = Parked(7, fail, lock.release)
    assert parked.wait(time.monotonic() + 10) is True
    assert isinstance(parked.error, OSError)
    assert lock.released == 0
    assert parked.inherit() is False  # the helper is gone: the caller closes


def test_an_interrupt_leaves_nothing_taken(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt while waiting: the turn that comes later is passed on."""
    parked = Parked(7, lock.take, lock.release)

    class Interrupted:
        def acquire(self, timeout: float) -> bool:
            raise KeyboardInterrupt

        def release(self) -> None:
            """Nobody waits."""

    monkeypatch.setattr(parked, "_arrived", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        parked.wait(None)
    lock.free.release()
    until(lambda: lock.released == 1)
