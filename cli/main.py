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
            code = _run()
    except KeyboardInterrupt:  # just before the handler was set, or just after it was put back
        code = exits.INTERRUPTED
    sys.exit(code)


def _run() -> int:
    from . import app

    try:
        interrupts.unwind()
        return app.run()
    except KeyboardInterrupt:
        interrupts.leave_at_once()
        return app.interrupted()
