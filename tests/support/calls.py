"""Counting Python calls: each costs about as much as a system call's overhead, on any machine, however busy it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from unittest import mock

from shardstore._files import file
from shardstore._files.locks import fairness

_NEVER_S = 10**6


def python_calls(call: Callable[[], object]) -> list[CodeType]:
    """Return the code of each Python function that is called."""
    found: list[CodeType] = []

    def note(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            found.append(frame.f_code)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found[1:]  # the first is `call` itself


def fewest_calls(call: Callable[[], object], *, warm_up: int = 300, times: int = 30) -> list[CodeType]:
    """Return the calls of the shortest of several runs, without those that depend on the time.

    Every millisecond an update checks the queue, and every few a file's mtime: on a slow machine that is always.
    """
    with (
        mock.patch.object(fairness, "_CHECK_S", _NEVER_S),
        mock.patch.object(file, "CHECK_S", _NEVER_S),
        mock.patch.object(file, "HOT_NS", _NEVER_S * 10**9),
    ):
        for _ in range(warm_up):
            call()
        return min((python_calls(call) for _ in range(times)), key=len)
