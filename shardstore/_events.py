"""Events for people outside: records for `logging`, and measurements for OpenTelemetry.

Nothing of this is called on the path of an update. `shardstore.otel` puts functions into `measured` and `wrap`.

Some records are made while a session is locked. A handler's exception is dropped: the commit stands.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore.errors import CorruptShard

INFO: Final = logging.INFO
WARNING: Final = logging.WARNING
SLOW_S: Final = 1.0  # seconds; a lock that was waited for so long is worth a record
_REMEMBERED: Final = 1024  # damaged places that were noted

measured: Callable[[str, float], None] | None = None  # what was done ("sync", "refresh", "rebuild"), and seconds
wrap: Callable[[Any], Any] | None = None  # an engine that a Store is made for, in one that measures
_noted: Final[set[tuple[str, int]]] = set()
logging.getLogger("shardstore").addHandler(logging.NullHandler())  # else unconfigured programs print warnings


def note(module: str, level: int, message: str, *values: object) -> None:
    """Log a record in the logger `shardstore.<module>`."""
    with suppress(Exception):  # a filter's fault
        logging.getLogger(f"shardstore.{module}").log(level, message, *values)


def damaged(error: CorruptShard) -> CorruptShard:
    """Return the error, having made a record of it: one for each place and process."""
    place = (error.path, error.offset)
    if place not in _noted:
        if len(_noted) >= _REMEMBERED:
            _noted.clear()
        _noted.add(place)
        note("damage", WARNING, "%s", str(error))  # whoever kept the error would keep what its frames have open
    return error
