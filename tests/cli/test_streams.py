"""stdin, stdout and stderr that are closed, full, or left by their reader: the command does its work all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardstore import Store
from tests.cli.shell import COMMAND, SECONDS, Shell, environment

CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


def with_streams(shell: Shell, streams: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command by a shell that redirects its streams."""
    words = [*COMMAND, *map(str, arguments), "--store", str(shell.store)]
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {streams}', "sh", *words],
        env=environment(), cwd=shell.directory, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip


@pytest.mark.parametrize("streams", CLOSED)
def test_closed_streams(busy: Shell, streams: str) -> None:
    """As cron jobs and daemons close them: same exit codes, no traceback, and what is to be written is written."""
    done = with_streams(busy, streams, "patch", "agent:main:main", "turn=1")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    with Store(busy.store) as store:
        assert store["agent:main:main"]["turn"] == 1
    done = with_streams(busy, streams, "get", "nobody")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    done = with_streams(busy, streams, "list")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert ("agent:ops:hook" in done.stdout) == (">&-" not in streams.replace("2>&-", ""))


@needs_full
def test_what_is_full(busy: Shell) -> None:
    """A message that nobody can read is no failure of what was done; a result that nobody can read is one."""
    assert with_streams(busy, "2>/dev/full", "patch", "agent:main:main", "turn=2").returncode == 0
    assert with_streams(busy, "2>/dev/full", "get", "nobody").returncode == 3
    done = with_streams(busy, ">/dev/full", "list")
    assert done.returncode == 1
    assert done.stderr == "Error: the output cannot be written: No space left on device\n"
    with Store(busy.store) as store:
        assert store["agent:main:main"]["turn"] == 2


def test_without_the_streams_opened_a_command_fails(busy: Shell) -> None:
    """What opens them is what the first test needs."""
    code = "import shardstore_cli.main as m; m._open_what_is_closed = lambda: None; m.main()"
    words = [sys.executable, "-c", code, "list", "--store", str(busy.store)]
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&-', "sh", *words],
        env=environment(), cwd=busy.directory, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (1, True)
