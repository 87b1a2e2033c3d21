"""Forks wait until no other thread is inside SQLite.

SQLite has mutexes of its own, for its memory and its files. A child that is forked while another thread holds one can
never use SQLite: the thread that would give it back is not there. So whoever uses a connection says so, and a fork
waits for the others first, before it takes any lock that they need.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any, Final

_PAUSE_S: Final = 0.0005
_PATIENCE_S: Final = 10.0  # rebuilding the index may take longer; a fork goes on then

_users: Final[dict[int, tuple[weakref.ref[Any], int]]] = {}  # by id: the connection, and the thread that uses it
_forking = 0  # ident of the thread that is about to fork


def begin_use(connection: object) -> None:
    """Note that this thread uses a connection; waits while another thread forks."""
    me = threading.get_ident()
    while True:
        _users[id(connection)] = weakref.ref(connection), me  # first said, then looked: one of both sees the other
        if _forking in (0, me) or _uses_another(me, connection):
            return  # a signal handler in the middle of a use: the fork waits for that one in any case
        end_use(connection)
        time.sleep(_PAUSE_S)


def end_use(connection: object) -> None:
    """Note that a connection is not used any more."""
    _users.pop(id(connection), None)


def _uses_another(me: int, connection: object) -> bool:
    """Return whether this thread uses another connection."""
    return any(
        thread == me and number != id(connection) and used() is not None
        for number, (used, thread) in _users.copy().items()
    )


def _others() -> bool:
    """Return whether another thread uses a connection; one that was dropped in the middle does not count."""
    me = threading.get_ident()
    return any(thread != me and connection() is not None for connection, thread in list(_users.values()))


def _before_fork() -> None:
    global _forking  # noqa: PLW0603  # one fork at a time matters; a second one waits as well
    _forking = threading.get_ident()
    deadline = time.monotonic() + _PATIENCE_S
    while _others() and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)


def _after_fork_in_parent() -> None:
    global _forking  # noqa: PLW0603
    _forking = 0


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603
    _forking = 0
    _users.clear()


def register() -> None:
    """Have each fork wait, before whatever else it was told to do by then.

    Called before SQLite is imported: a fork that waits for that import would not learn of it any more.
    """
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
