"""An exception from outside, at many bytecodes of a call: no session stays locked, and no connection is out of step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios import postgres as scenarios
from tests.support.postgres import server_or_skip

STEP = int(os.environ.get("SHARDSTORE_TEST_STEP", "29"))  # 1: every bytecode, in four minutes


@pytest.mark.parametrize("call", ["update", "edit", "append", "delete", "get"])
def test_an_exception_from_outside_unlocks(root: Path, call: str) -> None:
    """Another client locks the row at once; this process writes, on what is committed."""
    server_or_skip()
    scenarios.an_exception_from_outside_unlocks(root, call, STEP)
