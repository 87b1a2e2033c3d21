"""From what the server or the network said to the errors of this package."""

from __future__ import annotations

import errno
from typing import Final, NoReturn

from shardstore._postgres.values import Lost, Refused
from shardstore.errors import (
    CommitUncertain,
    StoreFull,
    StoreIOError,
    StoreNotFound,
    StoreUnavailable,
    UnsupportedFormat,
)

LOCKED: Final = "55P03"  # lock_not_available
EXPIRED: Final = "25P03"  # idle_in_transaction_session_timeout
# A standby ends a read that needs rows which the server it follows has cleaned up. A writer that gets this has another
# isolation level than it must have.
CLEANED_UP: Final = "40001"
FORBIDDEN: Final = "42501"  # insufficient_privilege
_NO_STATEMENT, _SAME_STATEMENT = "26000", "42P05"  # of prepared ones: a pooler stands in between after all
_FULL: Final = frozenset({"53100", "53200", "54000"})
_GONE: Final = frozenset({"42P01", "3F000", "3D000"})
# The server is starting, stopping, out of connections, or ended this one: it may be better soon.
_PASSING: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", EXPIRED, "08006", "08P01"})
_ODD: Final = frozenset({"42703", "42883", "42804"})  # a column or function that is missing: not our tables
_NUMBERS: Final = {
    "25006": (errno.EROFS, "the server is a standby, or read-only"),
    FORBIDDEN: (errno.EACCES, "the server refuses this user"),
}


def is_passing(state: str) -> bool:
    """Return whether a statement that was refused so may be accepted in a moment."""
    return state in _PASSING


def is_poolers(state: str) -> bool:
    """Return whether a prepared statement was refused as only a pooler makes it happen."""
    return state in (_NO_STATEMENT, _SAME_STATEMENT)


def raise_refused(error: Refused, location: str, *, advice: str = "") -> NoReturn:
    """Raise the typed error for a refused statement. Nothing was changed."""
    state = error.state
    if state in _FULL:
        raise StoreFull(errno.ENOSPC, f"{error}: {location}; nothing was changed", location) from error
    if state in _GONE:
        raise StoreNotFound(location) from error
    if state in _ODD:
        raise UnsupportedFormat(f"{location} holds other tables than this version makes: {error}") from error
    if state in _PASSING:
        raise_unavailable(error, location)
    number, why = _NUMBERS.get(state, (errno.EIO, "the server refused a statement"))
    then = f"; {advice}" if advice else ""
    raise StoreIOError(number, f"{why}: {error}: {location}; nothing was changed{then}", location) from error


def raise_unavailable(error: Lost | Refused, location: str) -> NoReturn:
    """Raise StoreUnavailable; for a final refusal, its own error."""
    if isinstance(error, Refused) and error.state not in _PASSING:
        raise_refused(error, location)
    reason = str(error) or "the connection was closed"
    password = f"; {error.password}" if isinstance(error, Lost) and error.password else ""
    raise StoreUnavailable(location, reason + password) from error


def raise_uncertain(error: Lost, location: str) -> NoReturn:
    """Raise CommitUncertain for a connection that broke between COMMIT and its answer."""
    raise CommitUncertain(
        errno.EIO,
        f"the connection broke while committing ({error}): {location}; "
        "the outcome is unknown until the session is read again",
        location,
    ) from error
