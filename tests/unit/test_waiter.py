"""A wait in the kernel's queue by a helper thread: it may be given up, taken over, or left to the helper."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore._files.locks.waiter import LockWaiter


class Queue:
    """Stands in for the kernel: a lock that is granted when the test says so."""

    def __init__(self) -> None:
        self.turn = threading.Semaphore(0)
        self.released: list[int] = []
        self.error: OSError | None = None

    def take(self, _fd: int) -> None:
        self.turn.acquire()
        if self.error is not None:
            raise self.error

    def release(self, fd: int) -> None:
        self.released.append(fd)


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue()
    yield made
    made.turn.release()  # no helper of this test stays behind


def until_over(helper: LockWaiter) -> None:
    deadline = time.monotonic() + 5
    while not helper.over:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_turn_comes(queue: Queue) -> None:
    helper = LockWaiter(7, queue.take, queue.release)
    queue.turn.release()
    assert helper.wait(time.monotonic() + 5)
    assert helper.error is None
    assert queue.released == []


def test_giving_up_passes_the_turn_on(queue: Queue) -> None:
    helper = LockWaiter(7, queue.take, queue.release)
    began = time.monotonic()
    assert not helper.wait(began + 0.05)
    assert 0.04 < time.monotonic() - began < 1.0
    queue.turn.release()
    until_over(helper)
    assert queue.released == [7], "the lock stayed with somebody who had given up"
    assert not helper.rejoin()


def test_a_wait_that_was_given_up_is_taken_over(queue: Queue) -> None:
    helper = LockWaiter(7, queue.take, queue.release)
    assert not helper.wait(time.monotonic() + 0.01)
    assert helper.rejoin()
    queue.turn.release()
    assert helper.wait(time.monotonic() + 5)
    assert queue.released == []


def test_abandoning_a_turn_that_came_gives_it_back(queue: Queue) -> None:
    helper = LockWaiter(7, queue.take, queue.release)
    queue.turn.release()
    until_over(helper)
    helper.abandon()
    assert queue.released == [7]


def test_a_failure_is_told_and_nothing_is_released(queue: Queue) -> None:
    queue.error = OSError(37, "no locks")
    helper = LockWaiter(7, queue.take, queue.release)
    queue.turn.release()
    assert helper.wait(time.monotonic() + 5)
    assert helper.error is queue.error
    helper.abandon()
    assert queue.released == []


def test_a_descriptor_that_is_closed_meanwhile_is_closed_by_the_helper(queue: Queue, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    helper = LockWaiter(fd, queue.take, queue.release)
    assert not helper.wait(time.monotonic() + 0.01)
    assert helper.inherit()
    os.fstat(fd)
    queue.turn.release()
    until_over(helper)
    deadline = time.monotonic() + 5
    with pytest.raises(OSError, match="Bad file descriptor"):
        while time.monotonic() < deadline:
            os.fstat(fd)
    assert queue.released == [fd]
    assert not helper.inherit(), "it is over: the caller closes"


def test_helpers_are_used_again(queue: Queue) -> None:
    """A hundred waits, one after the other, take a few threads."""
    before = threading.active_count()
    for _ in range(100):
        helper = LockWaiter(7, queue.take, queue.release)
        queue.turn.release()
        assert helper.wait(time.monotonic() + 5)
        until_over(helper)
    assert threading.active_count() <= before + 3
