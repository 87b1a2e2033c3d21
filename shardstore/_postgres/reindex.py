"""Changing which fields are indexed, beside running writers.

Each row says of which generation of the settings its sort keys are. Lists believe them once every row is of the
present generation; until then they decide by the fields themselves.

A writer learns the generation with its lock. One that locked its session before the change writes a row of the old
generation. So every row is locked once after the change: whoever had it then is done. A session that was being made
has no row to lock: its writer has a transaction number, and those that are older than the change are waited for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shardstore import _codec as codec
from shardstore._postgres.schema import make_index
from shardstore._postgres.values import number
from shardstore.errors import LockTimeout, SessionNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._postgres.connection import Connection
    from shardstore._postgres.engine import PostgresEngine

_AT_ONCE: Final = 500  # sessions
_WAIT_S: Final = 120.0  # for transactions that began before the change, of whoever uses the database
_POLL_S: Final = 0.05


def reindex(engine: PostgresEngine, fields: tuple[str, ...], progress: Callable[[int, int], None] | None) -> None:
    """Implement Store.reindex."""
    connections, sql = engine.connections, engine.sql
    engine.ask(
        f"UPDATE {sql.store} SET indexed = $1::text, generation = generation + 1 RETURNING 1",
        (codec.dumps(list(fields)).decode(),),
    )
    horizon = number(engine.ask("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0])
    connections.using(engine.reread)
    wanted = engine.rows.store.generation
    total = number(engine.ask(f"SELECT count(*) FROM {sql.session} WHERE live")[0][0])
    _renew(engine, wanted, lambda done: progress(min(done, total), total) if progress is not None else None)
    for n in range(len(fields)):
        connections.using(lambda connection, n=n: make_index(connection, engine.schema, n))  # type: ignore[misc]
    if not _older_are_done(engine, horizon):
        return  # lists decide by the fields until somebody calls this again
    _renew(engine, wanted, lambda _: None)
    engine.ask(f"UPDATE {sql.store} SET ready = $1::bigint WHERE generation = $1 RETURNING 1", (wanted,))
    connections.using(engine.reread)
    connections.using(lambda connection: _drop_indexes(connection, engine.schema, len(fields)))
    if progress is not None:
        progress(total, total)


def _renew(engine: PostgresEngine, wanted: int, progress: Callable[[int], None]) -> None:
    """Write every row of another generation anew, each under its lock."""
    after, done = b"", 0
    while True:
        rows = engine.ask(
            f"SELECT id, key FROM {engine.sql.session}"
            f" WHERE id > $1::bytea AND live AND generation <> $2::bigint ORDER BY id LIMIT {_AT_ONCE}",
            (after, wanted),
        )
        for ident, key in rows:
            after, done = ident or b"", done + 1
            progress(done)
            _renew_one(engine, (key or b"").decode())
        if len(rows) < _AT_ONCE:
            return


def _renew_one(engine: PostgresEngine, key: str) -> None:
    while True:
        try:
            with engine.transaction(key, engine.hold_timeout or None, create=False) as txn:
                txn.refresh_row()
        except SessionNotFound:
            return
        except LockTimeout:
            continue  # whoever has it is let go by the server in the end
        else:
            return


def _older_are_done(engine: PostgresEngine, horizon: int) -> bool:
    """Wait until no transaction runs that began before a moment; return whether that was so in time."""
    limit = time.monotonic() + _WAIT_S
    while number(engine.ask("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")[0][0]) < horizon:
        if time.monotonic() > limit:
            return False
        time.sleep(_POLL_S)
    return True


def _drop_indexes(connection: Connection, schema: str, count: int) -> None:
    """Drop the indexes of places that have no field any more."""
    rows = connection.run(
        "SELECT indexname::text FROM pg_indexes WHERE schemaname = $1::text AND indexname ~ '^session_i[0-9]+'",
        (schema,),
    ).rows
    for (name,) in rows:
        text = (name or b"").decode()
        if int(text.removeprefix("session_i").partition("_")[0]) >= count:
            connection.script(f'DROP INDEX CONCURRENTLY IF EXISTS "{schema}".{text}')
