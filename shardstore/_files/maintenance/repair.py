"""Replacing a shard's file by another journal. REQUIRES, throughout: the caller holds the shard's lock."""

from __future__ import annotations

import errno
import os
import re
import time
from typing import TYPE_CHECKING

from shardstore import _codec as codec
from shardstore._files import disk
from shardstore._files.file import FILE_BYTES_MAX, JournalFile, read_journal, read_state
from shardstore._files.layout import is_shard_of
from shardstore._journal import replay as journal
from shardstore.errors import CorruptShard, ShardStoreError, raise_io_error

if TYPE_CHECKING:
    from shardstore._files.shard import Shard
    from shardstore._journal.replay import State

_WAIT_S = 2.0


def is_sound(shard: Shard) -> bool:
    """Tell whether the file is this shard's and can be read: somebody else may have mended it meanwhile."""
    try:
        state = read_state(shard.path)
    except CorruptShard:
        return False
    return state.key is None or is_shard_of(shard.name, state.key)


def adopt(shard: Shard, path: str) -> State:
    """Put the journal file at `path` in this shard's place; return its state. Raises CorruptShard."""
    fresh = JournalFile.open(path, write=True)
    if fresh is None:
        raise_io_error(FileNotFoundError(errno.ENOENT, path), "restoring a session", path)
    try:
        if not fresh.lock.acquire(time.monotonic() + _WAIT_S):  # somebody may still let go of it
            raise_io_error(BlockingIOError(errno.EAGAIN, path), "locking an archived session", path)
        if not shard.own(fresh.refresh(locked=True)).exists:
            raise CorruptShard(path, 0, "it holds no session", shard.claimed)
        os.rename(path, shard.path)
    except BaseException as error:
        fresh.close()
        if isinstance(error, OSError) and not isinstance(error, ShardStoreError):
            raise_io_error(error, "restoring a session", path)
        raise
    fresh.path = shard.path
    shard.swap(fresh)
    shard.settle(fresh)
    return fresh.state


def salvage(shard: Shard, keep_as: str) -> State | None:
    """Make a damaged journal readable again from its intact records; the original gets the name `keep_as`.

    Returns the state, or None where no record is intact and the session is absent from now on.
    """
    file = shard.held_file()
    data = read_journal(shard.path) if file.size <= FILE_BYTES_MAX else b""
    state = journal.salvage(data, os.urandom(12).hex())
    if state is not None and state.key is None:
        state = state._replace(key=shard.claimed or key_in(data, shard.name))
        state = None if state.key is None else state
    try:
        disk.make_directory(os.path.dirname(keep_as))
        if state is None or not state.exists:
            os.rename(shard.path, keep_as)
        else:
            os.link(shard.path, keep_as)
        disk.sync_directory(os.path.dirname(keep_as))
        disk.sync_directory(os.path.dirname(shard.path))
    except OSError as error:
        raise_io_error(error, "moving a damaged shard to quarantine", keep_as)
    if state is None or not state.exists:
        return None
    return shard.rewrite_to(file, state)


def key_in(data: bytes, name: str) -> str | None:
    """Find the key in the remains of a record: it is the one that this file's name was made from."""
    for found in re.finditer(rb'"key":("(?:[^"\\]|\\.)*")', data):
        try:
            key = codec.loads(found[1])
            if is_shard_of(name, key):
                return str(key)
        except ValueError:
            continue
    return None
