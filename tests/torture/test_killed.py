"""A process that dies at any system call leaves the old version or the new one, and nothing to clean up.

Acknowledged means new.  Another process finds list equal to truth, verify finds nothing, and the next update works.
"""

from __future__ import annotations

import pytest

from .harness import exhaustive, needs_strace, sampled, seconds, tool
from .operations import OPERATIONS

QUICK = ("create", "patch-hot", "rewrite", "patch-torn", "delete")


@sampled
@pytest.mark.parametrize("name", QUICK)
def test_killed_before_after_and_inside_calls(name: str) -> None:
    """Killed in its own process around the calls through os, and half way through writes: every seventh such try."""
    assert tool("exhaust", "killed-inside", name, "--every", "7")["outcomes"]["killed"] > 2


@sampled
@pytest.mark.parametrize(
    "name",
    [
        "compact",
        "create-many",
        "delete-all",
        "restore-many",
        "list-refresh",
        "repair",
        "append-settle",
        "append-settle-again",
        "log-replace",
        "rename",
        "log-restore",
    ],
)
def test_killed_at_some_calls_of_the_long_operations(name: str) -> None:
    """The long ones are sampled here; `make torture` has every call."""
    assert tool("exhaust", "killed-inside", name, "--every", "23")["outcomes"]["killed"] > 3


@exhaustive
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_before_after_and_inside_each_call_of_all(name: str) -> None:
    """All of it, which the quick run samples, as far as the time goes."""
    tool("exhaust", "killed-inside", name, "--seconds", seconds(14))


@exhaustive
@needs_strace
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_each_system_call(name: str) -> None:
    """Killed by the kernel at every system call that touches the store, SQLite's and the interpreter's included."""
    result = tool("exhaust", "killed", name, "--seconds", seconds(20))
    killed, tries = result["outcomes"]["killed"], result["tries"]
    # Some calls depend on the time, as the look at the queue does.
    assert killed >= tries - max(1, tries // 20), "calls that were seen once did not come again"
