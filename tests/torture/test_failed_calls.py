"""A system call that fails gives a typed error or success, never half a state, and leaves nothing behind.

Not a session is lost, no descriptor and no lock is left, another process works beside it, and the same process works
again when the fault is gone.  A failed sync is CommitUncertain, and what is read afterwards comes from the disk.
"""

from __future__ import annotations

import pytest

from .harness import exhaustive, needs_strace, sampled, seconds, tool
from .operations import OPERATIONS

QUICK = ("patch", "rewrite", "create")


@sampled
@pytest.mark.parametrize("name", QUICK)
def test_calls_fail_once(name: str) -> None:
    """Calls through os fail once with errors they give in life, writes are cut short: every ninth such try."""
    tool("exhaust", "failed-inside", name, "--every", "9")


@sampled
@pytest.mark.parametrize(
    "name",
    ["compact", "list-refresh", "delete", "patch-torn", "append-settle-again", "append-settle-anew", "log-archive"],
)
def test_some_calls_of_the_others_fail_once(name: str) -> None:
    """The long ones are sampled here; `make torture` has every call."""
    tool("exhaust", "failed-inside", name, "--every", "71")


@sampled
@pytest.mark.parametrize("name", ["patch"])
def test_the_kernel_writes_less_than_asked(name: str) -> None:
    """RLIMIT_FSIZE at lengths around what an update writes: real short writes, then EFBIG."""
    assert tool("exhaust", "short", name, "--every", "3")["outcomes"].get("error", 0) > 3


@exhaustive
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_call_of_all_fails_once(name: str) -> None:
    """All of it, as far as the time goes; of what is left out the table has the count."""
    tool("exhaust", "failed-inside", name, "--seconds", seconds(14))


@exhaustive
@needs_strace
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_system_call_fails_once(name: str) -> None:
    """Every system call that touches the store fails once in the kernel, with each of the eight errors, as far as the time goes."""
    tool("exhaust", "failed", name, "--all", "--seconds", seconds(30))


@exhaustive
@pytest.mark.parametrize(
    "name", ["patch", "patch-hot", "patch-grown", "rewrite", "create", "delete", "compact", "import"]
)
def test_the_kernel_writes_less_than_asked_at_every_length(name: str) -> None:
    """RLIMIT_FSIZE at every length of interest around what each operation writes."""
    tool("exhaust", "short", name, "--seconds", seconds(10))
