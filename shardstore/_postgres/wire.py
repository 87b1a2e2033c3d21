"""One connection of libpq: made, asked, and read. The only module that imports psycopg, and of it only `psycopg.pq`.

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

from shardstore._postgres.address import ENCODE
from shardstore._postgres.values import Answer, Lost, Refused, binary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shardstore._postgres.address import Address
    from shardstore._postgres.values import Value

    Statement = tuple[bytes, bool, Sequence[Value]]  # its name or its text, whether it is a name, its values

_CONNECT_S: Final = 10.0  # seconds, where the URL has no connect_timeout
_HOST_MAX: Final = 40  # characters of a host's name; an application's name has room for 63
# A peer that vanished is noticed within a minute, not after the two hours that are the default of most systems.
_KEEPALIVE: Final = {
    "keepalives_idle": "20", "keepalives_interval": "5", "keepalives_count": "4", "tcp_user_timeout": "40000",
}  # fmt: skip
_GOOD: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
_FAILED: Final = (b"FATAL", b"PANIC", b"ERROR")


class Settings:
    """The settings of connections."""

    def __init__(self, address: Address, *, database: str | None = None) -> None:
        """Read the address; `database`: instead of its own. Raises ValueError."""
        wrong = ""
        try:
            given = conninfo_to_dict(address.url)
            added = {name: value for name, value in _KEEPALIVE.items() if name not in given}
            name = given.get("application_name") or "shardstore"
            self.database = str(given.get("dbname") or os.environ.get("PGDATABASE") or given.get("user") or "")
            if database is not None:
                added["dbname"] = database
            added["application_name"] = f"{name!s:.15} {os.getpid()}@{socket.gethostname():.{_HOST_MAX}}"
            self.servers = [
                make_conninfo(address.url, client_encoding="UTF8", **added, **server).encode()
                for server in _servers({name: str(value) for name, value in given.items()})
            ]
            self.connect_s = (
                max(2.0, float(given.get("connect_timeout") or 0)) if "connect_timeout" in given else _CONNECT_S
            )
        except (Error, ValueError) as error:
            wrong = address.scrub(str(error).strip()) or type(error).__name__
        if wrong:  # outside of the handler: the error of libpq quotes the password, and would be the context of ours
            advice = f"; {ENCODE}" if address.secrets else ""
            raise ValueError(f"no URL of a PostgreSQL database: {wrong}{advice}")
        self.address = address
        self.prepare = True  # whether statements are prepared where no pooler is seen


def _servers(given: dict[str, str]) -> list[dict[str, str]]:
    """Return the names of each server of a URL. libpq would wait for one that is silent, and never try the next."""
    if given.get("target_session_attrs") == "prefer-standby":  # it is about all of them together
        return [{}]
    places = {name: given[name].split(",") for name in ("host", "hostaddr", "port") if "," in given.get(name, "")}
    count = max([len(found) for name, found in places.items() if name != "port"], default=1)
    if count == 1 or any(len(found) != count for found in places.values()):
        return [{}]
    return [{name: found[n] for name, found in places.items()} for n in range(count)]


class Wire:
    """One connection, used by one thread at a time."""

    def __init__(self, settings: Settings, deadline: float | None) -> None:
        """Connect to the first server that answers, and is as asked for. Raises Lost."""
        self._scrub = settings.address.scrub
        self._farewell: list[str] = []  # the SQLSTATE of an error that no statement of ours caused
        self.warnings: list[str] = []
        self.pid = os.getpid()
        self._connect(settings, deadline)
        self._pg.nonblocking = 1
        self._pg.notice_handler = _noting(self._farewell, self.warnings)
        self._readable, self._both = select.poll(), select.poll()
        self._readable.register(self._pg.socket, select.POLLIN)
        self._both.register(self._pg.socket, select.POLLIN | select.POLLOUT)

    def _connect(self, settings: Settings, deadline: float | None) -> None:
        for left in range(len(settings.servers) - 1, -1, -1):
            now = time.monotonic()
            # Each server gets its share of the time: the first one may have vanished with its machine.
            limit = now + settings.connect_s
            if deadline is not None:
                limit = min(limit, now + max(0.0, deadline - now) / (left + 1))
            self._pg = pq.PGconn.connect_start(settings.servers[-1 - left])
            _connections.add(self)
            try:
                self._finish_connecting(limit)
            except Lost:
                self.close()
                if not left:
                    raise
            except BaseException:
                self.close()
                raise
            else:
                return

    def _finish_connecting(self, deadline: float) -> None:
        pg = self._pg
        while True:
            step = pg.connect_poll() if pg.status != pq.ConnStatus.BAD else pq.PollingStatus.FAILED
            if step == pq.PollingStatus.OK:
                return
            if step == pq.PollingStatus.FAILED:
                raise Lost(self._scrub(" ".join(pg.get_error_message().split())), password=_asked(pg))
            waiting = select.poll()  # the socket may be another one after each step
            waiting.register(pg.socket, select.POLLIN if step == pq.PollingStatus.READING else select.POLLOUT)
            _wait(waiting, deadline, "no answer while connecting")

    def ask_script(self, text: str, deadline: float | None) -> list[Answer]:
        """Run statements without values in one round trip; return their answers, in text. Raises Refused, Lost."""
        return self._ask(lambda: self._pg.send_query(text.encode()), deadline)

    def ask_one(self, statement: Statement, deadline: float | None) -> Answer:
        """Run one statement. Raises Refused, Lost."""
        return self._ask(lambda: self._send(*statement), deadline)[-1]

    def ask_all(self, statements: Sequence[Statement], deadline: float | None) -> list[Answer]:
        """Run statements in one round trip; none behind one that is refused. Raises Refused, Lost."""

        def send() -> None:
            self._pg.enter_pipeline_mode()
            for statement in statements:
                self._send(*statement)
            self._pg.pipeline_sync()

        return self._ask(send, deadline, pipelined=True)

    def ask_prepare(self, name: bytes, text: str, deadline: float | None) -> None:
        """Have the server know a statement by a name. Raises Refused, Lost."""
        self._ask(lambda: self._pg.send_prepare(name, text.encode()), deadline)

    def send(self, statement: str, values: Sequence[Value]) -> None:
        """Begin one statement, whose answer nobody waits for: `close` ends it. Raises Lost."""
        try:
            self._send(statement.encode(), False, values)
            self._pg.flush()
        except Error as error:
            self.close()
            raise self._lost(str(error)) from None

    def _send(self, statement: bytes, named: bool, values: Sequence[Value]) -> None:  # noqa: FBT001
        sent = [binary(value) for value in values]
        formats = [pq.Format.BINARY] * len(sent)
        if named:
            self._pg.send_query_prepared(statement, sent, formats, pq.Format.BINARY)
        else:
            self._pg.send_query_params(statement, sent, None, formats, pq.Format.BINARY)

    def _ask(self, send: Callable[[], object], deadline: float | None, *, pipelined: bool = False) -> list[Answer]:
        try:
            send()
            return self._answers(deadline, pipelined=pipelined)
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

    def _answers(self, deadline: float | None, *, pipelined: bool) -> list[Answer]:
        pg = self._pg
        while pg.flush():
            _wait(self._both, deadline, "the server takes no more bytes")
            pg.consume_input()
        answers: list[Answer] = []
        refused: Refused | None = None
        while (result := self._result(deadline, pipelined=pipelined)) is not None:
            if result.status in _GOOD:
                answers.append(_read(result))
            elif result.status != pq.ExecStatus.PIPELINE_ABORTED:
                refused = refused or self._refusal(result)
        if pg.status != pq.ConnStatus.OK:
            raise self._lost(
                refused.message if refused else "the connection was closed", refused.state if refused else ""
            )
        if pipelined:
            pg.exit_pipeline_mode()
        if refused is not None:
            raise refused
        return answers

    def _result(self, deadline: float | None, *, pipelined: bool) -> pq.abc.PGresult | None:
        """Return what comes next; None at the end."""
        pg = self._pg
        while True:
            while pg.is_busy():
                _wait(self._readable, deadline, "no answer in time")
                pg.consume_input()
            result = pg.get_result()
            if result is not None:
                return None if result.status == pq.ExecStatus.PIPELINE_SYNC else result
            if not pipelined or pg.status != pq.ConnStatus.OK:
                return None

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
    def backend(self) -> int:
        """The number of the server's process; behind a pooler, one of the pooler's own."""
        return self._pg.backend_pid

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


_connections: weakref.WeakSet[Wire] = weakref.WeakSet()


def close_inherited() -> None:
    """Close, in a forked child, what the parent had open: it would keep the parent's locks alive."""
    for connection in list(_connections):
        connection.after_fork()
    _connections.clear()


def _asked(pg: pq.abc.PGconn) -> str:
    """Return advice about the password, if the server asked for one."""
    if pg.needs_password:
        return "it asked for a password and got none: set PGPASSWORD, or add a line to ~/.pgpass"
    return "it asked for a password: check PGPASSWORD, ~/.pgpass and the URL" if pg.used_password else ""


def _noting(farewell: list[str], warnings: list[str]) -> Callable[[pq.abc.PGresult], None]:
    """Return the handler that notes fatal messages and warnings. It holds no connection, which would stay alive."""

    def note(result: pq.abc.PGresult) -> None:
        severity = result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b""
        if severity in _FAILED:
            farewell.append((result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode())
        elif severity == b"WARNING":
            warnings.append((result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))

    return note


def _wait(waiting: select.poll, deadline: float | None, late: str) -> None:
    if not waiting.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000):
        raise Lost(late)


def _read(result: pq.abc.PGresult) -> Answer:
    columns, value = range(result.nfields), result.get_value
    rows = [tuple([value(row, column) for column in columns]) for row in range(result.ntuples)]
    return Answer(rows, (result.command_status or b"").decode())
