"""A process that has imported pytest and forks one run of tests for each line of arguments that it is sent.

Starting Python and pytest costs more than most runs. Nothing of the project is imported here: each run imports it anew,
with the mutant that is in place by then. Protocol: {"arguments": [...], "seconds": limit} in, the exit status out; null
for a run that took longer. What a run started and left behind ends with it.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - like the others, so that a run need not
import contextlib
import json
import os
import signal
import sqlite3  # noqa: F401
import sys
import time
import traceback

import filelock  # noqa: F401
import hypothesis.stateful  # noqa: F401
import orjson  # noqa: F401
import pytest

PAUSE_S = 0.01


def serve() -> None:
    """Fork a run for each line."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            run(request["arguments"])
        print(json.dumps(ended(child, time.monotonic() + request["seconds"])), flush=True)


def run(arguments: list[str]) -> None:
    """Run the tests in a process group of their own; never returns."""
    status = 70
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        status = int(pytest.main(arguments))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def ended(child: int, deadline: float) -> int | None:
    """Wait for a run and return its status; None after the deadline."""
    status = None
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(PAUSE_S)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        status = None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return None if status is None else os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    del sys.path[0]  # this directory, whose modules have short names
    serve()
