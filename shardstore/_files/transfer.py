"""A session as it goes from one store to another: its journal's bytes, and the items of its log's file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore._files.file import read_file, read_journal
from shardstore._files.layout import log_path, shard_name, temp_name
from shardstore._files.logfile import discard
from shardstore._journal.replay import with_key
from shardstore._log import NO_LOG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardstore._files.engine import FileEngine
    from shardstore._files.transaction import FileTransaction
    from shardstore._log import Item


def read_whole(engine: FileEngine, key: str) -> tuple[bytes, list[Item]]:
    """Return a session's journal and every item of its log's file. Raises CorruptShard, LogReplaced."""
    path = engine.place(key)
    journal, _ = read_file(path)
    data = read_journal(path)[: journal.end]
    log = journal.state.log
    settled = log.settled
    if not settled.file:
        return data, []
    every = log._replace(dropped=settled.first, kept=settled.first + settled.lines)
    return data, engine.logs.read(key, every, settled.first, settled.first + settled.lines)


def put_whole(engine: FileEngine, txn: FileTransaction, key: str, data: bytes, items: Iterable[Item]) -> None:
    """Put a journal, with its log, in the place of the session's own. REQUIRES: inside `txn`, of this key.

    Raises StoreIOError, StoreFull, CommitUncertain.
    """
    name, before = shard_name(key), txn.state.log.settled.file
    listed = list(items)
    first = with_key(data, key)[1].state.log.settled.first
    settled = engine.logs.write_new(name, NO_LOG, listed, first=first) if listed else None
    try:
        text, journal = with_key(data, key, None if settled is None else settled.file)
        txn.replace_by(text, journal, engine.layout.shard_path(temp_name(name)))
    except BaseException:
        if settled is not None:
            discard(log_path(engine.layout, name, settled.file))
        raise
    if before:
        discard(log_path(engine.layout, name, before))
