"""The entry of the command line. It imports nothing heavy before Ctrl-C is taken care of."""

from __future__ import annotations

import os
import sys

try:
    from . import exits, interrupts
except KeyboardInterrupt:  # pragma: no cover - a window of a millisecond
    os._exit(130)


def main() -> None:
    """Run the command line and leave with one of the codes in exits.py."""
    try:
        with interrupts.handled():
            _open_what_is_closed()
            code = _run()
    except KeyboardInterrupt:  # just before the handler was set, or just after it was put back
        code = exits.INTERRUPTED
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Open /dev/null in the place of stdin, stdout and stderr that the caller closed, as daemons do."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the next descriptor has its number
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _run() -> int:
    from . import app

    try:
        interrupts.unwind()
        return app.run()
    except KeyboardInterrupt:
        interrupts.leave_at_once()
        return app.interrupted()
