"""The note files of one generation: which shards may have changed in it.

A note file is a header line and one line a note, `<crc32> <shard name>`. The checksum is seeded with the header, so
noise, and lines of another generation, are known for what they are. Every note is written twice, into two files, and
the reader takes both together: one file cut off at the end of a line, which nothing in it could show, loses nothing.

A file that is missing, does not begin with its header, or holds a line that is not a note is damage: it is never
taken for "no changes". Bytes after the last newline are a note in the middle of being written, whose writer has not
committed yet; if they stay, they are damage too.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Final
from zlib import crc32

from shardstore._files.disk import READ
from shardstore._files.index.files import COPIES, notes_name
from shardstore._files.layout import FILE_MODE, is_shard_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_PATIENCE: Final = (0.0, 0.0002, 0.001, 0.005)  # seconds: a small append is whole within microseconds


class NotesDamaged(Exception):
    """A note file cannot be believed."""


def header(epoch: str, number: int, copy: str) -> bytes:
    """Make the first line of a note file."""
    return f"shardstore notes {epoch} {number} {copy}\n".encode()


def make_line(name: str, seed: int) -> bytes:
    """Make the line that notes a shard; `seed` is the checksum of the file's header."""
    raw = name.encode()
    return b"%08x %b\n" % (crc32(raw, seed), raw)


def parse_line(line: bytes, seed: int) -> str | None:
    """Read a line, given without its newline; None where it is not a note of this file."""
    if line[8:9] != b" " or line[:8] != b"%08x" % crc32(line[9:], seed):
        return None
    name = line[9:].decode("ascii", "replace")
    return name if is_shard_name(name) else None


def create(directory: str, epoch: str, number: int) -> None:
    """Make the empty note files of a generation that has not begun. Raises OSError.

    What is there already was left by a refresher that died before it advanced; its content, if any, can only add names.
    """
    for copy in COPIES:
        path = f"{directory}/{notes_name(epoch, number, copy)}"
        text = header(epoch, number, copy)
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | _APPEND, FILE_MODE)
        except FileExistsError:
            if _begins_with(path, text):
                continue
            os.unlink(path)
            fd = os.open(path, os.O_CREAT | os.O_EXCL | _APPEND, FILE_MODE)
        try:
            _write(fd, text, path)
        finally:
            os.close(fd)


def _begins_with(path: str, text: bytes) -> bool:
    try:
        return _read_file(path).startswith(text)
    except NotesDamaged:
        return False


def _write(fd: int, data: bytes, path: str | None = None) -> None:
    """Append in one write. Raises OSError, also where only a part was written."""
    if os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def remove(directory: str, epoch: str, numbers: Iterable[int]) -> None:
    """Delete note files that the catalogue has taken in; what stays is deleted by the next refresh."""
    for number in numbers:
        for copy in COPIES:
            try:
                os.unlink(f"{directory}/{notes_name(epoch, number, copy)}")
            except OSError:
                continue


class NoteWriter:
    """The note files of one generation, open for appending."""

    __slots__ = ("_files",)

    def __init__(self, directory: str, epoch: str, number: int) -> None:
        """Open them; they are never made here. Raises OSError, FileNotFoundError where the generation is over."""
        self._files: list[tuple[int, int]] = []
        for copy in COPIES:
            fd = os.open(f"{directory}/{notes_name(epoch, number, copy)}", _APPEND)
            self._files.append((fd, crc32(header(epoch, number, copy))))

    def append(self, name: str) -> None:
        """Note a shard in both files. Raises OSError; a part of a line may then be in one."""
        for fd, seed in self._files:
            _write(fd, make_line(name, seed))

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        files, self._files = self._files, []
        for fd, _ in files:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_files", None):
            self.close()


def read(directory: str, epoch: str, number: int) -> set[str]:
    """Return the names noted in a generation. Raises NotesDamaged; OSError when a file cannot be read."""
    raw: set[bytes] = set()
    for copy, lines in [(copy, _read_copy(directory, epoch, number, copy)) for copy in COPIES]:
        raw |= _parse(lines, epoch, number, copy)
    names = {name.decode("ascii", "replace") for name in raw}
    if not all(map(is_shard_name, names)):
        raise NotesDamaged(f"notes {epoch} {number} name what is no shard")
    return names


def _read_copy(directory: str, epoch: str, number: int, copy: str) -> bytes:
    """Read the lines of one file, without its header; wait for a line that is being written."""
    path = f"{directory}/{notes_name(epoch, number, copy)}"
    expected = header(epoch, number, copy)
    for pause in _PATIENCE:
        time.sleep(pause) if pause else None
        data = _read_file(path)
        if not data.startswith(expected):
            raise NotesDamaged(f"{path} does not begin as it was made")
        if data.endswith(b"\n"):
            return data[len(expected) :]
    raise NotesDamaged(f"{path} ends in the middle of a note")


def _read_file(path: str) -> bytes:
    try:
        fd = os.open(path, READ)
    except FileNotFoundError:
        raise NotesDamaged(f"{path} is missing") from None
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _parse(lines: bytes, epoch: str, number: int, copy: str) -> set[bytes]:
    """Check the lines of one file; return the names as they stand there, each once for all its notes."""
    if not lines:
        return set()
    seed = crc32(header(epoch, number, copy))
    names = set()
    for line in lines[:-1].split(b"\n"):
        name = line[9:]
        if line[:9] != b"%08x " % crc32(name, seed):
            raise NotesDamaged(f"notes {epoch} {number} {copy} hold a line that is not a note")
        names.add(name)
    return names


def salvage(directory: str, file: str, epoch: str, number: int, copy: str) -> set[str]:
    """Return whatever names a note file still gives; none where it cannot be read. For a scan, which needs no note."""
    try:
        data = _read_file(f"{directory}/{file}")
    except (OSError, NotesDamaged):
        return set()
    seed = crc32(header(epoch, number, copy))
    return {name for line in data.split(b"\n") if (name := parse_line(line, seed)) is not None}
