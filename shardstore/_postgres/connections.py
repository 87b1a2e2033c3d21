"""The connections of one process to one store: as many as are used at once, and a few that are kept idle.

A pool with threads of its own would not survive a fork. Here every step is one call of C on a deque, so neither a
signal handler nor a fork finds it half done.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from shardstore._postgres.connection import Connection
from shardstore._postgres.failures import CLEANED_UP, is_passing, raise_refused, raise_unavailable
from shardstore._postgres.values import Lost, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shardstore._postgres.values import Answer, Value
    from shardstore._postgres.wire import Settings

_T = TypeVar("_T")

_IDLE_MAX: Final = 8
PATIENCE_S: Final = 5.0  # seconds that a read waits for a server that is restarting
ANSWER_S: Final = 60.0  # seconds without an answer after which a server counts as gone
_PAUSE_S, _PAUSE_MAX_S = 0.02, 0.5


class Outage:
    """How long a call goes on trying while the server is away."""

    def __init__(self, location: str, deadline: float | None) -> None:
        self._location = location
        self._deadline = deadline
        self._pause = _PAUSE_S
        self.error: Lost | Refused | None = None  # the last one

    def wait(self, error: Lost | Refused) -> None:
        """Wait a moment, to try again. Raises StoreUnavailable where the time is over, or waiting does not help."""
        self.error = error
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if (left is not None and left <= 0) or (isinstance(error, Refused) and not is_passing(error.state)):
            raise_unavailable(error, self._location)
        time.sleep(self._pause if left is None else min(self._pause, left))
        self._pause = min(2 * self._pause, _PAUSE_MAX_S)


class Connections:
    """The connections to one store."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: deque[Connection] = deque()
        self._closed = False

    def take(self, deadline: float | None = None) -> Connection:
        """Return a connection that is in no transaction. Raises Lost."""
        connection = self._idle_one()
        return Connection(self._settings, deadline) if connection is None else connection

    def _idle_one(self) -> Connection | None:
        """Return an idle connection that is good, if there is one."""
        while True:
            try:
                connection = self._idle.pop()
                connection.check()
            except IndexError:
                return None
            except Lost:
                continue
            return connection

    def give(self, connection: Connection) -> None:
        """Take a connection back; it is closed unless it is good, in no transaction, and worth keeping."""
        if self._closed or len(self._idle) >= _IDLE_MAX or not connection.is_idle:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:  # meanwhile
            self.close()

    def ask(self, statement: str, values: Sequence[Value] = (), *, patience: float = PATIENCE_S) -> Answer:
        """Run one statement that may be run again, waiting for a server that restarts. Raises the typed errors."""
        return self.using(
            lambda connection: connection.run(statement, values, deadline=time.monotonic() + ANSWER_S),
            patience=patience,
        )

    def using(self, work: Callable[[Connection], _T], *, patience: float = PATIENCE_S) -> _T:
        """Return the result of `work` on a connection; run it again if the server went away meanwhile."""
        outage = Outage(self._settings.address.location, time.monotonic() + patience)
        while True:
            connection = None
            try:
                connection = self.take(time.monotonic() + max(patience, 2.0))
                return work(connection)
            except Lost as error:
                outage.wait(error)
            except Refused as error:
                if error.state == CLEANED_UP:
                    outage.wait(Lost(error.message))
                elif is_passing(error.state):
                    outage.wait(error)
                else:
                    raise_refused(error, self._settings.address.location)
            finally:
                if connection is not None:
                    self.give(connection)

    def close(self) -> None:
        """Close idle connections, and from now on each one that is given back."""
        self._closed = True
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def distrust(self) -> None:
        """Prepare no statements from now on: a pooler stands in between, though it did not look like one."""
        self._settings.prepare = False
        while self._idle:
            self._idle.pop().close()

    def after_fork(self, settings: Settings) -> None:
        """Forget, in a forked child, the parent's connections; new ones have the child's name."""
        self._idle.clear()
        self._settings = settings
