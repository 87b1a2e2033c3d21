"""One connection to the server, as the engine uses it.

Statements take their values as $1, $2 ..., in binary: nothing is ever quoted. They are prepared on first use, unless
a pooler stands in between, whose server connections do not know what another one prepared.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shardstore._postgres.values import Answer, number
from shardstore._postgres.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardstore._postgres.values import Value
    from shardstore._postgres.wire import Settings, Statement

_BEGIN: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_COMMIT: Final = b"COMMIT"
_PREPARED_MAX: Final = 200  # statements; each list with another limit is another one, and the server keeps them all


class Connection(Wire):
    """One connection, used by one thread at a time."""

    def __init__(self, settings: Settings, deadline: float | None) -> None:
        """Connect. Raises Lost."""
        super().__init__(settings, deadline)
        self._prepared: dict[str, bytes] = {}
        self._limits: dict[str, int] = {}  # as this connection has them
        self.pooled = True  # until it is known better
        try:
            asked = "SELECT pg_backend_pid()::bigint, pg_is_in_recovery()"
            row = self.run(asked, once=True, deadline=time.monotonic() + settings.connect_s).rows[0]
        except BaseException:
            self.close()
            raise
        # A pooler gives a number of its own for the one of the server's process.
        self.pooled = not settings.prepare or number(row[0]) != self.backend
        self.standby = row[1] == b"\1"

    def script(self, text: str, *, deadline: float | None = None) -> Answer:
        """Run statements without values in one round trip; return what the last one returned. Raises Refused, Lost."""
        answers = self.ask_script(text, deadline)
        return answers[-1] if answers else Answer([], "")

    def run(
        self, statement: str, values: Sequence[Value] = (), *, once: bool = False, deadline: float | None = None
    ) -> Answer:
        """Run one statement; `once`: it is not worth preparing. Raises Refused, Lost."""
        return self.ask_one(self._known(statement, values, deadline, once=once), deadline)

    def run_all(
        self, asked: Sequence[tuple[str, Sequence[Value]]], *, planned: bool = False, deadline: float | None = None
    ) -> list[Answer]:
        """Run statements in one round trip. Raises Refused, Lost.

        planned: those with values are planned with them, and not prepared: a rare value takes another plan than a
            common one.
        """
        return self.ask_all(
            [self._known(text, values, deadline, once=planned and bool(values)) for text, values in asked], deadline
        )

    def begin(
        self, limits: dict[str, int], statement: str, values: Sequence[Value], *, deadline: float | None
    ) -> Answer:
        """Begin a transaction with these settings of the server, and run a statement in it. Raises Refused, Lost.

        The settings are the connection's own, and set when they change. Behind a pooler they are the transaction's.
        """
        first = self._known(statement, values, deadline)
        if self.pooled:
            local = [(b"SET LOCAL %b = %d" % (name.encode(), value), False, ()) for name, value in limits.items()]
            return self.ask_all([(_BEGIN, False, ()), *local, first], deadline)[-1]
        if self._limits != limits:  # set in front of the transaction: what is set inside goes with a rollback
            self._limits = {}
            self.script("; ".join(f"SET {name} = {value}" for name, value in limits.items()), deadline=deadline)
            self._limits = limits
        return self.ask_all([(_BEGIN, False, ()), first], deadline)[-1]

    def commit(self, statement: str, values: Sequence[Value], *, deadline: float) -> list[Answer]:
        """Run a statement and commit; return the answers of both. Raises Refused, Lost."""
        self.warnings.clear()
        return self.ask_all([self._known(statement, values, deadline), (_COMMIT, False, ())], deadline)

    def forget_limits(self) -> None:
        """Have the next transaction set its limits anew."""
        self._limits = {}

    def _known(self, text: str, values: Sequence[Value], deadline: float | None, *, once: bool = False) -> Statement:
        """Return a statement as it is sent. Raises Refused, Lost."""
        if once or self.pooled:
            return text.encode(), False, values
        name = self._prepared.get(text)
        if name is None and len(self._prepared) >= _PREPARED_MAX:
            return text.encode(), False, values
        if name is None:
            name = b"shardstore%d" % len(self._prepared)
            self.ask_prepare(name, text, deadline)
            self._prepared[text] = name
        return name, True, values
