"""Who holds a lock, as the server shows it: the process, the host, the application."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from shardstore._postgres.values import Lost, Refused, number
from shardstore.errors import ShardStoreError
from shardstore.reports import LockHolder

if TYPE_CHECKING:
    from shardstore._postgres.connection import Connection
    from shardstore._postgres.engine import PostgresEngine
    from shardstore._postgres.known import Slot

_NAME: Final = re.compile(r"(?:(.*) )?(\d+)@(.*)", re.DOTALL)
_LOOK_MS: Final = 400  # how long to stand in the queue to see who is at its head
_CHAIN: Final = 8  # waiters in front of us that are looked through


def holder(engine: PostgresEngine, slot: Slot) -> tuple[int | None, str | None]:
    """Return the process id of whoever holds a session's lock, and a description; (None, None) where nobody shows.

    The row does not name a holder that is only making the session. So this stands in the queue for a moment, and asks
    the server from another connection who blocks it.
    """
    try:
        waiting = engine.connections.take(time.monotonic() + 2.0)
    except Lost:
        return None, None
    try:
        return _blocker(engine, _stand_in_line(engine, waiting, slot))
    except (Lost, Refused, ShardStoreError):
        return None, None
    finally:
        waiting.close()  # and with it the place in the queue


def _stand_in_line(engine: PostgresEngine, waiting: Connection, slot: Slot) -> int:
    """Begin to wait for a session's lock; return the number of the server's process that waits."""
    waiting.script(f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {_LOOK_MS}")
    me, there = waiting.run(
        f"SELECT pg_backend_pid()::bigint, EXISTS (SELECT FROM {engine.sql.session} WHERE id = $1::bytea)",
        (slot.id,),
    ).rows[0]
    if there == b"\1":
        waiting.send(engine.sql.lock, (slot.id,))
    else:
        waiting.send(engine.sql.place, (slot.id, slot.key))
    return number(me)


def _blocker(engine: PostgresEngine, backend: int) -> tuple[int | None, str | None]:
    """Follow who blocks whom from our waiting connection on."""
    limit = time.monotonic() + _LOOK_MS / 1000
    name = None
    for _ in range(_CHAIN):
        while True:
            rows = engine.ask(
                "SELECT b::bigint, a.application_name FROM unnest(pg_blocking_pids($1::bigint::int)) b"
                " LEFT JOIN pg_stat_activity a ON a.pid = b LIMIT 1",
                (backend,),
            )
            if rows or name is not None or time.monotonic() > limit:
                break
            time.sleep(0.005)
        if not rows:
            break
        backend, name = number(rows[0][0]), (rows[0][1] or b"").decode()
    return _described(name)


def _described(name: str | None) -> tuple[int | None, str | None]:
    """Return pid and description from the name that a connection of ours gave itself."""
    found = _NAME.fullmatch(name or "")
    if found is None:
        return None, name or None
    application, pid, host = found.groups()
    return int(pid), f"{pid}@{host}" + (f" ({application})" if application not in (None, "shardstore") else "")


def holders(engine: PostgresEngine) -> list[LockHolder]:
    """Return the held locks of sessions, except of those that are only being made."""
    rows = engine.ask(
        f"SELECT s.key, a.application_name FROM {engine.sql.session} s"
        " JOIN pg_stat_activity a ON a.backend_xid::text = s.xmax::text WHERE s.xmax::text <> '0' ORDER BY s.key"
    )
    found = [((key or b"").decode(), _described((name or b"").decode())) for key, name in rows]
    return [LockHolder(key, f"{engine.location}#{text}", pid or 0) for key, (pid, text) in found]
