"""The demo runs, and what it claims of shardstore was seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.shell import environment

ROOT = Path(__file__).parents[2]


def test_the_demo_loses_nothing() -> None:
    command = [sys.executable, "-m", "bench.demo", "--population", "personal", "--updates", "100", "--seconds", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=600)
    assert "it is the same, session by session" in done.stdout, done.stderr
    assert "updates acknowledged, 0 lost" in done.stdout
    assert "most revised sessions" in done.stdout
    assert "72 sessions, 72 shards" in done.stdout
    assert "shardstore keeps" not in done.stderr
    assert "every update is one revision" not in done.stderr
    lines = [
        line for line in done.stdout.splitlines() if not line.startswith(("    Session ", "    File ", "    agent:"))
    ]
    assert max(map(len, lines)) <= 80  # keys and paths are never broken
