"""One connection to the server. The only module that imports psycopg, and of it only the layer over libpq.

Statements take their values as $1, $2 ..., in binary: nothing is ever quoted. They are prepared on first use, unless
a pooler stands in between, whose server connections do not know what another one prepared.

Nothing waits in libpq itself: a signal handler may raise at any time, and every wait knows its deadline. A connection
whose answer was not read to its end is closed, and with it the lock that it may hold.
"""

from __future__ import annotations

import os
import select
import socket
import time
import weakref
from typing import TYPE_CHECKING, Final

from psycopg import Error, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shardstore._postgres.values import Answer, Lost, Refused, binary, number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shardstore._postgres.address import Address
    from shardstore._postgres.values import Value

_CONNECT_S: Final = 10.0  # seconds, where the URL has no connect_timeout
_HOST_MAX: Final = 40  # characters of a host's name; an application's name has room for 63
# A peer that vanished is noticed within a minute, not after the two hours that are the default of most systems.
_KEEPALIVE: Final = {
    "keepalives_idle": "20", "keepalives_interval": "5", "keepalives_count": "4", "tcp_user_timeout": "40000",
}  # fmt: skip
_GOOD: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class Connection:
    """One connection, used by one thread at a time."""

    def __init__(self, settings: Settings, deadline: float | None) -> None:
        """Connect. Raises Lost."""
        limit = time.monotonic() + settings.connect_s
        self._scrub = settings.address.scrub
        self._prepared: dict[str, bytes] = {}
        self._farewell: list[str] = []  # the SQLSTATE of an error that no statement of ours caused
        self._limits: dict[str, int] = {}  # as this connection has them
        self.pid = os.getpid()
        self.pooled = True  # until it is known better
        self._pg = pq.PGconn.connect_start(settings.conninfo)
        _connections.add(self)
        try:
            self._connect(limit if deadline is None else min(limit, deadline))
            self._pg.nonblocking = 1
            self._pg.notice_handler = _noting(self._farewell)
            self._readable, self._both = select.poll(), select.poll()
            self._readable.register(self._pg.socket, select.POLLIN)
            self._both.register(self._pg.socket, select.POLLIN | select.POLLOUT)
            row = self.run("SELECT pg_backend_pid()::bigint, pg_is_in_recovery()", once=True, deadline=limit).rows[0]
        except BaseException:
            self.close()
            raise
        # A pooler gives a number of its own for the one of the server's process.
        self.pooled = not settings.prepare or number(row[0]) != self._pg.backend_pid
        self.standby = row[1] == b"\1"

    def _connect(self, deadline: float) -> None:
        pg = self._pg
        while True:
            step = pg.connect_poll() if pg.status != pq.ConnStatus.BAD else pq.PollingStatus.FAILED
            if step == pq.PollingStatus.OK:
                return
            if step == pq.PollingStatus.FAILED:
                raise Lost(self._scrub(pg.get_error_message().strip()))
            waiting = select.poll()  # the socket may be another one after each step
            waiting.register(pg.socket, select.POLLIN if step == pq.PollingStatus.READING else select.POLLOUT)
            _wait(waiting, deadline, "no answer while connecting")

    def script(self, text: str, *, deadline: float | None = None) -> Answer:
        """Run statements without values in one round trip; return what the last one returned. Raises Refused, Lost."""
        return self._ask(lambda: self._pg.send_query(text.encode()), deadline)

    def begin(self, statement: str, limits: dict[str, int], *, deadline: float | None = None) -> None:
        """Begin a transaction with these settings of the server. Raises Refused, Lost.

        They are the connection's own, and set when they change. Behind a pooler they are the transaction's.
        """
        if self.pooled:
            local = "; ".join([statement, *(f"SET LOCAL {name} = {value}" for name, value in limits.items())])
            self.script(local, deadline=deadline)
            return
        if self._limits != limits:  # set in front of the transaction: what is set inside goes with a rollback
            self._limits = {}
            self.script("; ".join(f"SET {name} = {value}" for name, value in limits.items()), deadline=deadline)
            self._limits = limits
        self.script(statement, deadline=deadline)

    def forget_limits(self) -> None:
        """Have the next transaction set its limits anew."""
        self._limits = {}

    def run(
        self, statement: str, values: Sequence[Value] = (), *, once: bool = False, deadline: float | None = None
    ) -> Answer:
        """Run one statement; `once`: it is not worth preparing. Raises Refused, Lost."""
        sent = [binary(value) for value in values]
        formats = [pq.Format.BINARY] * len(sent)
        if once or self.pooled:
            raw = statement.encode()
            return self._ask(lambda: self._pg.send_query_params(raw, sent, None, formats, pq.Format.BINARY), deadline)
        name = self._prepared.get(statement) or self._prepare(statement, deadline)
        return self._ask(lambda: self._pg.send_query_prepared(name, sent, formats, pq.Format.BINARY), deadline)

    def send(self, statement: str, values: Sequence[Value]) -> None:
        """Begin one statement, whose answer nobody waits for: `close` ends it. Raises Lost."""
        sent = [binary(value) for value in values]
        try:
            self._pg.send_query_params(statement.encode(), sent, None, [pq.Format.BINARY] * len(sent), pq.Format.BINARY)
            self._pg.flush()
        except Error as error:
            self.close()
            raise self._lost(str(error)) from None

    def _prepare(self, statement: str, deadline: float | None) -> bytes:
        name = b"shardstore%d" % len(self._prepared)
        self._ask(lambda: self._pg.send_prepare(name, statement.encode()), deadline)
        self._prepared[statement] = name
        return name

    def _ask(self, send: Callable[[], object], deadline: float | None) -> Answer:
        try:
            send()
            return self._answer(deadline)
        except Refused:
            raise
        except Lost:
            self.close()
            raise
        except Error as error:
            self.close()
            raise self._lost(str(error)) from None
        except BaseException:  # from outside: the answer belongs to nobody
            self.close()
            raise

    def _answer(self, deadline: float | None) -> Answer:
        pg = self._pg
        while pg.flush():
            _wait(self._both, deadline, "the server takes no more bytes")
            pg.consume_input()
        answer, refused = Answer([], ""), None
        while True:
            while pg.is_busy():
                _wait(self._readable, deadline, "no answer in time")
                pg.consume_input()
            result = pg.get_result()
            if result is None:
                break
            if result.status in _GOOD:
                answer = _read(result)
            else:
                refused = refused or self._refusal(result)
        if pg.status != pq.ConnStatus.OK:
            raise self._lost(
                refused.message if refused else "the connection was closed", refused.state if refused else ""
            )
        if refused is not None:
            raise refused
        return answer

    def _refusal(self, result: pq.abc.PGresult) -> Refused:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
        return Refused(state, self._scrub(message.decode(errors="replace").strip()))

    def _lost(self, message: str, state: str = "") -> Lost:
        return Lost(self._scrub(message.strip()), state or (self._farewell[-1] if self._farewell else ""))

    def check(self) -> None:
        """Raise Lost where the server is known to have ended the connection. Takes no round trip."""
        try:
            if self._readable.poll(0):
                self._pg.consume_input()
                self._pg.is_busy()  # reads the server's last words, if there are any
            if self._pg.status == pq.ConnStatus.OK and not self._farewell:
                return
        except Error as error:
            lost = self._lost(str(error))
        else:
            lost = self._lost("the server ended the connection")
        self.close()
        raise lost

    @property
    def is_idle(self) -> bool:
        """Whether it is good, and in no transaction."""
        pg = self._pg
        return pg.status == pq.ConnStatus.OK and pg.transaction_status == pq.TransactionStatus.IDLE

    @property
    def is_closed(self) -> bool:
        """Whether it broke or was closed."""
        return bool(self._pg.status != pq.ConnStatus.OK)

    @property
    def server_version(self) -> int:
        """As the server numbers it: 150018 is 15.18."""
        return self._pg.server_version

    def close(self) -> None:
        """Close it; an open transaction is undone."""
        if self.pid == os.getpid():
            self._pg.finish()

    def after_fork(self) -> None:
        """Close, in a forked child, the descriptor alone: the server hears nothing, and the parent goes on."""
        try:
            os.close(self._pg.socket)
        except (OSError, Error):
            return  # it was closed before the fork


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def close_inherited() -> None:
    """Close, in a forked child, what the parent had open: it would keep the parent's locks alive."""
    for connection in list(_connections):
        connection.after_fork()
    _connections.clear()


