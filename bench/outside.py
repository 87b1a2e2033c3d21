"""Processes of their own, as plain as a user's: nothing of the benchmark is imported in them."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LIBRARY = Path(__file__).parents[1]  # where shardstore stands, unless the environment says otherwise before it


def run(command: Sequence[str]) -> str:
    """Run a command to its end; return what it printed. Raises RuntimeError with its message when it fails."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(LIBRARY)]))
    environment = {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])[:60]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def compile_library() -> None:
    """Compile the library's bytecode, as an installer does: a checkout may have none."""
    for package in ("shardstore", "cli"):
        compileall.compile_dir(LIBRARY / package, quiet=2)


def python(code: str, *arguments: object) -> list[str]:
    """Return the command that runs this code in a bare Python."""
    return [sys.executable, "-c", code, *map(str, arguments)]


def shardstore() -> list[str]:
    """Return how this Python's environment runs the command line: its installed script where there is one."""
    script = Path(sys.executable).with_name("shardstore")
    return [str(script)] if script.exists() else python("from shardstore_cli.main import main; main()")
