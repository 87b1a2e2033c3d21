"""Progress on stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import atexit
import sys
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from . import exits, output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

_SOON_S = 0.3
_LINE_EVERY_S = 5.0
_shown: list[Progress] = []  # the one that is on the screen: two would write over each other


@contextmanager
def bar(title: str, left: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `progress(done, total)`; the last numbers are part of the error when Ctrl-C comes.

    `left` then says how far the work came and how to go on. The bar is gone when the work is done.
    """
    reached = [0, 0]
    with (
        exits.interruptible(left, lambda: f"{reached[0]:,} of {reached[1]:,} done" if reached[1] else ""),
        _on_terminal(title) if sys.stderr.isatty() else nullcontext(_Lines(title).progress) as shown,
    ):

        def progress(done: int, total: int) -> None:
            reached[:] = done, total
            shown(done, total)

        yield progress


@contextmanager
def _on_terminal(title: str) -> Iterator[Callable[[int, int], None]]:
    with _made() as shown:
        _shown.append(shown)
        try:
            task = shown.add_task(title, total=None)
            yield lambda done, total: shown.update(task, completed=done, total=total)
        finally:
            _shown.remove(shown)


class _Lines:
    """Progress in a pipe or a file: a line now and then, so that a log shows that it goes on."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = time.monotonic()

    def progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            output.message(f"{self._title}: {done:,} of {total:,}")


def on_demand(title: str) -> Callable[[int, int], None] | None:
    """Return `progress(done, total)` for work that is seldom needed; None where nothing is shown.

    The bar appears _SOON_S after the first call, so short work neither flickers nor pays for the imports. It goes when
    everything is done.
    """
    return _OnDemand(title).progress if sys.stderr.isatty() else None


class _OnDemand:
    """A line of the bar that is shown, or a bar of its own."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._own = False
        self._begun = 0.0

    def progress(self, done: int, total: int) -> None:
        if done == 0:
            self._begun = time.monotonic()
        if self._task is None and time.monotonic() - self._begun > _SOON_S:
            self._start(total)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)
            if done == total:
                self._stop(self._progress, self._task)

    def _start(self, total: int) -> None:
        self._own = not _shown
        self._progress = _made() if self._own else _shown[-1]
        if self._own:
            atexit.register(self._progress.stop)  # after an error too: a bar hides the cursor
            self._progress.start()
        self._task = self._progress.add_task(self._title, total=total)
        self._progress.refresh()  # it may be over before the bar would move by itself

    def _stop(self, shown: Progress, task: TaskID) -> None:
        self._progress = self._task = None
        shown.remove_task(task)
        if self._own:
            shown.stop()


def _made() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
