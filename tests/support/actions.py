"""What other processes do to a store in these tests. Light to import: a peer starts in a tenth of a second."""

from __future__ import annotations

import operator
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardstore import Draft, Store
from tests.support.peer import hear, say

Where = str | Path


def add_one(draft: Draft, pause: float = 0.0) -> None:
    """Read a counter, wait as if thinking, write it back."""
    seen = draft.get("n", 0)
    if pause:
        time.sleep(pause)
    draft["n"] = seen + 1


def increment(root: Where, key: str, times: int, pause: float = 0.0, **options: Any) -> None:
    """Add 1 to field n, `times` times, with a pause between reading and writing."""
    with Store(root, **options) as store:
        for _ in range(times):
            store.update(key, lambda draft: add_one(draft, pause))


def call(root: Where, verb: str, *args: Any, **kwargs: Any) -> Any:
    """Call one verb on a store of its own; "archive.restore" is one, too."""
    with Store(root) as store:
        return operator.attrgetter(verb)(store)(*args, **kwargs)


def get_data(root: Where, key: str) -> dict[str, Any] | None:
    """Return the entry as this process reads it."""
    with Store(root) as store:
        session = store.get(key)
        return None if session is None else session.data


def hold(root: Where, key: str, field: str = "held", **options: Any) -> int:
    """Keep the session's lock until told to go on; then set a field and return the new rev."""
    with Store(root, **options) as store:

        def wait(draft: Draft) -> None:
            say("holding")
            hear()
            draft[field] = draft.get(field, 0) + 1

        session = store.update(key, wait)
        return session.rev


def timed_update(root: Where, key: str, field: str, value: Any, timeout: float = 10.0) -> tuple[int, float]:
    """Patch one field; return the new rev and the seconds it took."""
    with Store(root, lock_timeout=timeout) as store:
        store.get(key)
        say("calling")
        begun = time.monotonic()
        session = store.update(key, lambda draft: draft.update({field: value}))
        return session.rev, time.monotonic() - begun


def call_at(moment: float, root: Where, verb: str, *args: Any, **kwargs: Any) -> Any:
    """Call one verb at a moment of the monotonic clock, which all processes of a machine share."""
    with Store(root) as store:
        sleep_until(moment)
        return operator.attrgetter(verb)(store)(*args, **kwargs)


def sleep_until(moment: float) -> None:
    """Sleep almost until the moment, then spin: the start of a race, within microseconds."""
    time.sleep(max(0.0, moment - time.monotonic() - 0.002))
    while time.monotonic() < moment:
        pass


def keep_patching(root: Where, key: str, field: str, **options: Any) -> None:
    """Patch a growing number into a field until killed, saying each number after it was acknowledged."""
    with Store(root, **options) as store:
        for number in range(1, 1_000_000):
            store.patch(key, {field: number})
            say(number)


def in_child(function: Callable[[], Any]) -> int:
    """Run a function in a forked child and return its pid; the child ends with 0, or 1 when the function raised."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def wait_for(pid: int, timeout: float = 30.0) -> int:
    """Wait for a forked child; return its exit status; kill it when it takes too long."""
    deadline = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"the child {pid} did not end in {timeout} s")
        time.sleep(0.005)


def in_background(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """Run a function in a thread; return a function that waits for its value or raises its exception."""
    import threading

    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend([True, function(*args)])
        except BaseException as error:
            outcome.extend([False, error])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait(timeout: float = 30.0) -> Any:
        thread.join(timeout)
        assert outcome, f"{function} did not return in {timeout} s"
        if outcome[0]:
            return outcome[1]
        raise outcome[1]

    return wait


def seconds(function: Callable[[], Any]) -> float:
    """Measure a call."""
    begun = time.monotonic()
    function()
    return time.monotonic() - begun
