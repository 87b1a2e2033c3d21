"""Moving sessions out of the store and back. REQUIRES, for `archive`: the caller holds the shard's lock."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shardstore._files import disk
from shardstore._files.layout import parse_stamped, shard_name, stamped_name
from shardstore._files.maintenance.repair import adopt
from shardstore.errors import SessionExists, SessionNotFound, raise_io_error, raise_uncertain

if TYPE_CHECKING:
    from shardstore._files.engine import Engine
    from shardstore._files.shard import Shard
    from shardstore._journal.replay import State


def archive(engine: Engine, shard: Shard) -> None:
    """Move the shard's file to archive/: whole, under a name that says when. The session is absent from then on."""
    layout = engine.layout
    target = layout.archive / stamped_name(shard.name)
    engine.index.mark_changed(shard.name)
    try:
        disk.make_directory(layout.archive)
        os.rename(shard.path, target)
    except OSError as error:
        raise_io_error(error, "archiving a session", shard.path)
    try:
        # The new name first: between the two syncs a power cut may leave both names, never none.
        disk.sync_directory(layout.archive)
        disk.sync_directory(os.path.dirname(shard.path))
    except OSError as error:
        raise_uncertain(error, "archiving a session", shard.path)


def archived(engine: Engine, key: str) -> list[str]:
    """Give the names in archive/ of this session's files, oldest first."""
    name = shard_name(key)
    try:
        files = os.listdir(engine.layout.archive)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise_io_error(error, "listing the archive", str(engine.layout.archive))
    stamps = [(parsed[1], file) for file in files if (parsed := parse_stamped(file)) and parsed[0] == name]
    return [file for _, file in sorted(stamps)]


def restore(engine: Engine, key: str, timeout: float | None) -> State:
    """Move the file archived last back into the store.

    Raises SessionNotFound, SessionExists, CorruptShard (the archived file is damaged, and stays), LockTimeout.
    """
    shard = engine.shards.shard(key)
    if shard.read().exists:
        raise SessionExists(key)
    files = archived(engine, key)
    if not files:
        raise SessionNotFound(key)
    shard.lock(timeout, create=True)
    try:
        if shard.refresh().exists:
            raise SessionExists(key)
        engine.index.mark_changed(shard.name)
        return adopt(shard, str(engine.layout.archive / files[-1]))
    finally:
        shard.unlock()
