"""Which life of the machine and of the file system this is.

Nothing in index/ is synced. After a crash of either, the disk may hold any mixture of old
and new, so an index is believed only in the life it was written in.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import sys
import uuid
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from typing import Final

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_IN_SYS: Final = ("ext4", "xfs", "f2fs")  # file systems for which the kernel makes /sys/fs/<type>/<device>
_BTRFS_FS_INFO: Final = 0x8400941F  # an ioctl; its answer holds the uuid that /sys/fs/btrfs is sorted by
_BTRFS_ANSWER_BYTES: Final = 1024
_STATX_MNT_ID_UNIQUE: Final = 0x4000  # since Linux 6.8
_STATX_MNT_ID_OFFSET: Final = 0x90
_AT_FDCWD: Final = -100

_places: dict[int, str] = {}  # by device: what to ask, "" for the number of the mount


def life_of(directory: str) -> str:
    """Return a text that changes when the machine restarts and when the file system is mounted again.

    It is the same in every process and container of the machine. Raises OSError.
    """
    device = os.stat(directory).st_dev
    place = _places.get(device)
    if place is None:
        place = _places[device] = _place(directory, device)
    return f"{boot_id()} {os.stat(place).st_ino if place else _mount_number(directory)}"


@cache
def boot_id() -> str:
    """Return a text that is the same in every process until the machine restarts.

    Where the system does not tell it is random, so that every process rebuilds the index: slow, never wrong.
    """
    text = _from_sysctl() if sys.platform == "darwin" else _from_proc()
    return blake2b(text or os.urandom(16), digest_size=16).hexdigest()


def _from_proc() -> bytes:
    try:
        with open(_BOOT_ID, "rb") as file:
            return file.read().strip()
    except OSError:
        return b""


def _from_sysctl() -> bytes:
    """Ask macOS for kern.bootsessionuuid."""
    buffer = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(buffer))
    name = b"kern.bootsessionuuid"
    failed = _libc().sysctlbyname(name, buffer, ctypes.byref(size), None, ctypes.c_size_t(0))
    return b"" if failed else buffer.value


def _place(directory: str, device: int) -> str:
    """Find the directory in /sys that the kernel makes for a mounted file system: a new inode number at each mount.

    All mounts of one file system share it, a remount keeps it, and every user may look at it.
    """
    with suppress(OSError):
        name = os.path.basename(os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
        for kind in _IN_SYS:
            if os.path.isdir(f"/sys/fs/{kind}/{name}"):
                return f"/sys/fs/{kind}/{name}"
    if sys.platform != "linux":
        return ""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = bytearray(_BTRFS_ANSWER_BYTES)
        fcntl.ioctl(fd, _BTRFS_FS_INFO, answer)
        place = f"/sys/fs/btrfs/{uuid.UUID(bytes=bytes(answer[16:32]))}"
        return place if os.path.isdir(place) else ""
    except OSError:
        return ""
    finally:
        os.close(fd)


@cache
def _libc() -> ctypes.CDLL:
    """Open the C library once: each time makes a class, which is a tenth of a list."""
    return ctypes.CDLL(None)


def _mount_number(directory: str) -> int:
    """Return the mount's number, which the kernel gives no second time; 0 where it does not tell.

    With 0, and on macOS, only a restart of the machine is noticed.
    """
    try:
        statx = _libc().statx
    except AttributeError:
        return 0
    answer = ctypes.create_string_buffer(256)
    if statx(_AT_FDCWD, os.fsencode(directory), 0, _STATX_MNT_ID_UNIQUE, answer):
        return 0
    (mask,) = struct.unpack_from("=I", answer, 0)
    number: int = struct.unpack_from("=Q", answer, _STATX_MNT_ID_OFFSET)[0]
    return number if mask & _STATX_MNT_ID_UNIQUE else 0
