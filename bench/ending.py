"""Ending a run from outside, without leaving anything mounted, running or on the disk."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Ending:
    """While it is entered, a run that is told to end does so after the present round; told twice, at once."""

    def __init__(self) -> None:
        self.by = 0
        self._before: list[Any] = []

    def _told(self, number: int, _: object) -> None:
        again, self.by = bool(self.by), number
        if again:
            self.check()
        sys.stderr.write("ends after the present round; again to end at once\n")

    def check(self) -> None:
        """Raise SystemExit if the run was told to end."""
        if self.by:
            raise SystemExit(128 + self.by)

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._told) for number in SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in zip(SIGNALS, self._before, strict=True):
            signal.signal(number, handler)
