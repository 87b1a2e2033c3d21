"""The archive and quarantine: listing them, bringing a session back, removing for good."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING

from shardstore._journal.replay import replay, with_key
from shardstore._postgres.known import damaged, digest
from shardstore._postgres.logs import put_items
from shardstore._postgres.values import number
from shardstore._postgres.whole import settled_items
from shardstore.errors import InvalidQuery, SessionExists, SessionNotFound
from shardstore.reports import ArchivedFile, PurgeReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._log import Item
    from shardstore._model import State
    from shardstore._postgres.connection import Connection
    from shardstore._postgres.engine import PostgresEngine


def archived(engine: PostgresEngine, prefix: str | None) -> list[ArchivedFile]:
    """Return the archived sessions, the oldest first. Raises InvalidQuery."""
    if prefix is not None and type(prefix) is not str:
        raise InvalidQuery(f"prefix is a str, not {type(prefix).__name__}")
    rows = engine.ask(
        "SELECT place, n, key, octet_length(journal) + settled_bytes, moved"
        f" FROM {engine.sql.archive} WHERE starts_with(key, $1::text) ORDER BY moved, n",
        (prefix or "",),
    )
    return [
        ArchivedFile(
            (place or b"").decode(), f"{(place or b'').decode()}/{number(n)}", (key or b"").decode(), number(size),
            struct.unpack(">d", moved or bytes(8))[0],
        )
        for place, n, key, size, moved in rows
    ]  # fmt: skip


def restore(engine: PostgresEngine, key: str, timeout: float | None, n: int | None = None) -> State:
    """Bring back the newest archived copy of a session, or number `n`; it keeps its history and log.

    Raises SessionNotFound, SessionExists, CorruptShard (the archived copy stays), LockTimeout.
    """
    if engine.read(key).exists:
        raise SessionExists(key)
    if n is None and not _newest(engine, key):
        raise SessionNotFound(key)
    with engine.transaction(key, timeout) as txn:
        if txn.state.exists:
            raise SessionExists(key)
        found = n or _newest(engine, key)  # others may have restored or purged it meanwhile
        rows = engine.ask(f"SELECT journal FROM {engine.sql.archive} WHERE n = $1::bigint", (found,)) if found else []
        if not rows:
            raise SessionNotFound(key)
        text = rows[0][0] or b""
        outcome = replay(text)
        if outcome.damage is not None or outcome.tail or outcome.journal.state.key != key:
            at = outcome.damage.offset if outcome.damage else outcome.journal.end
            raise damaged(engine.slot(key), engine.location, at, "the archived copy is damaged")
        txn.put(text, outcome.journal, instead_of=found)
        return txn.state


def _newest(engine: PostgresEngine, key: str) -> int:
    """Return the number of the newest archived copy of a session; 0 if there is none."""
    rows = engine.ask(
        f"SELECT n FROM {engine.sql.archive} WHERE id = $1::bytea AND place = 'archive' ORDER BY n DESC LIMIT 1",
        (digest(key),),
    )
    return number(rows[0][0]) if rows else 0


def journal(engine: PostgresEngine, archived: ArchivedFile) -> tuple[bytes, list[Item]]:
    """Return an archived session's journal and the settled items of its log.

    Raises CorruptShard, LogReplaced, SessionNotFound.
    """
    key = str(archived.key)
    n = int(archived.path.rpartition("/")[2])
    rows = engine.ask(f"SELECT journal FROM {engine.sql.archive} WHERE n = $1::bigint", (n,))
    if not rows:
        raise SessionNotFound(key)  # restored or purged meanwhile
    text = rows[0][0] or b""
    outcome = replay(text)
    if outcome.damage is not None or outcome.tail:
        raise damaged(engine.slot(key), engine.location, outcome.journal.end, "the archived copy is damaged")
    return text, settled_items(engine, key, outcome.journal.state.log)


def put(engine: PostgresEngine, key: str, data: bytes, items: list[Item], moved_at: float) -> None:
    """Put a journal into the archive, with its log, as if it had moved there at this moment."""
    sql = engine.sql
    text, whole = with_key(data, key, os.urandom(8).hex() if items else None)
    settled = whole.state.log.settled

    def work(connection: Connection) -> None:
        connection.script("BEGIN ISOLATION LEVEL READ COMMITTED")
        made = connection.run(
            sql.archived, (digest(key), key, repr(moved_at), bytes.fromhex(settled.file) or None, settled.end, text)
        ).rows
        if made:  # else it was put there by a try whose answer did not come
            put_items(connection, sql, settled.file, settled.first, items)
        connection.script("COMMIT")

    engine.connections.using(work)


def purge(
    engine: PostgresEngine,
    older_than: float,
    *,
    prefix: str | None,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> PurgeReport:
    """Remove the sessions that were archived longer ago than this. Never touches quarantine."""
    limit = time.time() - older_than
    old = [one for one in archived(engine, prefix) if one.place == "archive" and one.moved_at <= limit]
    removed = []
    for done, one in enumerate(old):
        if progress is not None:
            progress(done, len(old))
        if dry_run or forget(engine, int(one.path.rpartition("/")[2])):
            removed.append(one)
    if progress is not None:
        progress(len(old), len(old))
    return PurgeReport(dry_run, tuple(removed), sum(one.size for one in removed))


def forget(engine: PostgresEngine, n: int) -> bool:
    """Remove one archived session with its log for good; return whether it was there still."""
    sql = engine.sql

    def work(connection: Connection) -> bool:
        return bool(connection.run(
            f"WITH a AS (DELETE FROM {sql.archive} WHERE n = $1::bigint RETURNING settled),"
            f" i AS (DELETE FROM {sql.item}  WHERE log IN (SELECT settled FROM a))"
            " SELECT 1 FROM a",
            (n,),
        ).rows)  # fmt: skip

    return engine.connections.using(work)
