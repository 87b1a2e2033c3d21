"""The kernel's lock of one open file, by itself."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore._files.locks import flock
from shardstore.errors import UnsupportedFileSystem
from tests.support.actions import in_background


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
    import errno

    def fail(*args: object, **kwargs: object) -> bool:
        raise OSError(getattr(errno, number), "no locks")

    monkeypatch.setattr(flock, "lock_descriptor", fail)
    fd = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(UnsupportedFileSystem):
            flock.try_lock(fd)
    finally:
        os.close(fd)
