"""Find which tests run which lines of a file: python -m tests.mutations.touched FILE ANSWER TEST...

The answer is a JSON object: for each test that passed its seconds and the lines of FILE that it ran, in this process
and in those that it forked; below IMPORTED those that ran while tests were collected.
"""

from __future__ import annotations

import json
import mmap
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

LINES_MAX = 10_000
IMPORTED = "imported"


class Touched:
    """A plugin that notes the lines while each test runs."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines = mmap.mmap(-1, LINES_MAX)  # a byte for each line; forked processes write to the same
        self.found: dict[str, tuple[float, list[int]]] = {}

    def pytest_collection_finish(self) -> None:
        """Note what ran until now."""
        sys.settrace(None)
        self.found[IMPORTED] = (0.0, self.ran())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Note what one test runs, its fixtures included."""
        began = time.monotonic()
        self.trace()
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            self.found[item.nodeid] = (round(time.monotonic() - began, 3), self.ran())

    def trace(self) -> None:
        """Begin to note lines."""
        self.lines[:] = bytes(LINES_MAX)
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def ran(self) -> list[int]:
        """Return the lines that ran since `trace`."""
        return [number for number, ran in enumerate(self.lines[:]) if ran]

    def _enter(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        return self._line if frame.f_code.co_filename == self.file else None

    def _line(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            self.lines[frame.f_lineno] = 1
        return self._line


def main() -> int:
    """Run the tests and write what they touched."""
    file, answer, *tests = sys.argv[1:]
    touched = Touched(file)
    touched.trace()
    status = pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", *tests], plugins=[touched])
    Path(answer).write_text(json.dumps(touched.found))
    return status


if __name__ == "__main__":
    sys.exit(main())
