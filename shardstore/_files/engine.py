"""The file engine of one opened store: its shards and its index, one set per process.

A store is known by the device and inode of its root, so a symbolic link, a relative path, a bind mount and any number
of Store objects lead to the same shards, gates and nesting guard.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from shardstore._files.file import open_files
from shardstore._files.index import Index
from shardstore._files.layout import Layout
from shardstore._files.marker import check_owner, read_settings
from shardstore._files.pool import Pool
from shardstore.errors import StoreNotFound, raise_io_error

if TYPE_CHECKING:
    from pathlib import Path

_engines: dict[tuple[int, int], Engine] = {}
_registry = threading.Lock()


def open_engine(root: Path, *, allow_shared: bool) -> Engine:
    """Join the engine of the store at `root`; every call is matched by one of `Engine.leave`.

    Raises StoreNotFound, UnsupportedFormat, UnsafeStore, StoreIOError.
    """
    layout = Layout(os.path.realpath(root))  # an alias that goes away takes nobody's store with it
    settings = read_settings(layout)
    if not allow_shared:
        check_owner(layout)
    try:
        status = os.stat(root)
    except FileNotFoundError:
        raise StoreNotFound(str(root)) from None
    except OSError as error:
        raise_io_error(error, "opening the store", str(root))
    identity = (status.st_dev, status.st_ino)
    with _registry:
        engine = _engines.get(identity)
        if engine is None or not engine.is_at(identity):
            # The store was moved, or is gone and its inode's number was given to another one.
            engine = _engines[identity] = Engine(identity, layout, settings.indexed)
        engine.members += 1
        return engine


class Engine:
    """The shards and the index of one store."""

    def __init__(self, identity: tuple[int, int], layout: Layout, indexed: tuple[str, ...]) -> None:
        self.layout = layout
        self.shards = Pool(layout)
        self.index = Index(layout, indexed, self.shards)
        self.process = str(os.getpid())  # who writes, unless the caller gave a name
        self.members = 0  # Store objects that use it
        self._identity = identity

    def is_at(self, identity: tuple[int, int]) -> bool:
        """Tell whether this engine's path still leads to the store of this identity."""
        try:
            status = os.stat(self.layout.root)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == identity and self.layout.marker.exists()

    def leave(self) -> None:
        """Leave; the last one out closes what is open."""
        with _registry:
            self.members -= 1
            if self.members:
                return
            if _engines.get(self._identity) is self:
                del _engines[self._identity]
        self.shards.close()
        self.index.close()

    def after_fork(self) -> None:
        """Forget the parent's locks and what it had open."""
        self.process = str(os.getpid())
        self.shards.after_fork()
        self.index.after_fork()


def _after_fork() -> None:
    """Close, in a forked child, every inherited descriptor: it would keep the parent's locks alive."""
    global _registry  # noqa: PLW0603  # the old one may be held by a thread that the child does not have
    _registry = threading.Lock()
    for file in list(open_files):
        file.after_fork()
    for engine in list(_engines.values()):
        engine.after_fork()


os.register_at_fork(after_in_child=_after_fork)
