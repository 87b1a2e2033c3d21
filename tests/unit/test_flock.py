"""The kernel's lock of one open file, by itself."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardstore import LockTimeout, Store
from shardstore._files.locks import flock, holders, waiter
from shardstore.errors import StoreIOError, UnsupportedFileSystem
from tests.support.actions import in_background, in_child, wait_for
from tests.support.peer import Peers, hear, say


def soon() -> float:
    """Return a deadline that a free lock meets and a held one does not."""
    return time.monotonic() + 0.15


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Yield a file to lock."""
    file = tmp_path / "file"
    file.write_bytes(b"")
    yield file


@pytest.fixture
def two(path: Path) -> Iterator[tuple[flock.KernelLock, flock.KernelLock, Path]]:
    """Yield two locks on one file, through two descriptors, as two processes have them."""
    fds = [os.open(path, os.O_RDWR) for _ in range(2)]
    locks = [flock.KernelLock(fd) for fd in fds]
    yield locks[0], locks[1], path
    for one in locks:
        one.close()


def test_the_kernel_lock_excludes(two: tuple[flock.KernelLock, flock.KernelLock, Path]) -> None:
    """A second descriptor gets the lock only after the first released it; waiting ends on time."""
    one, other, _ = two
    assert one.acquire(None)
    begun = time.monotonic()
    assert other.acquire(soon()) is False
    assert 0.1 < time.monotonic() - begun < 1.0
    one.release()
    assert other.acquire(soon())
    assert one.acquire(time.monotonic()) is False
    other.release()


def test_a_wait_that_was_given_up_neither_keeps_nor_loses_the_lock(
    two: tuple[flock.KernelLock, flock.KernelLock, Path],
) -> None:
    """The lock waiter passes an unwanted lock on, and is taken over by a caller who comes back."""
    one, other, _ = two
    for _ in range(10):
        assert one.acquire(None)
        assert other.acquire(time.monotonic() + 0.01) is False
        one.release()
        deadline = time.monotonic() + 5
        assert one.acquire(deadline), "the lock went to a waiter that had given up, and stayed there"
        back = in_background(lambda: other.acquire(time.monotonic() + 5))
        time.sleep(0.005)
        one.release()
        assert back() is True
        other.release()
    assert one.acquire(time.monotonic() + 1)
    one.release()


