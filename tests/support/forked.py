"""Start processes by a fork of the stem (stem.py), and wait for them as one waits for those of subprocess."""

from __future__ import annotations

import atexit
import os
import pickle
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support import leftovers

VARIABLE = "SHARDSTORE_TEST_STEM"  # the socket of the stem, for the processes that a test starts
_NUMBER_SIZE = 4
_PATH_MAX = 60  # bytes of a directory in which a socket's path is short enough for every system


class Forked:
    """A process that the stem forked. What it has of subprocess.Popen means the same."""

    def __init__(
        self, module: str, *arguments: str, files: tuple[int, int, int], directory: str, environment: dict[str, str]
    ) -> None:
        """Run `main()` of a module there, with these three descriptors as its standard files."""
        request = (module, arguments, environment, directory)
        self._connection = socket.socket(socket.AF_UNIX)
        self.returncode: int | None = None
        try:
            self._connection.connect(stem())
            socket.send_fds(self._connection, [b"f"], files)
            self._connection.sendall(pickle.dumps(request))
            self._connection.shutdown(socket.SHUT_WR)
            self.pid = self._next(None)
        except BaseException:
            self._connection.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor of the connection to its keeper."""
        return self._connection.fileno()

    def poll(self) -> int | None:
        """Return its exit status if it has ended."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            status = self._next(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not os.WIFSTOPPED(status):
                self.returncode = os.waitstatus_to_exitcode(status)
                self._connection.close()
        return self.returncode

    def wait_until_stopped(self) -> None:
        """Wait until a signal has stopped it."""
        assert os.WIFSTOPPED(self._next(None)), f"process {self.pid} ended"

    def _next(self, seconds: float | None) -> int:
        """Read the next number that the keeper sends."""
        if seconds is not None and not select.select([self._connection], [], [], seconds)[0]:
            raise subprocess.TimeoutExpired("a forked process", seconds)
        data = self._connection.recv(_NUMBER_SIZE, socket.MSG_WAITALL)
        assert len(data) == _NUMBER_SIZE, "the keeper of the process is gone"
        return int.from_bytes(data, sys.byteorder, signed=True)


def stem() -> str:
    """Return the socket of the stem. The first who asks starts it; it serves all processes below, and ends with it."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = _start()
    return os.environ[VARIABLE]


def _start() -> str:
    from tests.support.peer import REPOSITORY, environment

    # A run of a mutant is killed, and its stem with it: what it leaves is where all of that run's files are.
    chosen = os.environ.get("SHARDSTORE_TEST_DIR", "")
    place = tempfile.mkdtemp(prefix="shardstore-stem-", dir=chosen if 0 < len(chosen) <= _PATH_MAX else None)
    path = str(Path(place, "socket"))
    command = [sys.executable, "-m", "tests.support.stem", path]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, env=environment()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    leftovers.share(process.stdin.fileno())
    with process.stdout as ready:
        assert ready.read(1), "the stem did not start"
    atexit.register(_end, process, os.getpid())
    return path


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() == owner:  # not in a child that was forked from it
        process.communicate(timeout=60)
