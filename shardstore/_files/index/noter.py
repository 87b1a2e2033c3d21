"""What a writer does for the index: note the shard, once in each generation, before the first commit.

Calling sequence of a writer, which holds the shard's lock all the while:

    read the generation; in it already noted: done
    append the shard's name to the note files of that generation
    read the generation again; it moved: once more
    commit

A refresher first advances the generation and then reads notes, so either it reads this note, or the writer sees the
generation move and notes again; and it reads a noted shard only under its lock, so not before the commit.

A writer never makes anything in index/. Where there is no generation file there is nothing to note: whoever makes one
reads every shard under its lock afterwards, and this writer holds one. For the same reason a writer that cannot note
deletes the generation file and goes on.

Lease: looking whether the open generation file is still the named one takes a stat of its path, which costs more than
everything else here. It is done when the last look is older than LEASE_S. So whoever makes a generation file waits
for GRACE_S before it reads the first shard: a writer that got its shard's lock after that has looked since.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from typing import Final

from shardstore._files.index.files import GENERATION, temp_name
from shardstore._files.index.generation import BASE, open_generation, parse_head, read_page
from shardstore._files.index.notes import NoteWriter
from shardstore.errors import raise_io_error

LEASE_S: Final = 0.001
GRACE_S: Final = 2 * LEASE_S
_ATTEMPTS: Final = 1000  # generations that may pass while one note is made
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # ELOOP: of index/ itself, so nobody has one


class _Held:
    """One generation as this process sees it: the open files, and the names that it has noted there.

    Closed when the last thread that looks at it lets go: a descriptor's number must not change hands meanwhile.
    """

    __slots__ = ("epoch", "fd", "identity", "names", "notes", "size", "until")

    def __init__(self, fd: int, epoch: str, identity: tuple[int, int]) -> None:
        self.fd = fd
        self.epoch = epoch
        self.identity = identity
        self.size = -1  # of the generation file, in the generation that `names` and `notes` are of
        self.names: set[str] = set()
        self.notes: NoteWriter | None = None
        self.until = 0.0  # time.monotonic until which this is taken for the named file

    def entering(self, size: int, notes: NoteWriter, until: float) -> _Held:
        """Make the same for another generation of the same file."""
        other = _Held(os.dup(self.fd), self.epoch, self.identity)
        other.size, other.notes, other.until = size, notes, until
        return other

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):  # nothing was written through it
                os.close(fd)
        if self.notes is not None:
            self.notes.close()

    def __del__(self) -> None:
        self.close()


class Noter:
    """Notes changes of one store's shards, for all threads of this process."""

    __slots__ = ("_absent_until", "_directory", "_held", "_mutex", "_path")

    def __init__(self, directory: str) -> None:
        """`directory` is ROOT/index."""
        self._directory = directory
        self._path = f"{directory}/{GENERATION}"
        self._mutex = threading.RLock()  # re-entrant: a signal handler may write to another session
        self._held: _Held | None = None
        self._absent_until = 0.0

    def note(self, name: str) -> None:
        """Have the next list look at this shard. REQUIRES: the caller holds the shard's lock and has not written yet.

        Raises StoreFull or StoreIOError when the index can neither be told nor deleted; then nothing may be committed.
        """
        held = self._held
        try:
            if held is None:
                if time.monotonic() < self._absent_until:
                    return
            elif (
                name in held.names
                and os.lseek(held.fd, 0, os.SEEK_END) == held.size
                and (time.monotonic() < held.until or self._is_named(held))
            ):
                return
        except OSError as error:
            self._invalidate(error)
            return
        with self._mutex:
            try:
                self._note(name)
            except OSError as error:
                self._invalidate(error)

    def _is_named(self, held: _Held) -> bool:
        """Look whether `held` still is what the path names, as _look does, without the mutex; False: do that."""
        before = time.monotonic()
        try:
            status = os.lstat(self._path)
        except OSError:
            return False
        if (status.st_dev, status.st_ino) != held.identity:
            return False
        held.until = before + LEASE_S
        return True

    def _note(self, name: str) -> None:
        """Note until the generation does not move meanwhile."""
        for _ in range(_ATTEMPTS):
            held = self._current()
            if held is None or name in held.names:
                return
            assert held.notes is not None
            held.notes.append(name)
            if os.lseek(held.fd, 0, os.SEEK_END) == held.size:
                held.names.add(name)
                return
        raise OSError(errno.EBUSY, "the generation moved a thousand times", self._path)

    def _current(self) -> _Held | None:
        """Give the present generation, its note files open; None where there is no index. Raises OSError."""
        held = self._held
        while True:
            if held is None or time.monotonic() >= held.until:
                held = self._look(held)
                if held is None:
                    return None
            size = os.lseek(held.fd, 0, os.SEEK_END)
            if size == held.size:
                return held
            try:
                notes = NoteWriter(self._directory, held.epoch, size - BASE)
            except FileNotFoundError:
                # Either the generation has passed meanwhile, or somebody took its note files away.
                fresh = self._look(held)
                if fresh is None or (fresh is held and os.lseek(held.fd, 0, os.SEEK_END) == size):
                    raise
                held = fresh
                continue
            held = self._held = held.entering(size, notes, held.until)
            return held

    def _look(self, held: _Held | None) -> _Held | None:
        """See which generation file the path names: `held` if it is that, else the other one opened. Raises OSError."""
        before = time.monotonic()
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            self._held = None
            self._absent_until = before + LEASE_S
            return None
        identity = (status.st_dev, status.st_ino)
        if held is None or held.identity != identity:
            fd = open_generation(self._path, write=False)
            held = _Held(fd, "", identity)  # which closes the descriptor, whatever fails from here on
            status = os.fstat(fd)
            held.identity = (status.st_dev, status.st_ino)
            head = parse_head(read_page(fd))
            if head is None:
                raise OSError(errno.EIO, "the generation file is damaged", self._path)
            held.epoch = head.epoch
            self._held = None
            if held.identity != identity:
                return self._look(held)
        held.until = before + LEASE_S
        return held

    def _invalidate(self, error: OSError) -> None:
        """Delete the generation file, so that the next list reads every shard. Raises StoreFull, StoreIOError."""
        self._held = None
        try:
            discard(self._directory, GENERATION)
        except OSError as second:
            second.__context__ = error
            raise_io_error(second, "telling the index of a change", self._path)
        self._absent_until = 0.0

    def close(self) -> None:
        """Let go of what is open."""
        self._held = None

    def after_fork(self) -> None:
        """Close, in a forked child, what it inherited."""
        self._mutex = threading.RLock()
        held, self._held = self._held, None
        if held is not None:
            held.close()


def discard(directory: str, file: str) -> None:
    """Take a name in index/ away, whatever it names. Raises OSError."""
    path = f"{directory}/{file}"
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (IsADirectoryError, PermissionError):
        if not os.path.isdir(path) or os.path.islink(path):
            raise
        os.rename(path, f"{directory}/{temp_name()}")
