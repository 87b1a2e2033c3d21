"""What a test left open: connections of SQLite, files of its store, pipes and sockets.

Python tells of most of these when the garbage collector comes by, in the middle of another test. Here the test that
made them fails.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_ENDING_S = 5.0
_CHANNELS = ("pipe:", "socket:", "anon_inode:", "/dev/pt")
_shared: set[str] = set()  # names of channels, which the system gives to one only
_dropped: list[str] = []  # the files of connections that nobody closed


class Connection(sqlite3.Connection):
    """A connection that says when it is dropped open. Python itself says so from 3.13 on."""

    def __init__(self, database: Any, *args: Any, **kwargs: Any) -> None:
        self.database = str(database)
        super().__init__(database, *args, **kwargs)
        _connections.add(self)

    @property
    def is_open(self) -> bool:
        """Return whether nobody closed it."""
        try:
            return self.total_changes >= 0
        except sqlite3.ProgrammingError:
            return False

    def __del__(self) -> None:
        if self in _connections and self.is_open:
            _dropped.append(self.database)
            self.close()


def watch_connections() -> None:
    """Have every connection that this process opens from now on be a `Connection`."""
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect(database: Any, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        return real(database, *args, **{"factory": Connection, **kwargs})

    sqlite3.connect = connect  # type: ignore[assignment]


def connections() -> list[str]:
    """Return the files of the connections that were dropped open, or are open now; forget those dropped."""
    if any(one.is_open for one in list(_connections)):
        gc.collect()  # what is part of a cycle is not in use
    found = [*_dropped, *(one.database for one in list(_connections) if one.is_open)]
    _dropped.clear()
    return found


def below(root: Path) -> list[str]:
    """Return the paths that this process has open in a directory, where the system shows them."""
    end = time.monotonic() + _ENDING_S  # a thread that waited for a lock closes its descriptor at its turn
    while any(_is_below(path, root) for path in descriptors().values()) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    return sorted(path for path in descriptors().values() if _is_below(path, root))


def _is_below(path: str, root: Path) -> bool:
    return path == str(root) or path.startswith(f"{root}/")


def descriptors() -> dict[int, str]:
    """Return what this process has open, by descriptor; nothing but on Linux."""
    return dict(_descriptors()) if sys.platform == "linux" else {}


def _descriptors() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield int(name), os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own


def channels() -> dict[int, str]:
    """Return the pipes, sockets and terminals that this process has open, but for those that the whole run shares."""
    share(*_of_multiprocessing())
    return {fd: name for fd, name in descriptors().items() if name.startswith(_CHANNELS) and name not in _shared}


def _of_multiprocessing() -> list[int]:
    """Return the pipes to the helper processes that multiprocessing starts once, for the rest of this process."""
    tracker, server = (sys.modules.get(f"multiprocessing.{name}") for name in ("resource_tracker", "forkserver"))
    fds = [getattr(getattr(tracker, "_resource_tracker", None), "_fd", None)]
    fds.append(getattr(getattr(server, "_forkserver", None), "_forkserver_alive_fd", None))
    return [fd for fd in fds if fd is not None]


def left_open(before: dict[int, str]) -> dict[int, str]:
    """Return the channels that were not open before; a thread that was told to end has a while to close its own."""
    ends = time.monotonic() + _ENDING_S
    while True:
        left = {fd: name for fd, name in channels().items() if before.get(fd) != name}
        if not left or time.monotonic() > ends:
            return left
        gc.collect()
        time.sleep(0.01)


def share(*fds: int) -> None:
    """Note what one test opens for all that follow, as the pipes to a process that they share."""
    opened = descriptors()
    _shared.update(opened[fd] for fd in fds if fd in opened)
