"""The place of one store's index, and the files that one process has open there."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from shardstore._files.change_file.file import ChangeFile, Unusable
from shardstore._files.direct.rows import ShardProjection
from shardstore._files.direct.shards import ShardReader
from shardstore._files.forking import begin_use, end_use
from shardstore._files.index.catalog import CATALOG, Catalog
from shardstore._files.index.directories import Directories
from shardstore._files.life import life_of
from shardstore._files.marker import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore._files.layout import Layout

_inherited: Final[list[Catalog]] = []  # a forked child may not even close its parent's connections


class Place:
    """The index of one store as one process sees it. Its threads share it."""

    def __init__(self, layout: Layout, indexed: tuple[str, ...], free_descriptors: Callable[[], int]) -> None:
        self.layout = layout
        self.directory = os.fspath(layout.index)
        self.catalog_path = f"{self.directory}/{CATALOG}"
        self.directories = Directories()
        self._free_descriptors = free_descriptors
        self._idle: tuple[list[Catalog], list[Catalog]] = [], []  # those that can only be read, and the others
        self._file: ChangeFile | None = None
        self._set_fields(indexed)

    def _set_fields(self, indexed: tuple[str, ...]) -> None:
        self.shards = ShardReader(self.layout, ShardProjection(indexed), self._free_descriptors)

    @property
    def indexed(self) -> tuple[str, ...]:
        """The indexed fields."""
        return self.shards.projection.indexed

    @property
    def settings(self) -> str:
        """The settings that rows are made with."""
        return self.shards.projection.settings

    def reread_settings(self) -> None:
        """Take over what the store's marker says: another process may have indexed other fields since."""
        indexed = read_settings(self.layout).indexed
        if indexed != self.indexed:
            self._set_fields(indexed)
            self.close_idle()

    def life(self) -> str:
        """Return which life of the machine and the file system this is. Raises OSError."""
        return life_of(self.directory)

    @contextmanager
    def connection(self, *, write: bool) -> Iterator[Catalog]:
        """Use a connection that nobody else uses. It is closed if the block fails. Raises Unusable, sqlite3.Error."""
        catalog = self.take(write=write)
        try:
            yield catalog
        except BaseException:
            catalog.close()
            raise
        self.give_back(catalog)

    def take(self, *, write: bool) -> Catalog:
        """Return a connection that nobody else uses. Raises Unusable, sqlite3.Error."""
        write = write and os.access(self.catalog_path, os.W_OK)
        with suppress(IndexError):  # none is left
            taken = self._idle[write].pop()
            begin_use(taken)
            return taken
        self._check_regular()  # opening a FIFO would wait for ever
        return Catalog(self.catalog_path, self.indexed, write=write)

    def _check_regular(self) -> None:
        """Raise Unusable where there is no file, or something else has its name."""
        try:
            regular = stat.S_ISREG(os.lstat(self.catalog_path).st_mode)
        except FileNotFoundError:
            raise Unusable("there is no index") from None
        if not regular:
            raise Unusable("the catalog is not a regular file")

    def give_back(self, catalog: Catalog) -> None:
        """Keep a connection for the next who takes one."""
        if catalog.indexed == self.indexed:
            end_use(catalog)
            self._idle[catalog.writable].append(catalog)
        else:
            catalog.close()

    def change_file(self, filename: str) -> ChangeFile:
        """Return a change file, open. Raises OSError, Unusable."""
        found = self._file
        if found is None or found.filename != filename or found.fd < 0:
            write = os.access(f"{self.directory}/{filename}", os.W_OK)
            found = self._file = ChangeFile.open(self.directory, filename, write=write)
        return found

    def use(self, file: ChangeFile) -> None:
        """Go on with a change file that this process made."""
        self._file = file

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        for idle in self._idle:
            with suppress(IndexError):  # none is left
                while True:
                    idle.pop().close()

    def close(self) -> None:
        """Close all files."""
        self.close_idle()
        self._file = None

    def after_fork(self) -> None:
        """Forget, in a forked child, the inherited files."""
        _inherited.extend([*self._idle[False], *self._idle[True]])
        self._idle, self._file = ([], []), None
        self.directories = Directories()  # a thread of the parent may hold its mutex
        self.shards.after_fork()
