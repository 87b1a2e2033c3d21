"""The change file: which shards may have changed since the catalog, and what the catalog looks like. Append-only text.

    shardstore changes.<random> <inode>
    <crc32> < changes.<random>                        the file that this one goes on from, if it was not rebuilt
    <crc32> 3f/slug~hash.jsonl <seen> "<key>"         a change: whoever holds this shard's lock may commit to it
    <crc32> +                                         a mark: changes in front of it spare no other
    <crc32> = <mark> <inode> <size> <mtime> <ctime>   a seal: the catalog looks like this and knows all before <mark>

<seen> is for watchers (_files/watch/): the session's version, "absent", "?" where it is not known, or "-" where no
watcher sees a difference. The key is left out where it is not known.

Each line's checksum is seeded with the first line. A name is used once, and the first line holds the inode's number,
so no other file, and no copy of this one, is taken for it. Where the name is gone, so is the index. The file's flock is
the index lock. Nothing is synced: after a crash of the machine or the file system nobody believes it (life.py).
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
import time
import weakref
from contextlib import suppress
from typing import Final, NamedTuple, Self
from zlib import crc32

from shardstore import _codec as codec
from shardstore._files import disk
from shardstore._files.locks.flock import descriptors, try_lock, unlock

PREFIX: Final = "changes."
TEMP_PREFIX: Final = ".tmp-"
BYTES_MAX: Final = 16 << 20  # a refresh begins a new file past this; the one before is kept for watchers
BEFORE: Final = "changes-before"  # its name then
MARK: Final = "+"

_NAME: Final = re.compile(r"changes\.[0-9a-f]{16}")
_HEAD: Final = re.compile(rb"shardstore (changes\.[0-9a-f]{16}) ")
_FLAGS: Final = os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_HEAD_BYTES_MAX: Final = 128
_MARK_END: Final = b" +\n"
_UNFINISHED_S: Final = (0.0002, 0.001, 0.005)  # seconds that a line may take to be written whole
_NO_DIRECTORY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

_open_files: weakref.WeakSet[ChangeFile] = weakref.WeakSet()


class Unusable(Exception):
    """A file in index/ cannot be believed."""


class Pending(NamedTuple):
    """What a change file holds behind a mark."""

    names: set[str]  # of shards that may have changed
    seal: str | None  # the last one
    end: int  # where it ends


def change_files(directory: str) -> list[str]:
    """Return the names of the change files there are; normally one. Raises OSError unless there is no directory."""
    try:
        with os.scandir(directory) as entries:
            return sorted(e.name for e in entries if _NAME.fullmatch(e.name) and e.is_file(follow_symlinks=False))
    except OSError as error:
        if error.errno in _NO_DIRECTORY:
            return []
        raise


def impostors(directory: str) -> list[str]:
    """Return the names that a link, a directory or a FIFO has taken from a change file. Raises OSError.

    The name of the one before is among them, if it is there.
    """
    files = change_files(directory)
    return [name for name in os.listdir(directory) if name == BEFORE or (_NAME.fullmatch(name) and name not in files)]


def discard(directory: str) -> None:
    """Unlink every change file: from here on no list goes by this index. Raises OSError."""
    for file in change_files(directory):
        unlink(f"{directory}/{file}")


def change(name: str, seen: str, key: str) -> str:
    """Return the text of a change line; `key` may be empty, or only the shard's name."""
    return f"{name} {seen} {codec.dumps(key).decode()}" if key and key != name else f"{name} {seen}"


