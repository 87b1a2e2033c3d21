"""Reading a log file: items found by the numbers in its lines. It takes no lock, for a committed line never changes."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from shardstore import _codec as codec
from shardstore import _events as events
from shardstore._files import disk
from shardstore._files.log_cache import LastLine
from shardstore._journal import log_lines
from shardstore.errors import CorruptShard, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore._files.logfile import LogFiles
    from shardstore._log import Item, Settled

_PROBE: Final = 4096  # bytes that a search reads at a time, and within which it stops searching
_BEGINS: Final = 64  # bytes of a line that are remembered: its checksum, and more
_CHUNK: Final = 1 << 18  # bytes of lines that are read at a time
_TAIL_MORE: Final = 5 / 4  # so much more than the average line a read of the newest items begins with


class OpenedLog:
    """A log file while it is read. `with` opens it: LogReplaced or CorruptShard where it is not there."""

    __slots__ = ("_fd", "_files", "_key", "_name", "_next", "_path", "_seed", "_settled")

    def __init__(self, files: LogFiles, name: str, key: str, settled: Settled) -> None:
        self._files = files
        self._name, self._key, self._settled = name, key, settled
        self._path = files.path(name, settled)
        self._seed = log_lines.seed_of(settled.file)
        self._fd = -1
        self._next = (-1, 0)  # the number of the line behind the last one that was read, and where it begins

    def __enter__(self) -> Self:
        try:
            self._fd = self._files.open(self._path, disk.READ)
        except FileNotFoundError:
            self._files.missing(self._name, self._key, self._settled)
        except OSError as error:
            raise_io_error(error, "opening a log", self._path)
        return self

    def __exit__(self, *_: object) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):  # what was read was read
                os.close(fd)

    def __del__(self) -> None:
        """Close the file where an exception from outside came between opening it and the block."""
        if hasattr(self, "_fd"):  # not where `__init__` was interrupted
            self.__exit__()

    def read(self, start: int, stop: int) -> list[Item]:
        """Return the items of these numbers."""
        return list(self.iterate(start, stop))

    def iterate(self, start: int, stop: int) -> Iterator[Item]:
        """Yield the items of these numbers, some at a time."""
        step = self._step
        for first in range(start, stop, step):
            yield from self._read_some(first, min(stop, first + step))

    @property
    def _step(self) -> int:
        return max(1, int(_CHUNK * self._settled.lines / max(1, self._settled.end)))

    def values(self, start: int, stop: int) -> list[Any]:
        """Return the values of the items of these numbers. Of many, some at a time: so they stay in fast memory."""
        found: list[Any] = []
        step = self._step
        for first in range(start, stop, step):
            found += self._values(first, min(stop, first + step))
        return found

    def _values(self, start: int, stop: int) -> list[Any]:
        try:
            lines = self._lines(start, stop)
            values = None if lines is None else log_lines.values_of(lines, start, self._seed)
            return [codec.loads(item.raw) for item in self._slowly(start, stop)] if values is None else values
        except OSError as error:
            raise_io_error(error, "reading a log", self._path)

    def _read_some(self, start: int, stop: int) -> list[Item]:
        try:
            lines = self._lines(start, stop)
            items = None if lines is None else log_lines.items_of(lines, start, self._seed)
            return self._slowly(start, stop) if items is None else items
        except OSError as error:
            raise_io_error(error, "reading a log", self._path)

    def has(self, line: LastLine) -> bool:
        """Return whether a line is still where it was read."""
        try:
            return os.pread(self._fd, len(line.begins), line.place) == line.begins
        except OSError as error:
            raise_io_error(error, "reading a log", self._path)

    def ids_behind(self, end: int) -> tuple[list[tuple[str, int]], LastLine]:
        """Return (id, number) of the lines behind a byte where a line begins, and the last line.

        Raises CorruptShard for a damaged one.
        """
        found: list[tuple[str, int]] = []
        line = LastLine(0, b"")
        place, rest, last = end, b"", self._settled.end
        while place < last:
            try:
                data = disk.read_all(self._fd, place, min(_CHUNK, last - place))
            except OSError as error:
                raise_io_error(error, "reading a log", self._path)
            if not data:
                if place < last - 1:
                    self._damaged(place, "the log's file is shorter than the journal says")
                data = b"\n"  # the last one, which somebody cut off, and with it no item
            start, data = place - len(rest), rest + data
            place = start + len(data)
            whole = data.rfind(b"\n") + 1
            added, damaged = log_lines.ids_in(data[:whole], self._seed)
            if damaged is not None:
                self._damaged(start + data.find(damaged), "the checksum of a line does not match")
            found += added
            if whole:
                begin = data.rfind(b"\n", 0, whole - 1) + 1
                line = LastLine(start + begin, data[begin : min(whole, begin + _BEGINS)])
            rest = data[whole:]
        return found, line

    def _lines(self, start: int, stop: int) -> list[bytes] | None:
        """Read the lines of these numbers where they should be; None where they are not: the file is damaged."""
        settled = self._settled
        behind = settled.first + settled.lines
        if self._next[0] == start:
            place = self._next[1]
        else:
            place = self._tail_place(start) if stop == behind else self._search(start)
        wanted = stop - start
        size = (
            settled.end - place if stop == behind else int(settled.end / settled.lines * wanted * _TAIL_MORE) + _PROBE
        )
        while True:
            size = min(size, settled.end - place)
            lines = self._chosen(place, disk.read_all(self._fd, place, size), start, stop)
            if len(lines) == wanted:
                return lines
            if place + size >= settled.end:
                if stop != behind or place == 0:
                    return None
                place, size = max(0, settled.end - 3 * size), 3 * size  # a tail of long items
            else:
                size *= 3

    def _chosen(self, place: int, data: bytes, start: int, stop: int) -> list[bytes]:
        """Return the lines of these numbers, from the first of them on, as far as they stand in a piece of the file.

        `place`: where it stands there.
        """
        lines = data.split(b"\n")[:-1]
        begin = _index_of(lines, start)
        if begin is None:
            return []
        end = begin + stop - start
        chosen = lines[begin:end]
        self._next = (start + len(chosen), place + sum(map(len, lines[:end])) + begin + len(chosen))
        return chosen

    def _tail_place(self, start: int) -> int:
        settled = self._settled
        wanted = settled.first + settled.lines - start
        size = int(settled.end / settled.lines * wanted * _TAIL_MORE) + _PROBE
        return max(0, settled.end - size)

    def _search(self, number: int) -> int:
        """Return a byte where a line begins that is not behind the one of this number, and near it if all is well."""
        low, high = 0, self._settled.end
        while high - low > _PROBE:
            middle = (low + high) // 2
            begin = self._line_behind(middle, high)
            if begin >= high:
                high = middle
                continue
            found = log_lines.number_of(os.pread(self._fd, log_lines.BODY + 24, begin))
            if found is None:
                return low  # damaged here: read on from what is known
            if found <= number:
                low = begin
            else:
                high = middle
        return low

    def _line_behind(self, place: int, limit: int) -> int:
        """Return where the first line begins that begins behind a byte."""
        while place < limit:
            data = os.pread(self._fd, _PROBE, place)
            at = data.find(b"\n")
            if at >= 0:
                return place + at + 1
            if not data:
                break
            place += len(data)
        return limit

    def _slowly(self, start: int, stop: int) -> list[Item]:
        """Read the whole file for the items of these numbers. Raises CorruptShard where one of them is not whole."""
        data = disk.read_all(self._fd, 0, self._settled.end)
        found, ends = {}, {-1: 0}  # items, and the byte behind each line, by number
        place = 0
        for text in data.split(b"\n"):
            parsed = log_lines.parse_line(text, self._seed)
            place += len(text) + 1
            if parsed is not None:
                ends[parsed[0]] = place
                if start <= parsed[0] < stop:
                    found[parsed[0]] = parsed[1]
        lost = next((number for number in range(start, stop) if number not in found), None)
        if lost is not None:
            before = max(number for number in ends if number < lost)
            short = len(data) < self._settled.end and before == max(ends)
            why = "the log's file is shorter than the journal says" if short else f"item {lost} is not whole"
            self._damaged(min(ends[before], len(data)), why)
        return [found[number] for number in range(start, stop)]

    def _damaged(self, offset: int, reason: str) -> NoReturn:
        raise events.damaged(CorruptShard(self._path, offset, reason, self._key))


def _index_of(lines: list[bytes], number: int) -> int | None:
    """Return where the line of a number stands among consecutive ones; None where it does not."""
    for begin in range(min(2, len(lines))):  # the first one may be the end of a line
        first = log_lines.number_of(lines[begin])
        if first is not None:
            at = begin + number - first
            if 0 <= at < len(lines) and log_lines.number_of(lines[at]) == number:
                return at
    return next((n for n, text in enumerate(lines) if log_lines.number_of(text) == number), None)
