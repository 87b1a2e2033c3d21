"""Bringing an archived session back."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shardstore._files.file import JournalFile
from shardstore._files.layout import log_file, log_path, parse_stamped, shard_name
from shardstore._files.logfile import discard, give_name
from shardstore.errors import CorruptShard, SessionExists, SessionNotFound, StoreIncomplete, raise_io_error

if TYPE_CHECKING:
    from shardstore._files.engine import FileEngine
    from shardstore._files.shard import Shard
    from shardstore._files.transaction import FileTransaction
    from shardstore._model import State

_WAIT_S: Final = 2.0


def restore(engine: FileEngine, key: str, timeout: float | None) -> State:
    """Move the file archived last back into the store.

    Raises SessionNotFound, SessionExists, CorruptShard (the archived file is damaged, and stays), LockTimeout.
    """
    with suppress(StoreIncomplete):  # whether it was there nobody knows; it can be brought back
        if engine.read(key).exists:
            raise SessionExists(key)
    if not archived_files(engine, key):
        raise SessionNotFound(key)  # before a file is made to be locked
    with engine.transaction(key, timeout) as txn:
        files = archived_files(engine, key)  # others may have restored, archived or purged it while this one waited
        if not files:
            raise SessionNotFound(key)
        return restore_file(engine, txn, key, str(engine.layout.archive / files[-1]))


def restore_file(engine: FileEngine, txn: FileTransaction, key: str, path: str) -> State:
    """Move an archived file back, inside the session's lock. Raises SessionExists, CorruptShard, StoreIOError."""
    if txn.state.exists:
        raise SessionExists(key)
    fresh = _lock_archived(path, engine.pool.shard(key))
    log = _give_log(engine, key, fresh)
    txn.take_in(fresh)
    if log is not None:
        txn.sync_waiting_names()  # or a power cut could leave the archive's journal alone, without its log
        discard(log)
    return txn.state


def _give_log(engine: FileEngine, key: str, fresh: JournalFile) -> str | None:
    """Link the log's file into the store again; return its path in the archive, None where there is none."""
    name, log = shard_name(key), fresh.journal.state.log.settled.file
    if not log:
        return None
    path = str(engine.layout.archive / log_file(name, log))
    try:
        give_name(path, log_path(engine.layout, name, log))
    except BaseException as error:
        fresh.close()
        if isinstance(error, OSError):
            raise_io_error(error, "restoring a log", path)
        raise
    return path


def archived_files(engine: FileEngine, key: str) -> list[str]:
    """Return the names in archive/ of this session's files, oldest first."""
    name = shard_name(key)
    try:
        files = os.listdir(engine.layout.archive)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise_io_error(error, "listing the archive", str(engine.layout.archive))
    stamps = [(parsed[1], file) for file in files if (parsed := parse_stamped(file)) and parsed[0] == name]
    return [file for _, file in sorted(stamps)]


def _lock_archived(path: str, shard: Shard) -> JournalFile:
    """Open, lock and read an archived journal. Raises CorruptShard where it holds no session of this key."""
    fresh = JournalFile.open(path, write=True)
    if fresh is None:
        raise_io_error(FileNotFoundError(errno.ENOENT, path), "restoring a session", path)
    try:
        if not fresh.lock.acquire(time.monotonic() + _WAIT_S):  # somebody may still let go of it
            raise_io_error(BlockingIOError(errno.EAGAIN, path), "locking an archived session", path)
        if not shard.check_key(fresh.refresh(locked=True)).state.exists:
            raise CorruptShard(path, 0, "it holds no session", shard.key)
    except BaseException:
        fresh.close()
        raise
    return fresh
