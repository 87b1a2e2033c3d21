"""Directories of a store that were lost: by tools that keep files only, by an unmounted or half-restored tree.

A writer makes the directory it needs, for a new session must be possible. But which sessions were in there nobody
knows, so it first leaves a record in quarantine/, and verify and doctor name that until a repair.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shardstore import _codec as codec
from shardstore import _events as events
from shardstore._files import disk
from shardstore._files.layout import PREFIXES, Layout, lost_name, parse_lost
from shardstore.errors import raise_io_error

if TYPE_CHECKING:
    from collections.abc import Iterator


def make_prefix(layout: Layout, prefix: str) -> None:
    """Create the directory of a prefix if it is not there, and record that it was lost. Raises StoreIOError."""
    path = layout.shard_path(prefix)
    if disk.exists(path):
        return
    try:
        _record(layout, prefix)
        for directory, parent in ((str(layout.shards), str(layout.root)), (path, str(layout.shards))):
            disk.make_directory(directory)
            disk.sync_directory(parent)
        events.note("store", events.WARNING, "made the lost directory %s again; verify names it until --repair", path)
    except OSError as error:
        raise_io_error(error, "making a directory of the store again", path)


def _record(layout: Layout, prefix: str) -> None:
    disk.make_directory(layout.quarantine)
    fd = disk.open_file(layout.quarantine / lost_name(prefix), disk.CREATE_NEW)
    try:
        disk.write_all(fd, codec.dumps({"lost_directory": f"shards/{prefix}", "made_again_by": os.getpid()}) + b"\n", 0)
        disk.sync(fd)
    finally:
        os.close(fd)
    disk.sync_directory(layout.quarantine)
    disk.sync_directory(layout.root)


def missing(layout: Layout) -> list[str]:
    """Return the prefixes whose directories are not there. Raises StoreIOError."""
    return [prefix for prefix in PREFIXES if not disk.exists(layout.shard_path(prefix))]


def quarantined(layout: Layout) -> list[str]:
    """Return the names in quarantine/; none where something else is in its place, which verify names."""
    try:
        disk.check_directory(layout.quarantine)
        return sorted(os.listdir(layout.quarantine))
    except (FileNotFoundError, NotADirectoryError):
        return []


def records(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield (prefix, file name in quarantine/) of each directory that a writer made again."""
    for name in quarantined(layout):
        prefix = parse_lost(name)
        if prefix is not None:
            yield prefix, name


def make_whole(layout: Layout) -> None:
    """Create every directory that is missing, without sessions, and forget the records. Raises StoreIOError."""
    named = [name for _, name in records(layout)]  # a writer may add one meanwhile, which stays
    try:
        for directory in (layout.shards, layout.archive, layout.quarantine, layout.index):
            disk.make_directory(directory)
        for prefix in missing(layout):
            disk.make_directory(layout.shard_path(prefix))
        disk.sync_directory(layout.shards)
        disk.sync_directory(layout.root)
        for name in named:
            os.unlink(layout.quarantine / name)
        disk.sync_directory(layout.quarantine)
    except OSError as error:
        raise_io_error(error, "making the store's directories again", str(layout.root))
