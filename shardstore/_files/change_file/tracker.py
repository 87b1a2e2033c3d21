"""The writer's side of the index: a shard is marked as changed before anything is committed to it.

Takes no lock and waits for nobody, so that it may be called from anywhere. Its memory is replaced as a whole; a thread
that remembers less than another marks once more.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore._files import disk
from shardstore._files.change_file.file import ChangeFile, Unusable, change, change_files, discard
from shardstore._model import UNKNOWN, UNSEEN, seen_of
from shardstore.errors import raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._model import State

_TRIES: Final = 100  # while others begin one change file after the other
_NO_CHANGE_FILE: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EINVAL})


class _KnownFile(NamedTuple):
    """One change file, as far as this process knows it."""

    file: ChangeFile
    names: set[str]  # each stands behind the last mark before `size`; some that stand there may be missing
    size: int  # up to where the file was searched for marks


class ChangeTracker:
    """Marks shards as changed in every change file of one directory."""

    __slots__ = ("_directory", "_free_descriptors", "_seen")

    def __init__(self, directory: str, free_descriptors: Callable[[], int]) -> None:
        self._directory = directory
        self._free_descriptors = free_descriptors
        self._seen: tuple[_KnownFile, ...] = ()

    def mark_changed(self, name: str, key: str = "", state: State | str = UNKNOWN, *, again: bool = False) -> None:
        """Have every list and watcher read this shard from now on. `state`: its session's, or UNKNOWN, UNSEEN.

        again: write a line though one stands behind the last mark, for a watcher that is to see what is removed.

        REQUIRES: the caller holds the shard's lock until it has committed. If the change cannot be marked, the index is
        deleted, and the next list reads every shard. Raises StoreIOError where that fails as well: commit nothing then.
        """
        seen = self._seen
        try:
            if again:
                for one in seen:
                    one.names.discard(name)
            if len(seen) == 1:  # as quick as the two system calls that it takes to know that there is nothing to do
                file, names, size = seen[0]
                if name in names and os.lseek(file.fd, 0, os.SEEK_END) == size and os.access(file.path, os.F_OK):
                    return
            elif not seen:
                try:
                    os.stat(self._directory)  # os.access says "no" as well where nobody knows
                except FileNotFoundError:
                    return  # where there is no index, whoever makes one reads this shard under its lock
            text = change(name, state if isinstance(state, str) else seen_of(state), key)
            self._mark(name, text, remember=state is not UNSEEN)
        except (OSError, Unusable):
            self._seen = ()
            self._discard()

    def _mark(self, name: str, text: str, *, remember: bool) -> None:
        """Mark it in every change file there is; again, if one of them was replaced meanwhile."""
        for _ in range(_TRIES):
            known = tuple([self._mark_in(seen, name, text, remember=remember) for seen in self._follow()])
            self._seen = known
            if all(seen.file.name_exists() for seen in known):
                return
        raise Unusable("the change file does not stay")

    def _mark_in(self, seen: _KnownFile, name: str, text: str, *, remember: bool) -> _KnownFile:
        """Append the change unless it stands behind the last mark. Raises OSError.

        A mark that no watcher sees is not remembered: a commit has to write its own all the same.
        """
        file, names, size = seen
        now = file.size()
        if now < size:
            raise Unusable("the change file was cut off")
        if now > size and file.has_mark(size, now):
            names = set()
        if name not in names:
            length = file.write(text)
            if remember:
                names.add(name)
            if file.size() == now + length:
                now += length  # nothing came between: not to be searched again
        return _KnownFile(file, names, now)

    def _follow(self) -> list[_KnownFile]:
        """Return each change file as far as it is known; a new one may hold marks anywhere."""
        if self._seen and all(seen.file.name_exists() for seen in self._seen):
            return list(self._seen)
        known = {seen.file.filename: seen for seen in self._seen if seen.file.name_exists()}
        found = []
        for filename in disk.with_descriptor(lambda: change_files(self._directory), self._free_descriptors):
            seen = known.get(filename) or self._open(filename)
            if seen is not None:
                found.append(seen)
        return found

    def _open(self, filename: str) -> _KnownFile | None:
        """Open a change file; return None if no lister can open it either."""
        try:
            opened = disk.with_descriptor(
                lambda: ChangeFile.open(self._directory, filename, write=True), self._free_descriptors
            )
        except OSError as error:
            if error.errno in _NO_CHANGE_FILE:
                return None
            raise
        return _KnownFile(opened, set(), opened.size())

    def _discard(self) -> None:
        try:
            disk.with_descriptor(lambda: discard(self._directory), self._free_descriptors)
        except OSError as error:
            raise_io_error(error, "deleting the index, in which a change could not be marked", self._directory)

    def close(self) -> None:
        """Close all files."""
        self._seen = ()
