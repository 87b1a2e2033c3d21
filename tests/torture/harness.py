"""What the torture tests share: starting the tools, reading their verdict, keeping the counts."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .faults import STRACE

REPOSITORY = Path(__file__).resolve().parents[2]

exhaustive = pytest.mark.torture
"""Runs with `make torture` only."""
sampled = pytest.mark.sampled
"""A part of what `make torture` has whole: runs with `make test` only."""
needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed: no fault from outside the process")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def environment() -> dict[str, str]:
    """Return the environment in which a tool finds this checkout first."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def tool(module: str, *args: str, timeout: float = 900.0, expect_complaints: bool = False) -> dict[str, Any]:
    """Run one of the tools in a process of its own; note its counts; fail with its complaints."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"tests.torture.{module}", *args],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1:] or [""]
    assert last[0].startswith("{"), (
        f"{module} {args} ended with {done.returncode}:\n{done.stderr[-3000:]}{done.stdout[-1000:]}"
    )
    result: dict[str, Any] = json.loads(last[0])
    report(module, {**result, "args": list(args), "seconds": round(time.monotonic() - began, 1)})
    shown = {k: v for k, v in result.items() if k != "complaints"}
    print(f"{module} {' '.join(args)}: {shown}")
    if expect_complaints:
        assert result["complaints"], f"{module} {args}: a broken store, and nothing was noticed"
    else:
        assert not result["complaints"], f"{len(result['complaints'])} complaints:\n" + "\n".join(
            result["complaints"][:12]
        )
    return result


def seconds(share: float) -> str:
    """Return a part's time as an argument: `share` seconds of a run of 20 minutes, as `make torture MINUTES=...` scales it."""
    return f"{share * float(os.environ.get('SHARDSTORE_TORTURE_MINUTES', '20')) / 20:.1f}"


def report(part: str, counts: dict[str, Any]) -> None:
    """Append machine-readable counts to the report of this run, where one is kept: that of `make torture`."""
    where = os.environ.get("SHARDSTORE_TORTURE_REPORT")
    if where is None:
        return
    said = [str(c)[:600] for c in counts.get("complaints", ())]
    row = {"part": part, "test": os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0], **counts}
    with open(where, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(row | {"complaints": len(said), "said": said[:5]}) + "\n")
