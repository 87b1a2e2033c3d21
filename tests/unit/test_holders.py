"""Who holds a lock, as far as the system tells."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from shardstore._files.locks import holders
from shardstore._files.locks.flock import KernelLock
from tests.support.peer import one_peer

LINUX = pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="the system does not tell")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "locks"
    monkeypatch.setattr(holders, "_TABLE", str(made))
    return made


def test_the_table_is_parsed(table: Path) -> None:
    """Flocks that are held, shared ones too; no waiter, no other kind, no owner or file without a name."""
    table.write_text(
        "1: FLOCK  ADVISORY  WRITE 4711 fe:1f:1234 0 EOF\n"
        "1: -> FLOCK  ADVISORY  WRITE 4712 fe:1f:1234 0 EOF\n"
        "2: POSIX  ADVISORY  WRITE 4713 00:2a:99 0 9223372036854775807\n"
        "3: FLOCK  ADVISORY  READ 4714 00:2a:99 0 EOF\n"
        "4: FLOCK  ADVISORY  WRITE 0 00:2a:100 0 EOF\n"
        "5: FLOCK  ADVISORY  WRITE -1 00:2a:100 0 EOF\n"
        "6: FLOCK  ADVISORY  WRITE 4715 <none>:0 0 EOF\n"
        "7: LEASE  ACTIVE    READ 4716 00:2a:101 0 EOF\n"
    )
    assert holders.held() == [(4711, os.makedev(0xFE, 0x1F), 1234), (4714, os.makedev(0, 0x2A), 99)]


def test_no_table_no_holder(table: Path) -> None:
    """Where the system does not tell, nobody is named."""
    assert not table.exists()
    assert holders.held() == []
    assert holders.holder(__file__) is None


@LINUX
def test_the_device_of_the_table_may_differ_from_that_of_stat(table: Path, tmp_path: Path) -> None:
    """On btrfs and overlayfs it does: the owner's open files tell then; the same inode elsewhere is another file."""
    path = tmp_path / "file"
    path.touch()
    status = path.stat()
    line = "1: FLOCK  ADVISORY  WRITE {} 00:00:{} 0 EOF\n"
    assert status.st_dev != 0
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        table.write_text(line.format(os.getpid(), status.st_ino))
        assert holders.holder(path) == os.getpid()
        table.write_text(line.format(os.getppid(), status.st_ino))
        assert holders.holder(path) is None
    table.write_text(line.format(os.getpid(), status.st_ino))
    assert holders.holder(path) is None


@LINUX
def test_the_holder_is_named(tmp_path: Path) -> None:
    """holder gives the pid of whoever holds the lock, of another process too, and None when nobody does."""
    path = tmp_path / "file"
    path.touch()
    assert holders.holder(path) is None
    mine = KernelLock(os.open(path, os.O_RDWR))
    assert mine.acquire(None)
    assert holders.holder(path) == os.getpid()
    mine.release()
    mine.close()
    with one_peer() as peer:
        peer.start(_hold, str(path))
        assert peer.heard() == "holding"
        assert holders.holder(path) == peer.pid
        peer.tell()
        peer.result()
    assert holders.holder(path) is None
    assert holders.holder(path.with_name("absent")) is None


def _hold(path: str) -> None:
    from tests.support.peer import hear, say

    held = KernelLock(os.open(path, os.O_RDWR))
    assert held.acquire(None)
    say("holding")
    hear()
    held.close()
