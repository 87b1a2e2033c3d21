"""The log files in memory: the ids of their items, and the newest items of those used last."""

from __future__ import annotations

import os
import threading
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from shardstore._log import Item

NEWEST: Final = 64  # items of a file that are remembered
_NEWEST_BYTES, _NEWEST_FILES = 131072, 64
_ID_FILES_MAX: Final = 32  # files whose ids are remembered
_IDS_MAX: Final = 1 << 20  # ids that are remembered, of all files
_ID_KEY_BYTES: Final = 48  # a longer id is remembered by its hash

Stamp = tuple[int, int, int] | None  # inode, size and time of change of a file; None: there is none


def stamp_of(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None  # opening it says what is wrong
    return status.st_ino, status.st_size, status.st_mtime_ns


class Newest:
    """The newest settled items of the logs that were read or written last: what a host asks for again and again.

    It is asked for with a look at the file: one that somebody wrote into, or took away, is read again. Each step is one
    call of C, so no mutex is needed.
    """

    __slots__ = ("_files",)

    def __init__(self) -> None:
        self._files: dict[str, tuple[Stamp, int, list[Item]]] = {}  # the number of the first item; by file id

    def get(self, file_id: str, seen: Stamp, start: int, stop: int) -> list[Item] | None:
        """Return the items of these numbers; None where they are not all here."""
        look, first, items = self._files.get(file_id) or (None, 0, [])
        if look is None or look != seen or start < first or stop > first + len(items):
            return None
        return items[start - first : stop - first]

    def keep(self, file_id: str, seen: Stamp, first: int, items: list[Item]) -> None:
        """Remember the newest items of a file, if they are few and small."""
        if seen is None or len(items) > NEWEST or sum([len(item.raw) for item in items]) > _NEWEST_BYTES:
            return
        if len(self._files) >= _NEWEST_FILES:
            self._files.clear()
        self._files[file_id] = (seen, first, items)

    def forget(self, file_id: str) -> None:
        """Forget a file."""
        self._files.pop(file_id, None)


class LastLine(NamedTuple):
    """How the last line that was read begins: its checksum is in it."""

    place: int
    begins: bytes


class Known(NamedTuple):
    """The ids of one file, as far as it was read."""

    end: int  # up to which byte it was read
    last: LastLine  # it must still be there, or somebody put a backup in the file's place
    numbers: dict[str | bytes, int]  # by id


def nothing_known() -> Known:
    """Return the ids of a file that was not read: none."""
    return Known(0, LastLine(0, b""), {})


class KnownIds:
    """The ids in the log files of a store, as far as this process has read them. Safe between threads."""

    __slots__ = ("_files", "_mutex")

    def __init__(self) -> None:
        self._files: dict[str, Known] = {}  # the one that was read last is the last one
        self._mutex = threading.RLock()  # re-entrant: a signal handler may read a log

    def of(self, file_id: str) -> Known:
        """Return the known ids of a file."""
        return self._files.get(file_id) or nothing_known()

    def extend(self, file_id: str, before: Known, end: int, added: list[tuple[str, int]], last: LastLine) -> Known:
        """Add the items that were read after `before`, up to byte `end`; return all that is known now."""
        with self._mutex:
            before.numbers.update(
                [(name if len(name) <= _ID_KEY_BYTES else id_key(name), number) for name, number in added]
            )
            known = Known(end, last, before.numbers)
            self._files.pop(file_id, None)
            self._files[file_id] = known  # as the newest one
            self._bound()
            return known

    def forget(self, file_id: str) -> None:
        """Forget a file."""
        self._files.pop(file_id, None)

    def _bound(self) -> None:
        # Copied in one call: another thread, or a signal handler, may forget a file between two steps of an iteration.
        # And list() of items is many steps in Python 3.11: each pair that it makes may start a garbage collection.
        files = list(self._files.copy().items())
        excess = max(len(files) - _ID_FILES_MAX, 0)
        ids = sum(len(known.numbers) for _, known in files[excess:])
        while excess < len(files) - 1 and ids > _IDS_MAX:
            ids -= len(files[excess][1].numbers)
            excess += 1
        for file_id, _ in files[:excess]:
            self._files.pop(file_id, None)


def id_key(name: str) -> str | bytes:
    """Return what an id is remembered by: itself, or a hash of a long one, so that its price is bounded."""
    if len(name) <= _ID_KEY_BYTES:
        return name
    return blake2b(name.encode(), digest_size=16).digest()
