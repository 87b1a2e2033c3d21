"""Every file below ROOT/shards, classified by its name. Listing is all that happens here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from shardstore._files import disk
from shardstore._files.layout import SHARDS, Layout, is_shard_name, parse_log, parse_temp
from shardstore.errors import StoreIncomplete, StoreNotFound, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Iterator


class StoreFile(NamedTuple):
    """A file. `owner` is the shard a temp or a log file belongs to; `shard` tells whether it is one itself."""

    name: str  # relative to ROOT/shards
    shard: bool
    owner: str | None = None
    log: str | None = None  # the id of a log file

    @property
    def path(self) -> str:
        """Return the path relative to the root."""
        return f"{SHARDS}/{self.name}"


def scan(layout: Layout) -> Iterator[StoreFile]:
    """Yield everything below ROOT/shards, prefix by prefix. Raises StoreNotFound, StoreIncomplete, StoreIOError."""
    for prefix in _names(str(layout.shards), layout):
        if not disk.is_directory(layout.shard_path(prefix)):
            yield StoreFile(prefix, shard=False)
            continue
        for file in _names(layout.shard_path(prefix), layout):
            name = f"{prefix}/{file}"
            log = parse_log(name)
            if log is not None:
                yield StoreFile(name, shard=False, owner=log[0], log=log[1])
            else:
                yield StoreFile(name, is_shard_name(name), parse_temp(name))


def _names(path: str, layout: Layout) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        if not disk.exists(layout.marker):
            raise StoreNotFound(str(layout.root)) from None
        if isinstance(error, FileNotFoundError) and path == str(layout.shards):
            raise StoreIncomplete(path) from None
        raise_io_error(error, "listing the shards", path)
