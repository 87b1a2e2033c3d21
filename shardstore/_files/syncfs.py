"""syncfs(2) by ctypes: one call puts on the medium whatever was written to a file system. Linux alone has it.

It is believed only where it reports failures, which it does since Linux 5.8, and where it is known to reach the
medium: over FUSE, for example, it returns without asking anybody.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import TYPE_CHECKING, Final

from shardstore._imports import late_imports

if TYPE_CHECKING:
    from collections.abc import Callable

_REPORTS_SINCE: Final = (5, 8)  # before, it returned 0 whatever became of the bytes
_TRUSTED: Final = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010})  # ext4, xfs, btrfs, f2fs
_STATFS_BYTES: Final = 512  # more than any machine's struct statfs, which begins with the type

_call: Callable[[int], int] | None = None  # returns the error's number, 0 for none
_type_of: Callable[[int], int] | None = None


def load() -> None:
    """Import its modules, unless they were. REQUIRES: the caller holds no lock, for an import may take long."""
    global _call, _type_of  # one a process
    if _call is not None or sys.platform != "linux" or _release() < _REPORTS_SINCE:
        return
    try:
        with late_imports:
            import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        syncfs, statfs = libc.syncfs, libc.fstatfs
    except (ImportError, OSError, AttributeError):
        return

    def call(fd: int) -> int:
        return 0 if syncfs(ctypes.c_int(fd)) == 0 else ctypes.get_errno() or errno.EIO

    def type_of(fd: int) -> int:
        answer = ctypes.create_string_buffer(_STATFS_BYTES)
        found = statfs(ctypes.c_int(fd), answer)
        return ctypes.c_ulong.from_buffer(answer).value if found == 0 else 0

    if call(-1) == errno.EBADF:  # else a sandbox does not let it through
        _call, _type_of = call, type_of


def _release() -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def is_trusted(fd: int) -> bool:
    """Return whether `sync_all` was loaded, and reaches the medium of the file system that this descriptor is on."""
    return _call is not None and _type_of is not None and _type_of(fd) in _TRUSTED


def sync_all(fd: int) -> None:
    """Put the file system on the medium. Raises OSError, also for failures since the descriptor was opened."""
    assert _call is not None
    number = _call(fd)
    if number:
        raise OSError(number, os.strerror(number))
