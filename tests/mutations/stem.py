"""A process that has collected tests, and forks one run of some of them for each request: python stem.py TEST...

Starting Python, importing the project and collecting tests costs more than most runs. So this is done once, without a
mutant. A run puts the mutant's functions in the place of the loaded ones. A mutant that differs outside of functions
cannot be put there: it takes a stem of its own, which is started with the mutant on the disk.

Protocol: {"tests": [...], "seconds": limit, "mutant": [file, original, source] or null} in. Out: the exit status, null
for a run that took longer, or NOT_IN_PLACE. What a run started and left behind ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

PAUSE_S = 0.003
NOT_IN_PLACE = 71
_ARGUMENTS = ("-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--basetemp=../tmp")


class Stem:
    """A plugin that forks where pytest would run what it has collected."""

    def __init__(self, requests: TextIO, answers: TextIO) -> None:
        self.requests, self.answers = requests, answers
        self.forked = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """Run the tests of a request in each child, and none in this process."""
        if session.testsfailed:
            return (yield)  # which says that collecting failed
        collected = {item.nodeid: item for item in session.items}
        session.items = []
        self._answer("ready")
        for line in self.requests:
            request = json.loads(line)
            child = os.fork()
            if child == 0:
                self.forked = True
                os.setsid()
                if request["mutant"] is not None and not put_in_place(*request["mutant"]):
                    os._exit(NOT_IN_PLACE)
                session.items = [collected[test] for test in request["tests"]]
                break
            self._answer(ended(child, time.monotonic() + request["seconds"]))
        return (yield)

    def _answer(self, answer: object) -> None:
        print(json.dumps(answer), file=self.answers, flush=True)


def put_in_place(file: str, original: str, source: str) -> bool:
    """Put a mutant's functions in the place of the loaded ones; return whether that is all the difference."""
    # Imported here: by now pytest has put the checkout on the path.
    from tests.mutations.swap import swap

    return swap(file, original, source)


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


def main() -> int:
    """Collect the tests that are named, and serve."""
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    stem, arguments = Stem(requests, answers), sys.argv[1:]
    status: Any = 1
    try:
        status = pytest.main([*_ARGUMENTS, *arguments], plugins=[stem])
    finally:
        if stem.forked:
            os._exit(int(status))
    return int(status)


if __name__ == "__main__":
    del sys.path[0]  # this directory, whose modules have short names
    sys.exit(main())
