"""Run everything in tests/torture once, and say at the end what was tried, how often, with what result, and what was not.

python -m tests.torture --workers 2 --minutes 20 --out build/torture.json
python -m tests.torture --minutes 60 tests/torture/test_people.py      one part

The report is kept a second time under the name of the commit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from .table import tables


def commit() -> str:
    """Name the commit that is tried; with a "+" when the checkout holds something else."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def cores() -> int:
    """Count the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> int:
    """Run, print the tables, return pytest's verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", default="2")
    parser.add_argument("--minutes", default="20", help="about how long on two cores")
    parser.add_argument("--out", type=Path, default=Path("build/torture.json"))
    parser.add_argument("tests", nargs="*", default=["tests/torture"])
    args, rest = parser.parse_known_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    head = {
        "part": "run",
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": cores(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "minutes": float(args.minutes),
        "whole": args.tests == ["tests/torture"] and not rest,
    }
    args.out.write_text(json.dumps(head) + "\n")
    began = time.monotonic()
    env = {
        **os.environ,
        "SHARDSTORE_TORTURE_REPORT": str(args.out.resolve()),
        "SHARDSTORE_TORTURE_MINUTES": args.minutes,
    }
    command = ["pytest", "-n", args.workers, "--dist", "worksteal", "-m", "not sampled", "-q", *rest, *args.tests]
    status = subprocess.run([sys.executable, "-m", *command], env=env, check=False).returncode
    with args.out.open("a") as file:
        file.write(json.dumps({"part": "over", "seconds": round(time.monotonic() - began), "status": status}) + "\n")
    shutil.copy(args.out, args.out.with_name(f"torture-{head['commit']}.json"))
    print("\n" + tables(args.out))
    return status


if __name__ == "__main__":
    sys.exit(main())
