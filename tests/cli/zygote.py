"""A process that has imported the command line and forks one process for each command it is sent.

The tests run two thousand commands; starting Python and importing all of this costs each 0.3 s, a fork 10 ms. Each
command still runs in a process of its own, from `main()` to its exit code. What depends on a fresh start (imports,
encodings, terminals, signals) is tested with one.

Protocol: one JSON object a line in, one exit code a line out. With `swaps`, the command runs without a protection.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sqlite3  # noqa: F401 - what a list imports
import sys
import traceback
from typing import Any

from shardstore_cli.app import COMMANDS
from shardstore_cli.main import main

import shardstore  # noqa: F401


def serve() -> None:
    for command in COMMANDS.values():
        importlib.import_module(f"shardstore_cli.{command}")
    gc.freeze()  # else each child copies the pages of all these modules when it collects
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(request: dict[str, Any]) -> None:
    """Be the command; never returns."""
    code: object = 70
    try:
        for number, (name, flags) in enumerate(
            zip(request["files"], (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)
        ):
            os.dup2(os.open(name, flags), number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        sys.argv = ["shardstore", *request["arguments"]]
        take_out(request["swaps"])
        main()
        code = 0
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def take_out(swaps: list[tuple[str, str]]) -> None:
    """Replace functions; see mutated.py."""
    for target, make in swaps:
        from tests.mutations.catalogue import swap

        swap(target, eval(make))


if __name__ == "__main__":
    serve()
