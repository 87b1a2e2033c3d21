"""A session's lines read whole: for its history, for copies, and for maintenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore._journal import replay
from shardstore._postgres.known import NOTHING, follow

if TYPE_CHECKING:
    from shardstore._log import Item, LogState
    from shardstore._model import State
    from shardstore._postgres.engine import PostgresEngine
    from shardstore._postgres.known import Known, Rows


def read_whole(engine: PostgresEngine, key: str) -> tuple[Known, bytes]:
    """Return what a session's lines lead to, all of them read anew, and their bytes. Raises CorruptShard."""
    slot = engine.slot(key)
    rows = engine.ask(engine.sql.read, (slot.id, 0, ""))
    return follow(rows, NOTHING, slot, engine.location), data_of(rows)


def data_of(rows: Rows) -> bytes:
    """Return the journal that came with an answer to `Statements.read`, as a file would hold it."""
    return b"".join([line for *_, line in rows if line is not None])


def history(engine: PostgresEngine, key: str) -> list[State]:
    """Return the states of the present incarnation that its lines hold, oldest first. Raises CorruptShard."""
    known, data = read_whole(engine, key)
    present = known.state
    if not present.exists:
        return []
    return [one for one in replay.history(data) if one.exists and one.incarnation == present.incarnation]


def journal(engine: PostgresEngine, key: str) -> tuple[bytes, list[Item]]:
    """Return a session's journal, and every settled item of its log. Raises CorruptShard, LogReplaced."""
    known, data = read_whole(engine, key)
    return data, settled_items(engine, key, known.state.log)


def settled_items(engine: PostgresEngine, key: str, log: LogState) -> list[Item]:
    """Return every settled item of a log, those that were dropped too. Raises CorruptShard, LogReplaced."""
    settled = log.settled
    if not settled.file:
        return []
    every = log._replace(dropped=settled.first, kept=settled.first + settled.lines)
    return engine.logs.read(key, every, settled.first, settled.first + settled.lines)
