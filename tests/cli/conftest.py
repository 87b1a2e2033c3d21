"""Fixtures of the command line's tests."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import Store
from tests.cli.shell import Shell
from tests.conftest import verify, working_directory


@pytest.fixture
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    """Yield a shell in a directory of its own; what is in its store afterwards must be sound."""
    made = Shell(Path(tempfile.mkdtemp(prefix="shardstore-test-", dir=working_directory())).resolve())
    try:
        yield made
        if request.node.get_closest_marker("damages") is None and (made.store / "shardstore.json").exists():
            verify(made.store)
    finally:
        shutil.rmtree(made.directory, ignore_errors=True)


@pytest.fixture
def busy(shell: Shell) -> Shell:
    """Return a shell whose store holds a few sessions of different size, age and status."""
    with Store(shell.store, durability="relaxed", actor="agent:main") as store:
        store.create(LONG, {"status": "done", "totalTokens": 12, "prompt": "x" * 3000})
        store.create("agent:main:main", {"status": "running", "totalTokens": 5, "origin": {"to": "ä🏡"}})
        store.create("agent:ops:hook", {"status": "failed"})
        time.sleep(0.005)  # so that the order by time is known
        for tokens in (6, 7):
            store.patch("agent:main:main", {"totalTokens": tokens})
    return shell


LONG = "agent:main:cron:0b5c2c1e-6a57-4c59-93f5-6d1d2f2a3b4c:run:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"
