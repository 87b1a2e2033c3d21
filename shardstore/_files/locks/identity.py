"""What a path names at this moment, asked without asking when it changed.

Since Linux 6.13 the first write after somebody asked for a file's times gives it a time of its own, to the nanosecond,
and so dirties the inode (https://docs.kernel.org/filesystems/multigrain-ts.html): the write takes 1 us longer, the
fdatasync behind it half as long again. A writer looks before every commit. So it asks for inode, links and size alone,
which os.lstat cannot: it takes statx(2), by ctypes, once a process has looked often enough to pay for the import.
"""

from __future__ import annotations

import os
import struct
import sys
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from shardstore._imports import late_imports

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    _Call = Callable[[], int]

FileIdentity = tuple[int, int, int, bytes]  # links, inode, size, device
NO_FILE: Final[FileIdentity] = (0, 0, 0, b"")

_OFTEN: Final = 64  # looks; fewer are not worth the 2 ms of importing ctypes
_STATX: Final = struct.Struct("=16xI12xQQ88x8s")  # a FileIdentity's fields in struct statx, alike on every machine
_STATX_BYTES: Final = 256
_DEVICE: Final = struct.Struct("=II")
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW = -100, 0x100
_STATX_NLINK, _STATX_INO, _STATX_SIZE = 0x4, 0x100, 0x200


unpack_identity: Final = _STATX.unpack_from
_no_statx: Final = partial(int, -1)


def identity_of(status: os.stat_result) -> FileIdentity:
    """Return the identity that `PathIdentity.current` would have found."""
    device = _DEVICE.pack(os.major(status.st_dev), os.minor(status.st_dev))
    return status.st_nlink, status.st_ino, status.st_size, device


class PathIdentity:
    """A path that is looked at again and again.

    Not safe between threads: the kernel writes every answer to the same place, an older one perhaps after a newer one.
    """

    __slots__ = ("_prepared", "answer", "ask", "path")

    asked: ClassVar[int] = 0  # by lstat, of this process

    def __init__(self, path: str) -> None:
        self.path = path
        self._prepared = False
        # The call of statx, and where the kernel writes its answer: unpack_identity(answer) where ask() is 0. A call of
        # C, so that whoever looks in the path of every update needs no function of Python's for it.
        self.ask: _Call = _no_statx
        self.answer: Buffer = b""

    def current(self) -> FileIdentity:
        """Return what the path itself names now, links not followed. Raises OSError."""
        if self.ask() == 0:
            return unpack_identity(self.answer)
        if not self._prepared:
            self._prepare()
        return identity_of(os.lstat(self.path))  # also where statx failed: this says why

    def _prepare(self) -> None:
        """Have later looks ask by statx, if that was loaded; ask for it once a process has looked often."""
        if _statx is None:
            PathIdentity.asked += 1
            if PathIdentity.asked == _OFTEN and sys.platform == "linux":
                statx_wanted.append(True)
            return
        ask, self.answer = _statx(os.fsencode(self.path))
        self.ask = ask  # last: an exception from outside may come before it
        self._prepared = True


statx_wanted: Final[list[bool]] = []  # not empty: `load_statx` is to be called, by whoever holds no lock

_statx: Callable[[bytes], tuple[_Call, Buffer]] | None = None  # prepares the call for a path


def load_statx() -> None:
    """Import the modules for statx. REQUIRES: the caller holds no lock, for an import may take long."""
    global _statx  # noqa: PLW0603  # one a process
    statx_wanted.clear()
    try:
        with late_imports:
            import ctypes

        statx = ctypes.CDLL(None).statx
    except (ImportError, OSError, AttributeError):
        return

    def prepare(path: bytes) -> tuple[_Call, Buffer]:
        answer = ctypes.create_string_buffer(_STATX_BYTES)
        arguments = (  # converted once: it is half of the price of a call
            ctypes.c_int(_AT_FDCWD),
            ctypes.c_char_p(path),
            ctypes.c_int(_AT_SYMLINK_NOFOLLOW),
            ctypes.c_uint(_STATX_NLINK | _STATX_INO | _STATX_SIZE),
            answer,
        )
        return partial(statx, *arguments), answer

    _statx = prepare
