"""Late imports and forks keep out of each other's way."""

from __future__ import annotations

import os
import threading

from shardstore._imports import late_imports
from tests.support import actions


def test_a_fork_waits_for_a_late_import() -> None:
    """A child that is forked in the middle of one can never import that module."""
    importing, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with late_imports:
            importing.set()
            assert go_on.wait(30.0)
            order.append("imported")

    wait = actions.in_background(work)
    assert importing.wait(30.0)
    threading.Timer(0.05, go_on.set).start()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if order == ["imported"] else 1)
    wait(30.0)
    assert actions.wait_for(pid) == 0


def test_the_child_of_a_fork_can_import_late() -> None:
    """Also inside a late import: it may begin in the middle of another one."""

    def child() -> None:
        with late_imports, late_imports:
            pass

    with late_imports:
        assert actions.wait_for(actions.in_child(child)) == 0
    assert late_imports.acquire(blocking=False)
    late_imports.release()
