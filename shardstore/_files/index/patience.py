"""Waiting for somebody else who makes the index, as long as that gets on; a stopped process is not waited for."""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple

# As long as reading every shard of a middling store takes; and what was waited for is shared.
_STANDSTILL_S: Final = 0.25
_PAUSE_MIN_S: Final = 0.0005
_PAUSE_MAX_S: Final = 0.02


class _Trace(NamedTuple):
    """How one file in index/ looks."""

    name: str
    inode: int
    size: int
    mtime_ns: int


class Makers:
    """Whoever makes the index of one store, seen by what changes in its directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.gave_up_at: list[_Trace] | None = None  # how it looked when somebody here had waited in vain

    def traces(self) -> list[_Trace] | None:
        """Give what changes while somebody makes the index; None where the directory cannot be read."""
        try:
            with os.scandir(self._directory) as entries:
                looks = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError:
            return None
        return sorted(_Trace(name, look.st_ino, look.st_size, look.st_mtime_ns) for name, look in looks)


class Patience:
    """What one call has left of it."""

    def __init__(self, makers: Makers) -> None:
        self._makers = makers
        self._pause = _PAUSE_MIN_S
        self._seen: list[_Trace] | None = None
        self._moved_at = time.monotonic()

    def wait(self) -> bool:
        """Wait a moment; tell whether looking again makes sense: something moved not long ago.

        Where the directory looks as it did when somebody gave up, or cannot be read, nobody waits any more.
        """
        now, traces = time.monotonic(), self._makers.traces()
        if traces is None or traces == self._makers.gave_up_at:
            return False
        if traces != self._seen:
            self._seen, self._moved_at = traces, now
        if now - self._moved_at > _STANDSTILL_S:
            self._makers.gave_up_at = traces
            return False
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _PAUSE_MAX_S)
        return True
