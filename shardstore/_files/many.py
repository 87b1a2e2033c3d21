"""Reading many sessions: file by file, in the order of their names, keeping none open.

One read of a file that looks sound is the answer. An odd one (no file, no regular one, damage, another session's
journal) is read again by the shard, which knows the meaning. A file that this process has open is read through that.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from shardstore._files import disk
from shardstore._files.layout import shard_name
from shardstore._journal.replay import replay
from shardstore.errors import CorruptShard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardstore._files.pool import Pool
    from shardstore._model import State

_LARGE: Final = 1 << 20  # bytes; a larger file is read by the shard, which checks its size first


def read_many(pool: Pool, keys: Iterable[str]) -> Iterator[tuple[str, State | CorruptShard]]:
    """Yield each key once, with its committed state or its damage.

    Raises InvalidKey, StoreIOError, StoreNotFound, StoreIncomplete.
    """
    prefix, sound = "", False
    for name, key in sorted({shard_name(key): key for key in keys}.items()):
        shard = pool.cached(name)
        if shard is None:
            if name[:2] != prefix:
                prefix = name[:2]
                sound = _is_directory(pool.layout.shard_path(prefix))
            state = _read_once(pool.layout.shard_path(name)) if sound else None
            if state is not None and state.key == key:
                yield key, state
                continue
        try:
            yield key, shard.read().state if shard is not None else _read_by_shard(pool, name, key)
        except CorruptShard as error:
            yield key, error


def _is_directory(path: str) -> bool:
    """Return whether this is a directory itself; a link in its place would lead out of the store."""
    try:
        disk.check_directory(path)
    except OSError:
        return False
    return True


def _read_once(path: str) -> State | None:
    """Return the state in a file that looks sound; None where there is anything odd about it."""
    try:
        fd = os.open(path, disk.READ)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGE:
            return None
        data = os.pread(fd, status.st_size, 0)
    except OSError:
        return None
    finally:
        os.close(fd)
    found = replay(data)
    return found.journal.state if found.damage is None else None


def _read_by_shard(pool: Pool, name: str, key: str) -> State:
    shard = pool.unnamed(name)
    shard.bind_key(key)
    try:
        return shard.read().state
    finally:
        shard.close_if_idle()
