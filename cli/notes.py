"""Notes on stderr about what the library did beside a command's own work: nobody at a shell has set up logging."""

from __future__ import annotations

import logging
from typing import Final

from . import escape, output

_LOGGERS: Final = ("shardstore.journal", "shardstore.store")  # others tell what a command reports itself


class _Printing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print one line for a record."""
        output.message(f"Note: {escape.text(record.getMessage())}")


_PRINTING: Final = _Printing(logging.WARNING)


def printed() -> None:
    """Have bytes that were moved to quarantine/, and directories that were made again, named on stderr."""
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(_PRINTING)  # a second time adds nothing
