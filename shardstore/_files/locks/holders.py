"""Who holds which lock, from the kernel's own table (Linux: /proc/locks and /proc/PID/fd).

For messages and the eyes of a person: nothing here decides anything, and by the time it is read it may be untrue.
Elsewhere than on Linux nobody is found, and no error raised.

The table names a lock's file by inode, and by the device of its file system. On btrfs and overlayfs that is not the
device that stat gives, so there the open files of the owner decide; whose they may not be looked into is not found.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLE: Final = "/proc/locks"
# `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`. A waiter's line has `->` behind the number; an owner in a container
# that is not ours has pid 0 or -1.
_HELD: Final = re.compile(
    r"^\d+: FLOCK +\w+ +\w+ +(?P<pid>[1-9]\d*) (?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+) ", re.MULTILINE
)


class Held(NamedTuple):
    """One flock that is held."""

    pid: int
    device: int  # of the file system; on some not what stat gives
    inode: int


def held() -> list[Held]:
    """List every flock that is held on this machine; empty where the system does not tell."""
    try:
        with open(_TABLE, encoding="ascii") as table:
            text = table.read()
    except OSError:
        return []
    return [
        Held(int(found["pid"]), os.makedev(int(found["major"], 16), int(found["minor"], 16)), int(found["inode"]))
        for found in _HELD.finditer(text)
    ]


def holder(path: str | os.PathLike[str]) -> int | None:
    """Return the pid of the process that holds the file's lock; None when nobody does, or the system does not tell."""
    try:
        file = os.stat(path)
    except OSError:
        return None
    candidates = [lock for lock in held() if lock.inode == file.st_ino]
    for lock in candidates:
        if lock.device == file.st_dev:
            return lock.pid
    for lock in candidates:
        if any(os.path.samestat(status, file) for _, status in open_files(lock)):
            return lock.pid
    return None


def open_files(lock: Held) -> Iterator[tuple[str, os.stat_result]]:
    """Return, with their paths, the open files of a lock's owner that may be the locked one: those of its inode."""
    try:
        entries = list(os.scandir(f"/proc/{lock.pid}/fd"))
    except OSError:
        return  # gone, or another user's
    for entry in entries:
        with suppress(OSError):  # closed meanwhile
            status = entry.stat()
            if status.st_ino == lock.inode:
                yield os.readlink(entry.path), status
