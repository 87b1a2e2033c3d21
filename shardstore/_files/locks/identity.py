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

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    _Call = Callable[[], int]

Look = tuple[int, int, int, bytes]  # links, inode, size, device
NOTHING: Final[Look] = (0, 0, 0, b"")

_OFTEN: Final = 64  # looks; less are not worth the 2 ms of importing ctypes
_STATX: Final = struct.Struct("=16xI12xQQ88x8s")  # a Look's fields in struct statx, alike on every machine
_STATX_BYTES: Final = 256
_DEVICE: Final = struct.Struct("=II")
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW = -100, 0x100
_STATX_NLINK, _STATX_INO, _STATX_SIZE = 0x4, 0x100, 0x200


unpack_look: Final = _STATX.unpack_from
_no_statx: Final = partial(int, -1)


def look_of(status: os.stat_result) -> Look:
    """Give what a `Name.look` would have found."""
    device = _DEVICE.pack(os.major(status.st_dev), os.minor(status.st_dev))
    return status.st_nlink, status.st_ino, status.st_size, device


class Name:
    """A path that is looked at again and again.

    Not safe between threads: the kernel writes every answer to the same place, an older one perhaps after a newer one.
    """

    __slots__ = ("_prepared", "answer", "ask", "path")

    looks: ClassVar[int] = 0  # by lstat, of this process

    def __init__(self, path: str) -> None:
        self.path = path
        self._prepared = False
        # The call of statx, and where the kernel writes its answer: unpack_look(answer) where ask() is 0. A call of C,
        # so that whoever looks in the path of every update needs no function of Python's for it.
        self.ask: _Call = _no_statx
        self.answer: Buffer = b""

    def look(self) -> Look:
        """See what the path itself names now, links not followed. Raises OSError."""
        if self.ask() == 0:
            return unpack_look(self.answer)
        Name.looks += 1
        if Name.looks >= _OFTEN and not self._prepared:
            self._prepared = True
            self._prepare()
        return look_of(os.lstat(self.path))  # also where statx failed: this says why

    def _prepare(self) -> None:
        """Have later looks ask by statx, where there is one."""
        if sys.platform != "linux":
            return
        try:
            import ctypes

            statx = ctypes.CDLL(None).statx
        except (ImportError, OSError, AttributeError):
            return
        answer = ctypes.create_string_buffer(_STATX_BYTES)
        arguments = (  # converted once: it is half of the price of a call
            ctypes.c_int(_AT_FDCWD),
            ctypes.c_char_p(os.fsencode(self.path)),
            ctypes.c_int(_AT_SYMLINK_NOFOLLOW),
            ctypes.c_uint(_STATX_NLINK | _STATX_INO | _STATX_SIZE),
            answer,
        )
        self.answer = answer
        self.ask = partial(statx, *arguments)
