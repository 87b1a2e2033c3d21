"""The entry of the command line. It imports nothing heavy before Ctrl-C is taken care of."""

from __future__ import annotations

import os
import sys

try:
    from . import interrupts
except KeyboardInterrupt:  # pragma: no cover - a window of a millisecond
    os._exit(130)


def main() -> None:
    """Run the command line and leave with one of the codes in exits.py."""
    with interrupts.handled():
        from . import app

        try:
            interrupts.unwind()
            code = app.run()
        except KeyboardInterrupt:
            interrupts.leave_at_once()
            code = app.interrupted()
    sys.exit(code)
