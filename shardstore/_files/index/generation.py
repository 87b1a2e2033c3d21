"""The generation file: a number that only grows, and the seal of the catalogue.

    byte 0    head    magic, epoch, boot id, digest of the settings, checksum; never changed
    byte 64   seal    what the catalogue looked like when its last publisher was done, checksum; zeros during one
    byte 512          the end, in generation 0; the file is one byte longer in each generation after that

The number is the size, because a size is read and advanced by one system call each, by whoever has the file open, and
cannot be read half written. A memory-mapped number would be cheaper by half a microsecond, and kill every process that
reads it in the moment somebody truncates the file (SIGBUS).

Its flock is the index lock. So a file that was deleted takes everything with it: number, seal, lock.
"""

from __future__ import annotations

import os
import struct
from typing import Final, NamedTuple
from zlib import crc32

from shardstore._files.disk import READ

MAGIC: Final = b"ssindex1"  # changes with every change of format of any file of the index
BASE: Final = 512  # bytes of the file in generation 0
NUMBER_MAX: Final = 1 << 24  # generations before the index is made anew: the size stays within reason for backups

_HEAD: Final = struct.Struct("<8s8s16s16sI")
_SEAL: Final = struct.Struct("<QQQqqI")
_SEAL_AT: Final = 64
PAGE: Final = _SEAL_AT + _SEAL.size
_UNSEALED: Final = bytes(_SEAL.size)


class Head(NamedTuple):
    """What identifies an epoch and what it was made for."""

    epoch: str
    boot: bytes
    settings: bytes


class Seal(NamedTuple):
    """What the catalogue file looked like when it was published, and up to which generation it knows every change."""

    base: int  # every change noted in a generation before this one is in the catalogue
    inode: int
    size: int
    mtime: int  # nanoseconds, and set by the publisher: any later write gives the file another
    ctime: int  # nanoseconds


def make_head(head: Head) -> bytes:
    """Make the content of a generation file in generation 0, unsealed."""
    body = _HEAD.pack(MAGIC, bytes.fromhex(head.epoch), head.boot, head.settings, 0)[:-4]
    return (body + struct.pack("<I", crc32(body))).ljust(BASE, b"\0")


def parse_head(page: bytes) -> Head | None:
    """Read the head; None where it is damaged, or of another format."""
    if len(page) < PAGE:
        return None
    magic, epoch, boot, settings, checksum = _HEAD.unpack_from(page)
    if magic != MAGIC or checksum != crc32(page[: _HEAD.size - 4]):
        return None
    return Head(epoch.hex(), boot, settings)


def make_seal(seal: Seal, epoch: str) -> bytes:
    """Make the bytes of a seal, which belong into the generation file of this epoch alone."""
    body = _SEAL.pack(*seal, 0)[:-4]
    return body + struct.pack("<I", crc32(body, crc32(epoch.encode())))


def parse_seal(page: bytes, epoch: str) -> Seal | None:
    """Read the seal; None where there is none, or it is damaged or being written."""
    if len(page) < PAGE:
        return None
    body = page[_SEAL_AT : PAGE - 4]
    *values, checksum = _SEAL.unpack_from(page, _SEAL_AT)
    if checksum != crc32(body, crc32(epoch.encode())) or page[_SEAL_AT:PAGE] == _UNSEALED:
        return None
    return Seal(*values)


def open_generation(path: str, *, write: bool) -> int:
    """Open the generation file. Raises OSError."""
    return os.open(path, os.O_RDWR | (READ & ~os.O_RDONLY) if write else READ)


def read_page(fd: int) -> bytes:
    """Read head and seal."""
    return os.pread(fd, PAGE, 0)


def read_number(fd: int) -> int:
    """Read the generation; negative where the file was truncated."""
    return os.lseek(fd, 0, os.SEEK_END) - BASE


def advance(fd: int, number: int) -> None:
    """Begin generation `number`. REQUIRES: the caller holds the index lock; the note files of `number` are there."""
    os.ftruncate(fd, BASE + number)


def break_seal(fd: int) -> None:
    """Say that the catalogue is not to be believed. REQUIRES: the caller holds the index lock."""
    os.pwrite(fd, _UNSEALED, _SEAL_AT)


def write_seal(fd: int, seal: Seal, epoch: str) -> None:
    """Say that the catalogue is to be believed as long as it looks like this. REQUIRES: as break_seal."""
    os.pwrite(fd, make_seal(seal, epoch), _SEAL_AT)