def test_closing_while_a_helper_waits_leaves_nothing_locked(path: Path) -> None:
    """A descriptor that is closed under a lock waiter is closed by it, and its lock harms nobody."""
    holder = flock.KernelLock(os.open(path, os.O_RDWR))
    waiter = flock.KernelLock(os.open(path, os.O_RDWR))
    assert holder.acquire(None)
    assert waiter.acquire(time.monotonic() + 0.02) is False
    waiter.close()
    holder.release()
    third = flock.KernelLock(os.open(path, os.O_RDWR))
    assert third.acquire(time.monotonic() + 5)
    third.release()
    third.close()
    holder.close()
    holder.close()
    if sys.platform == "linux":
        deadline = time.monotonic() + 5
        while _open_on(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _open_on(path) == 0


def _open_on(path: Path) -> int:
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{fd}") == str(path)
        except OSError:
            continue
    return count


@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """Where the system cannot lock there is a typed error, never a soft lock or an endless wait."""

    def fail(*args: object, **kwargs: object) -> bool:
        raise OSError(getattr(errno, number), "no locks")

    monkeypatch.setattr(flock, "lock_descriptor", fail)
    fd = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(UnsupportedFileSystem):
            flock.try_lock(fd)
    finally:
        os.close(fd)


Two = tuple[flock.KernelLock, flock.KernelLock, Path]


def held_by_a_third(path: Path) -> flock.KernelLock:
    """Lock a file through a third descriptor."""
    third = flock.KernelLock(os.open(path, os.O_RDWR))
    assert third.try_acquire()
    return third


def give_up(lock: flock.KernelLock) -> None:
    """Wait in vain, until there is a wait that was given up: a busy machine may use all the time for the tries."""
    while lock.abandoned is None:
        assert lock.acquire(time.monotonic() + 0.05) is False


def test_a_try_of_a_held_lock_is_over_at_once(two: Two) -> None:
    one, other, path = two
    assert one.try_acquire()
    assert other.try_acquire() is False
    fd = os.open(path, os.O_RDWR)
    assert flock.try_lock(fd) is False
    one.release()
    assert flock.try_lock(fd) is True
    assert other.try_acquire() is False
    flock.unlock(fd)
    assert other.try_acquire()
    os.close(fd)
    other.release()


@pytest.mark.parametrize("deadline", [None, 30.0])
def test_whoever_waits_gets_the_lock_only_when_it_is_free(two: Two, deadline: float | None) -> None:
    """In the kernel's queue: by the caller without a deadline, by a helper with one."""
    one, other, _ = two
    assert one.try_acquire()
    free: list[bool] = []
    wait = in_background(lambda: (other.acquire(None if deadline is None else time.monotonic() + deadline), list(free)))
    time.sleep(0.1)
    free.append(True)
    one.release()
    assert wait() == (True, [True])
    assert one.try_acquire() is False
    other.release()


def test_short_tries_end_before_the_deadline(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short sleeps, as far as they fit; none for a wait that was given up and stands in the queue."""
    one, other, _ = two
    slept: list[float] = []
    monkeypatch.setattr(flock.time, "sleep", slept.append)
    assert one.try_acquire()
    now = time.monotonic()
    for deadline, count in ((None, 2), (now + 60, 2), (now, 0), (now - 1, 0)):
        assert other.try_shortly(deadline) is False
        assert len(slept) == count
        slept.clear()
    monkeypatch.setattr(flock.time, "sleep", lambda _: one.release())
    assert other.try_shortly(None) is True
    other.release()
    assert one.try_acquire()
    monkeypatch.undo()
    give_up(other)
    monkeypatch.setattr(flock.time, "sleep", slept.append)
    assert other.try_shortly(None) is False
    assert other.try_acquire() is False
    assert slept == []
    one.release()


def test_without_threads_it_polls_and_keeps_the_deadline(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever more seldom, and not beyond the time that is left."""

    def refuse(*_: object) -> None:
        raise flock.NoThread

    monkeypatch.setattr(flock, "LockWaiter", refuse)
    one, other, _ = two
    assert one.try_acquire()
    pauses: list[float] = []
    clock = [100.0]
    monkeypatch.setattr(flock.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        flock.time, "sleep", lambda seconds: (pauses.append(seconds), clock.__setitem__(0, clock[0] + seconds))
    )
    assert other.acquire(100.1) is False
    assert clock[0] == pytest.approx(100.1)
    assert pauses[2:8] == pytest.approx([0.0005, 0.001, 0.002, 0.004, 0.008, 0.016])
    assert max(pauses) <= 0.02
    assert other._poll(clock[0]) is False, "no time is left"
    monkeypatch.setattr(flock.time, "sleep", lambda _: one.release())
    assert other._poll(None) is True
    assert one.try_acquire() is False
    other.release()


def test_greenlets_never_wait_in_the_kernel(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole process would stand still: a helper waits, also without a deadline."""
    one, other, _ = two
    waited: list[int] = []
    real = flock._wait
    monkeypatch.setattr(flock, "is_cooperative", lambda: True)

    def wait(fd: int) -> None:
        waited.append(threading.get_ident())
        threading.Timer(0.05, one.release).start()
        real(fd)

    monkeypatch.setattr(flock, "_wait", wait)
    assert one.try_acquire()
    assert other.acquire(None)
    assert waited and threading.get_ident() not in waited
    other.release()


ERRORS = {"EIO": StoreIOError, "EBADF": UnsupportedFileSystem, "ENOLCK": UnsupportedFileSystem}


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("call", ["try", "wait", "give", "try_lock", "unlock"])
def test_every_failing_call_is_a_typed_error(two: Two, monkeypatch: pytest.MonkeyPatch, number: str, call: str) -> None:
    """A lock that was not taken is never reported as held, nor one as given back that was not."""
    one, other, _ = two

    def fail(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, number), "no")

    assert other.try_acquire()
    monkeypatch.setattr(flock, "lock_descriptor", fail)
    monkeypatch.setattr(flock, "unlock_descriptor", fail)
    calls = {
        "try": lambda: (setattr(one, "take", fail), one.try_acquire()),
        "wait": lambda: (monkeypatch.setattr(flock, "_wait", fail), one.acquire(None)),
        "give": lambda: (setattr(other, "give", fail), other.release()),
        "try_lock": lambda: flock.try_lock(0),
        "unlock": lambda: flock.unlock(0),
    }
    with pytest.raises(ERRORS[number]) as caught:
        calls[call]()
    assert caught.value.errno == getattr(errno, number)
    if number != "EIO":
        assert os.strerror(getattr(errno, number)) in str(caught.value)


def test_a_helpers_failure_is_raised(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, _ = two

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(flock, "_wait", fail)
    assert one.try_acquire()
    with pytest.raises(StoreIOError):
        other.acquire(time.monotonic() + 30)
    assert other.abandoned is None
    one.release()


def test_a_closed_lock_stays_closed(path: Path) -> None:
    """Its number may be another file's by now: neither a call nor a second close touches that."""
    one = flock.KernelLock(os.open(path, os.O_RDWR))
    number = one._fd
    assert one.try_acquire()
    one.close()
    again = os.open(path, os.O_RDWR)
    assert again == number
    for call in (one.try_acquire, one.release):
        with pytest.raises(UnsupportedFileSystem):
            call()
    one.close()
    assert flock.try_lock(again), "closing gave the lock back"
    os.close(again)


def test_a_forked_child_closes_its_copy_alone(path: Path) -> None:
    """Whatever the parent's helper waits for: there is none in the child."""
    holder, one = held_by_a_third(path), flock.KernelLock(os.open(path, os.O_RDWR))
    give_up(one)
    fd = one._fd

    def child() -> None:
        one.after_fork()
        assert one.abandoned is None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    assert wait_for(in_child(child)) == 0
    os.fstat(fd)
    holder.release()
    assert one.acquire(time.monotonic() + 30)
    one.close()
    holder.close()


def test_a_fork_waits_for_whoever_opens_or_closes(path: Path) -> None:
    """A child must know each descriptor that it inherits."""
    inside, go_on, order = threading.Event(), threading.Event(), []

    def opening() -> None:
        with flock.descriptors:
            inside.set()
            assert go_on.wait(30.0)
            order.append("opened")

    wait = in_background(opening)
    assert inside.wait(30.0)
    threading.Timer(0.05, go_on.set).start()

    def child() -> None:
        assert order == ["opened"]
        assert flock.descriptors.acquire(blocking=False)

    assert wait_for(in_child(child)) == 0
    wait()
    assert flock.descriptors.acquire(blocking=False)
    flock.descriptors.release()


def test_a_descriptor_of_number_0_is_closed_too(path: Path) -> None:
    """A daemon may have closed its stdin: then the first file that it opens has that number."""

    def child() -> None:
        os.close(0)
        one = flock.KernelLock(os.open(path, os.O_RDWR))
        assert one._fd == 0
        assert one.try_acquire()
        one.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(0)

    assert wait_for(in_child(child)) == 0


def test_a_try_that_fails_waits_for_nothing_and_looks_nobody_up(
    root: Path, crew: Callable[[int], Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With lock_timeout=0 a held session costs some system calls: no sleep, no thread, no table of locks."""
    with Store(root, durability="relaxed", lock_timeout=0) as store:
        store.create("k", {})
        (peer,) = crew(1)
        peer.start(hold_until_told, root, "k")
        peer.heard()
        looks: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(holders, "held", lambda: looks.append(None) or [])
            patch.setattr(time, "sleep", lambda _seconds: pytest.fail("it slept"))
            patch.setattr(waiter._helpers, "run", lambda _job: pytest.fail("a thread waits"))
            with pytest.raises(LockTimeout) as caught:
                store.patch("k", {})
            assert not looks
            assert "holder is unknown" in str(caught.value)
            assert len(looks) == 1
        peer.tell()
        peer.result()


def hold_until_told(root: Path, key: str) -> None:
    """Hold a session's lock, in another process."""
    with Store(root) as store, store.edit(key):
        say("held")
        hear()
