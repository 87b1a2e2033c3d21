"""A session as it goes from one store to another: its journal's bytes, and the items of its log's file.

Archived sessions go the same way, from archive to archive.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shardstore._files import disk
from shardstore._files.file import read_file, read_journal
from shardstore._files.layout import log_file, log_path, new_log_id, shard_name, stamped_name, temp_name
from shardstore._files.logfile import discard
from shardstore._journal.log_lines import encode_lines, parse_line, seed_of
from shardstore._journal.replay import with_key
from shardstore._log import NO_LOG
from shardstore.errors import CorruptShard, SessionNotFound, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardstore._files.engine import FileEngine
    from shardstore._files.transaction import FileTransaction
    from shardstore._log import Item, Settled
    from shardstore.reports import ArchivedFile


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


def read_archived(engine: FileEngine, archived: ArchivedFile) -> tuple[bytes, list[Item]]:
    """Return the same of an archived session. Raises CorruptShard, SessionNotFound, StoreIOError."""
    path = str(engine.layout.root / archived.path)
    try:
        journal, _ = read_file(path)
        data = read_journal(path)[: journal.end]
        state = journal.state
        settled = state.log.settled
        if not settled.file or state.key is None:
            return data, []
        log = f"{os.path.dirname(path)}/{log_file(shard_name(state.key), settled.file)}"
        return data, _items(log, settled, state.key)
    except FileNotFoundError as error:  # restored or purged meanwhile
        raise SessionNotFound(str(archived.key)) from error
    except OSError as error:
        raise_io_error(error, "reading an archived session", path)


def _items(path: str, settled: Settled, key: str) -> list[Item]:
    fd = os.open(path, disk.READ)
    try:
        lines = disk.read_all(fd, 0, settled.end).splitlines()
    finally:
        os.close(fd)
    seed, found = seed_of(settled.file), []
    for n, line in enumerate(lines, settled.first):
        parsed = parse_line(line, seed)
        if parsed is None or parsed[0] != n:
            raise CorruptShard(path, 0, f"item {n} is not whole", key)
        found.append(parsed[1])
    if len(found) != settled.lines:
        raise CorruptShard(path, 0, f"{settled.lines - len(found):,} items are missing", key)
    return found


def put_archived(engine: FileEngine, key: str, data: bytes, items: Iterable[Item], moved_at: float) -> None:
    """Put a journal, with its log, into archive/, as if it had moved there at this moment. Raises StoreIOError."""
    directory, name, listed = engine.layout.archive, shard_name(key), list(items)
    named = new_log_id() if listed else None
    text, journal = with_key(data, key, named)
    try:
        disk.add_directory(directory)
        if named is not None:  # first: a journal whose log is not there would be damaged
            first = journal.state.log.settled.first
            disk.publish(directory / log_file(name, named), b"".join(encode_lines(named, first, listed)))
        disk.publish(directory / stamped_name(name, round(moved_at * 1000)), text)
    except OSError as error:
        raise_io_error(error, "copying into the archive", str(directory))
