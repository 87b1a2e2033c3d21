"""Which start of the machine this is: what was written before a crash of the machine is not to be believed after it."""

from __future__ import annotations

import os
import sys
from functools import cache
from hashlib import blake2b

_LINUX = "/proc/sys/kernel/random/boot_id"


@cache
def boot_id() -> bytes:
    """Return 16 bytes that are the same in every process until the machine starts anew.

    Where the system does not tell they are random, so that every process rebuilds the index: slow, never wrong.
    """
    text = _from_sysctl() if sys.platform == "darwin" else _from_proc()
    return blake2b(text or os.urandom(16), digest_size=16).digest()


def _from_proc() -> bytes:
    try:
        with open(_LINUX, "rb") as file:
            return file.read().strip()
    except OSError:
        return b""


def _from_sysctl() -> bytes:
    """Ask macOS for kern.bootsessionuuid."""
    import ctypes
    import ctypes.util

    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    buffer = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(buffer))
    failed = libc.sysctlbyname(b"kern.bootsessionuuid", buffer, ctypes.byref(size), None, ctypes.c_size_t(0))
    return b"" if failed else buffer.value
