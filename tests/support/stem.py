"""A process that has imported what other processes of the tests need, and forks one for each that is asked for.

A run of the tests starts a thousand other processes. Starting Python and importing the store costs each 0.3 s; a fork
costs 10 ms. What is forked here is as clean as a new interpreter: this process has one thread and opens no store.

Whoever asks connects to the socket and sends three descriptors and a `Request`. A keeper is forked for it: the parent
that forks the process, sends its number, and then each status that waitpid gives.

`python -m tests.support.stem PATH` serves the socket PATH until its stdin closes. support/forked.py asks.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - like the others, so that no process need import it
import contextlib
import gc
import importlib
import importlib.util
import os
import pickle
import select
import shutil
import signal
import socket
import sqlite3  # noqa: F401
import struct
import sys
import time
from typing import NamedTuple

import tests.mutations.people
import tests.mutations.postgres
import tests.support.actions
import tests.support.peer  # noqa: F401

NUMBER = struct.Struct("<i")
_WAITING = 256  # askers that may queue


class Request(NamedTuple):
    """What a new process is: the module whose `main` it runs, and what its caller decides of any process."""

    module: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str


def serve(path: str) -> Request | None:
    """Fork until stdin closes; return None then. In each process that was forked, return what it is to be."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a keeper
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for those who use it
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(_WAITING)
        gc.freeze()  # else each child copies the pages of all these modules when it collects
        os.write(1, b"!")  # ready
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            if 0 in ready:
                return None
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    return keep(connection)


def keep(connection: socket.socket) -> Request:
    """Fork the process and send how it fares; return in the process only."""
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    try:
        request, fds = received(connection)
        child = os.fork()
        if child == 0:
            connection.close()
            settle(request, fds)
            return request
        for fd in fds:
            os.close(fd)
        tell(connection, child)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    os._exit(0)


def received(connection: socket.socket) -> tuple[Request, list[int]]:
    """Read a request and its descriptors."""
    _, fds, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as stream:
        return Request(*pickle.loads(stream.read())), fds


def tell(connection: socket.socket, child: int) -> None:
    """Send the number of the process, and its status when it stops and when it ends."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody asks any more
        connection.sendall(NUMBER.pack(child))
        while True:
            _, status = os.waitpid(child, os.WUNTRACED)
            connection.sendall(NUMBER.pack(status))
            if not os.WIFSTOPPED(status):
                return


def settle(request: Request, fds: list[int]) -> None:
    """Turn this child into what its caller would have started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    os.chdir(request.directory)
    sys.argv = [request.module, *request.arguments]


def main() -> int | None:
    """Serve; in a child, be the process."""
    if importlib.util.find_spec("psycopg") is not None:
        importlib.import_module("psycopg")
    request = serve(sys.argv[1])
    if request is None:
        shutil.rmtree(os.path.dirname(sys.argv[1]), ignore_errors=True)
        return 0
    return importlib.import_module(request.module).main()  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
