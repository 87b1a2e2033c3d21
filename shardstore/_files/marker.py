"""Creating a store, and the marker ROOT/shardstore.json, on which every process that opens it must agree."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from shardstore import _codec as codec
from shardstore._files import disk
from shardstore._files.layout import DIRECTORY_MODE, FORMAT, PREFIXES, Layout
from shardstore.errors import StoreNotFound, UnsafeStore, UnsupportedFormat, raise_io_error

if TYPE_CHECKING:
    from pathlib import Path

_MARKER_BYTES_MAX = 1 << 20


class Settings(NamedTuple):
    """What the marker says."""

    format: int = FORMAT
    created_at: int = 0  # milliseconds since the epoch
    indexed: tuple[str, ...] = ()  # fields with an index of their own


def make_store(layout: Layout, settings: Settings, *, allow_shared: bool = False) -> None:
    """Create the store unless it is there. Any number of processes may do so at once.

    Raises UnsafeStore, StoreFull, StoreIOError.
    Every directory is made and synced before the marker: one made when it is first needed would be one more thing
    that an acknowledged commit depends on.
    """
    try:
        if disk.exists(layout.marker):
            return
        if not allow_shared and disk.exists(layout.root):
            check_owner(layout)  # before anything is made in it
        missing = [path for path in layout.root.parents if not disk.exists(path)]
        layout.root.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # a link to a directory is as good a root as any
            layout.root.mkdir(DIRECTORY_MODE)
        for path in (layout.shards, layout.archive, layout.quarantine):  # index/ is made by the first list
            disk.make_directory(path)
        for prefix in PREFIXES:
            disk.make_directory(layout.shards / prefix)
        for path in (layout.shards, layout.root, layout.root.parent, *(path.parent for path in missing)):
            disk.sync_directory(path)
        disk.publish(layout.marker, _encode(settings), replace=False)
    except UnsafeStore:
        raise
    except OSError as error:
        raise_io_error(error, "making the store", str(layout.root))


def write_settings(layout: Layout, settings: Settings) -> None:
    """Replace the marker by one with other settings. Raises StoreFull, StoreIOError."""
    try:
        disk.publish(layout.marker, _encode(settings))
    except OSError as error:
        raise_io_error(error, "changing the store's settings", str(layout.marker))


def _encode(settings: Settings) -> bytes:
    marker: dict[str, Any] = {
        "format": settings.format,
        "created_at": settings.created_at or time.time_ns() // 1_000_000,
        "indexed": list(settings.indexed),
    }
    return codec.dumps({"shardstore": marker}) + b"\n"


def read_settings(layout: Layout) -> Settings:
    """Read the marker. Raises StoreNotFound, UnsupportedFormat, StoreIOError."""
    try:
        text = _read(layout.marker)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFound(str(layout.root)) from None
    except OSError as error:
        if error.errno == errno.ELOOP and os.path.islink(layout.marker):
            raise UnsupportedFormat(f"{layout.marker} is a symbolic link, not the marker of a store") from None
        raise_io_error(error, "opening the store", str(layout.marker))
    try:
        marker = codec.loads(text)["shardstore"]
        found = marker["format"]
        fields = marker["indexed"]
        settings = Settings(found, marker["created_at"], tuple(fields))
        if isinstance(fields, str) or not all(type(name) is str for name in fields):
            raise TypeError(fields)
    except (codec.JSONDecodeError, KeyError, TypeError):
        raise UnsupportedFormat(f"{layout.marker} is not the marker of a store; restore it from a backup") from None
    if found != FORMAT:
        known = f"this shardstore reads format {FORMAT}"
        raise UnsupportedFormat(f"{layout.root} has format {found}, and {known}; upgrade shardstore")
    return settings


def _read(marker: Path) -> bytes:
    """Read the marker; an object that is no file reads as empty (a FIFO would make a plain open wait)."""
    fd = os.open(marker, disk.READ)
    try:
        status = os.fstat(fd)
        return disk.read_all(fd, 0, min(status.st_size, _MARKER_BYTES_MAX)) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(fd)


def check_owner(layout: Layout) -> None:
    """Refuse a store that other users could change. Raises UnsafeStore."""
    try:
        status = os.stat(layout.root)
    except OSError as error:
        raise_io_error(error, "opening the store", str(layout.root))
    if status.st_uid != os.geteuid():
        raise UnsafeStore(str(layout.root), f"belongs to user {status.st_uid}, not to user {os.geteuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeStore(str(layout.root), "may be written to by other users (chmod 700 closes it)")
