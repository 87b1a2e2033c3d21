"""Ctrl-C: leave at once if nothing is begun, raise KeyboardInterrupt if there is something to finish.

Python's own handler raises KeyboardInterrupt wherever it finds the main thread. Inside an import that is a traceback
of twenty lines. Inside a `__del__` or a weakref callback Python prints the traceback and drops the interrupt.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .exits import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_AGAIN_S = 0.005
_armed: list[bool] = []  # whether the timer that raises an interrupt again was set


@contextmanager
def handled() -> Iterator[None]:
    """Leave at once on Ctrl-C, from here to the process's end; put back the caller's handlers afterwards."""
    if threading.current_thread() is not threading.main_thread():  # no command, and Python would refuse
        yield
        return
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM), sys.unraisablehook
    leave_at_once()
    try:
        yield
    finally:
        if _armed:  # the command was over first; without its handler the alarm would kill the process
            signal.setitimer(signal.ITIMER_REAL, 0)
            _armed.clear()
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGALRM, before[1])
        sys.unraisablehook = before[2]
        atexit.register(leave_at_once)


def leave_at_once() -> None:
    """Let Ctrl-C end the process from now on, silently and without cleaning up."""
    _handle(_leave)


def unwind() -> None:
    """Let Ctrl-C raise KeyboardInterrupt in the main thread from now on, also when it hits a `__del__`."""
    if _handle(signal.default_int_handler):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        sys.unraisablehook = _raise_again


def _handle(handler: Callable[[int, FrameType | None], object]) -> bool:
    """Set the handler, unless Ctrl-C is ignored: a shell ignores it for background jobs."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return False
    signal.signal(signal.SIGINT, handler)
    return True


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    os._exit(INTERRUPTED)


def _raise_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Raise a KeyboardInterrupt that nobody could catch once more, a moment later; report everything else."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        _armed.append(True)
    else:
        sys.__unraisablehook__(unraisable)