class Settings:
    """The settings of connections."""

    def __init__(self, address: Address) -> None:
        """Read the address. Raises ValueError."""
        try:
            given = conninfo_to_dict(address.url)
            added = {name: value for name, value in _KEEPALIVE.items() if name not in given}
            name = given.get("application_name") or "shardstore"
            added["application_name"] = f"{name!s:.15} {os.getpid()}@{socket.gethostname():.{_HOST_MAX}}"
            self.conninfo = make_conninfo(address.url, client_encoding="UTF8", **added).encode()
            self.connect_s = (
                max(2.0, float(given.get("connect_timeout") or 0)) if "connect_timeout" in given else _CONNECT_S
            )
        except (Error, ValueError) as error:
            raise ValueError(f"no URL of a PostgreSQL database: {address.scrub(str(error).strip())}") from None
        self.address = address
        self.prepare = True  # whether statements are prepared where no pooler is seen


def _noting(farewell: list[str]) -> Callable[[pq.abc.PGresult], None]:
    """Return the handler that notes the SQLSTATE of fatal messages. It holds no connection, which would stay alive."""

    def note(result: pq.abc.PGresult) -> None:
        if (result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b"") in (b"FATAL", b"PANIC", b"ERROR"):
            farewell.append((result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode())

    return note


def _wait(waiting: select.poll, deadline: float | None, late: str) -> None:
    if not waiting.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000):
        raise Lost(late)


def _read(result: pq.abc.PGresult) -> Answer:
    columns, value = range(result.nfields), result.get_value
    rows = [tuple([value(row, column) for column in columns]) for row in range(result.ntuples)]
    return Answer(rows, (result.command_status or b"").decode())
