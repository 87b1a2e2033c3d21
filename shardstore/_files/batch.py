"""A batch in files: transactions on one session after the other, whose syncs are shared."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from shardstore._files import disk, syncfs
from shardstore._files.layout import PREFIXES
from shardstore._files.syncs import Syncs
from shardstore._files.transaction import FileTransaction
from shardstore._imports import late_imports
from shardstore._inside import inside_update
from shardstore.errors import CommitUncertain, StoreIOError, StoreNotFound, raise_uncertain

if TYPE_CHECKING:
    from shardstore._files.engine import FileEngine
    from shardstore._files.shard import Shard
    from shardstore._model import State
    from shardstore.reports import ArchivedFile


class FileBatch:
    """The batch of `FileEngine.batch`. Used by one thread."""

    def __init__(self, engine: FileEngine, *, durable: bool) -> None:
        self._engine = engine
        self._syncs = Syncs(engine.location, durable=durable)

    def __enter__(self) -> Self:
        """Get ready. Raises StoreIOError."""
        if not inside_update():
            syncfs.load()
        self._syncs.begin()
        return self

    def __exit__(self, *exc: object) -> None:
        """Sync the last group, after an error too. Raises CommitUncertain."""
        try:
            self.sync()
        except CommitUncertain:
            if not any(isinstance(error, StoreNotFound) for error in exc):  # which says more
                raise
        finally:
            self._syncs.close()

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> FileTransaction:
        """Return a transaction on a session, whose syncs wait for the group's."""
        txn = self._engine.pool.transaction(key, timeout, create=create)
        txn.syncs = self._syncs
        return txn

    def transaction_on_file(self, shard: Shard, *, create: bool = False) -> FileTransaction:
        """Return such a transaction on a file, for maintenance."""
        txn = self._engine.pool.transaction_on_file(shard, create=create)
        txn.syncs = self._syncs
        return txn

    def cover(self, txn: object) -> None:
        """Have a session's committed state synced with the group. REQUIRES: inside `with txn`."""
        assert isinstance(txn, FileTransaction)
        if self._syncs.durable:
            txn.cover()

    def restore(self, archived: ArchivedFile, timeout: float | None) -> State:
        """Bring an archived session back."""
        with late_imports:
            from shardstore._files.maintenance.archive import restore_file

        assert archived.key is not None
        with self.transaction(archived.key, timeout) as txn:
            return restore_file(self._engine, txn, archived.key, os.path.join(self._engine.location, archived.path))

    @property
    def due(self) -> bool:
        """Whether the group is to be synced before the next transaction."""
        return self._syncs.due

    def sync(self, *, names: bool = False) -> None:
        """Sync the group; with `names`, the names of all sessions. Raises CommitUncertain.

        REQUIRES: no transaction of the batch is inside.
        """
        if names:
            layout = self._engine.layout
            try:
                there = [path for path in map(layout.shard_path, PREFIXES) if disk.is_directory(path)]
            except StoreIOError as error:
                raise_uncertain(error, "syncing a batch", str(layout.root))
            for path in there:
                self._syncs.add_names(path)
        try:
            self._syncs.sync()
        except CommitUncertain:
            self._engine.pool.close_idle()  # so that whatever is there is read again
            raise