def unlink(path: str) -> None:
    """Unlink a file that may be gone. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


class ChangeFile:
    """One change file, open. Closed when the last one who uses it lets go."""

    # Known once the first line was read or made.
    name: str  # which it is, under any name
    start: int  # where the first line ends
    _seed: int  # of the checksums

    def __init__(self, directory: str, filename: str, flags: int) -> None:
        """Open the file without reading it. Raises OSError."""
        self.directory = directory
        self.filename = filename
        self.path = f"{directory}/{filename}"
        self.owner = 0  # ident of the thread that holds the index lock through this object
        self._guard = threading.Lock()  # flock does not exclude those who share the descriptor
        with descriptors:  # a fork must know every descriptor
            self.fd = disk.open_file(self.path, flags | _FLAGS)
            _open_files.add(self)
        if flags & os.O_CREAT:
            disk.inherit_access(self.fd, self.path)
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", self.path)
        self.identity = (status.st_ino, status.st_dev)

    @classmethod
    def create(cls, directory: str, before: str = "") -> Self:
        """Create a new one, whose lock the caller holds from the start; `before`: it goes on from. Raises OSError."""
        name = f"{PREFIX}{os.urandom(8).hex()}"
        made = cls(directory, f"{TEMP_PREFIX}{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            made.lock()
            made._write(made._begin(name))
            if before:
                made.write(f"< {before}")
            os.rename(made.path, f"{directory}/{name}")
        except BaseException:
            unlink(made.path)
            raise
        made.filename, made.path = name, f"{directory}/{name}"
        return made

    @classmethod
    def open(cls, directory: str, filename: str, *, write: bool) -> Self:
        """Open an existing one, also the one before. Raises OSError; Unusable if it is a copy, or no change file."""
        found = cls(directory, filename, os.O_RDWR if write else os.O_RDONLY)
        given = os.pread(found.fd, _HEAD_BYTES_MAX, 0)
        match = _HEAD.match(given) if filename == BEFORE else None
        head = found._begin(match[1].decode() if match is not None else filename)
        if given[: len(head)] != head:
            raise Unusable(f"{filename} begins as no change file does, or is a copy")
        return found

    def _begin(self, name: str) -> bytes:
        head = f"shardstore {name} {self.identity[0]}\n".encode()
        self.name, self._seed, self.start = name, crc32(head), len(head)
        return head

    def close(self) -> None:
        """Close the descriptor, and with it the lock. A second call does nothing."""
        with descriptors:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                with suppress(OSError):  # it is closed all the same
                    os.close(fd)

    def __del__(self) -> None:
        # Not set where opening failed; None once the interpreter has cleared this module, at its end.
        if getattr(self, "fd", -1) >= 0 and descriptors is not None:
            self.close()

    def name_exists(self) -> bool:
        """Return whether the name is there: enough for a writer, since no lister believes another file of that name."""
        return os.access(self.path, os.F_OK)

    def is_named(self) -> bool:
        """Return whether the name still leads to this file. Listers go by the name."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return (status.st_ino, status.st_dev) == self.identity

    def append(self, text: str) -> int:
        """Append a line; return where it ends. REQUIRES: one thread at a time. Raises OSError."""
        self.write(text)
        return os.lseek(self.fd, 0, os.SEEK_CUR)  # one write moves it to its own end

    def write(self, text: str) -> int:
        """Append a line, from any thread; return its length. Raises OSError."""
        raw = text.encode()
        line = b"%08x %b\n" % (crc32(raw, self._seed), raw)
        self._write(line)
        return len(line)

    def _write(self, data: bytes) -> None:
        if os.write(self.fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)

    def size(self) -> int:
        """Return the size in bytes. Raises OSError."""
        return os.fstat(self.fd).st_size  # lseek would move, under another thread, the place that `append` asks for

    def has_mark(self, start: int, stop: int) -> bool:
        """Return whether a mark ends behind `start`, itself behind the first line, and up to `stop`. Raises OSError."""
        return _MARK_END in os.pread(self.fd, stop - start + 2, start - 2)

    def read(self, start: int) -> Pending:
        """Return what the lines from `start` on say. Raises Unusable, OSError."""
        names: set[str] = set()
        seal = None
        texts, end = self.lines(start)
        for text in texts:
            if text.startswith(b"="):
                seal = text[2:].decode()
            elif text != b"+" and not text.startswith(b"<"):
                names.add(text.partition(b" ")[0].decode())
        return Pending(names, seal, end)

    def read_all(self) -> Pending:
        """Return what all lines behind the first say. Raises Unusable, OSError."""
        return self.read(len(self._begin(self.filename)))

    def lines(self, start: int) -> tuple[list[bytes], int]:
        """Return the lines from a place on, without their checksums, and where they end. Raises Unusable, OSError."""
        lines, seed = self._lines(start), self._seed
        if any(line[:9] != b"%08x " % crc32(line[9:], seed) for line in lines):
            raise Unusable("a line of the change file is damaged")
        return [line[9:] for line in lines], start + sum(len(line) + 1 for line in lines)

    def _lines(self, start: int) -> list[bytes]:
        """Return the lines from a place on. One that is not finished is being written now, or damaged."""
        if self.size() < start:
            raise Unusable("the change file was cut off")
        for pause in (*_UNFINISHED_S, None):
            data = b""
            while part := os.pread(self.fd, 1 << 20, start + len(data)):
                data += part
            if data.endswith(b"\n") or not data:
                return data[:-1].split(b"\n") if data else []
            if pause is not None:
                time.sleep(pause)
        raise Unusable("the change file is cut off")

    # The index lock

    def lock(self) -> bool:
        """Take the index lock if it is free right now; return whether this object holds it for the caller."""
        if not self._guard.acquire(blocking=False):
            return False
        taken = False
        try:
            self.owner = threading.get_ident()
            taken = try_lock(self.fd)
        except BaseException:
            self.close()  # and with it a lock that was granted in this very moment
            raise
        finally:
            if not taken:
                self._let_go()
        return taken

    def unlock(self) -> None:
        """Release the index lock. REQUIRES: the caller holds it, or inherited it by a fork, which closed the file."""
        try:
            if self.fd >= 0:
                unlock(self.fd)
        except OSError:
            self.close()  # which gives it back for certain
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self.owner = 0
        self._guard.release()


def after_fork() -> None:
    """Close, in a forked child, every inherited change file: its descriptor would keep the parent's lock alive."""
    for file in list(_open_files):
        file.close()


def holds_index_lock(directory: str) -> bool:
    """Return whether a frame beneath, in this thread, holds an index lock: waiting for it would never end."""
    here = threading.get_ident()
    return any(file.owner == here and file.directory == directory for file in list(_open_files))
