"""Log files: the settled part of the logs, one file a session that needs one. Reading, and appending behind the end.

A log file only grows: what a journal named once stays where it was, so readers need no lock. Whatever is to be
different goes to a file of a new name, and the old one is removed once no journal names it. What lies behind the end
that the journal names never happened.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from shardstore._files import disk, log_lines
from shardstore._files.file import read_file
from shardstore._files.layout import Layout, log_name, new_log_id, shard_name
from shardstore._log import Item, LogState, Settled
from shardstore.errors import CorruptShard, LogReplaced, ShardStoreError, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PROBE: Final = 4096  # bytes that a search reads at a time, and within which it stops searching
_CHUNK: Final = 1 << 20  # bytes of lines that are read, or written, at a time
_TAIL_MORE: Final = 5 / 4  # so much more than the average line a read of the newest items begins with
_NEWEST, _NEWEST_BYTES, _NEWEST_FILES = 64, 131072, 64  # items, bytes and files that are remembered
_ID_FILES_MAX: Final = 32  # files whose ids are remembered
_IDS_MAX: Final = 1 << 20  # ids that are remembered, of all files
_ID_KEY_BYTES: Final = 48  # a longer id is remembered by its hash


def _none_idle() -> int:
    return 0


class LogFiles:
    """Reads the log files of one store; the engine's `logs`. Opens a file for each read: a snapshot holds nothing."""

    __slots__ = ("_ids", "_newest", "free_descriptors", "layout")

    def __init__(self, root: str) -> None:
        self.layout = Layout(root)
        self.free_descriptors: Callable[[], int] = _none_idle  # closes what is open and idle; set by the engine
        self._ids = _KnownIds()
        self._newest = _Newest()

    def __reduce__(self) -> tuple[Any, ...]:
        return (LogFiles, (str(self.layout.root),))

    def read(self, key: str, log: LogState, start: int, stop: int, *, values: bool = False) -> list[Item]:
        """Return the settled items of these numbers, as the file has them. Raises LogReplaced, CorruptShard.

        With `values` the items have their values alone.
        """
        name, settled = shard_name(key), log.settled
        seen = _look(self.path(name, settled))
        found = self._newest.get(settled.file, seen, start, stop, values=values)
        if found is None:
            with _Opened(self, name, key, settled, values=values) as file:
                found = file.read(start, stop)
            if stop == settled.first + settled.lines:
                self._newest.keep(settled.file, seen, start, found, values=values)
        return found

    def number_of(self, key: str, log: LogState, name: str) -> int | None:
        """Return the number of the settled item with this id; the first use in a process reads the file once."""
        settled = log.settled
        end, numbers = self._ids.of(settled.file)
        while end < settled.end:
            with _Opened(self, shard_name(key), key, settled) as file:
                added = file.ids_behind(end)
            end, numbers = self._ids.extend(settled.file, end, settled.end, added)
        number = numbers.get(id_key(name))
        return number if number is not None and log.dropped <= number < log.kept else None

    def forget(self, file_id: str) -> None:
        """Forget what is remembered of a file that is gone."""
        self._ids.forget(file_id)
        self._newest.forget(file_id)

    def open(self, path: str, flags: int) -> int:
        """Open a log file; where no descriptor is left for it, have idle ones closed. Raises OSError."""
        try:
            return os.open(path, flags)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self.free_descriptors():
                raise
        return os.open(path, flags)

    def path(self, name: str, settled: Settled) -> str:
        """Return the path of a shard's log file."""
        return self.layout.shard_path(log_name(name, settled.file))

    def missing(self, name: str, key: str, settled: Settled) -> NoReturn:
        """Raise for a file that is not there: LogReplaced, or CorruptShard where the journal still names it."""
        journal, _ = read_file(self.layout.shard_path(name))
        state = journal.state
        if state.exists and state.log.settled.file == settled.file:
            raise CorruptShard(self.path(name, settled), 0, "the log's file is missing", key) from None
        raise LogReplaced(key) from None

    def whole_items(self, name: str, settled: Settled) -> dict[int, Item]:
        """Return every item, by number, whose line is whole; empty where there is no file. For verify and salvage.

        Lines behind the end count only where no end is known. Raises StoreIOError.
        """
        path = self.path(name, settled)
        try:
            fd = self.open(path, disk.READ)
            try:
                size = os.fstat(fd).st_size
                data = disk.read_all(fd, 0, min(size, settled.end) if settled.end else size)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise_io_error(error, "reading a log", path)
        return {number: item for _, number, item in log_lines.whole_lines(data, log_lines.seed_of(settled.file))}

    # Writing. REQUIRES, for everything below: the caller holds the session's lock.

    def settle(self, name: str, key: str, log: LogState) -> Settled:
        """Put the whole log on the medium, in the file it has or in a new one; return where it stands then.

        Raises CorruptShard where the file it has cannot be gone on with, StoreIOError; nothing has changed then.
        """
        done = self._append(name, key, log) if log.appends_to_file else None
        if done is None:
            done = self.rewrite(name, key, log)
        newest = [*log.pending[-_NEWEST:]]
        self._newest.keep(done.file, _look(self.path(name, done)), log.end - len(newest), newest, values=False)
        return done

    def rewrite(self, name: str, key: str, log: LogState) -> Settled:
        """Put the whole log in a new file, on the medium; return where it stands then."""
        return self.write_new(name, log, self._all(name, key, log), first=log.dropped)

    def _all(self, name: str, key: str, log: LogState) -> Iterator[Item]:
        """Yield every item that stands."""
        if log.dropped < log.kept:
            with _Opened(self, name, key, log.settled) as file:
                for number, item in enumerate(file.iterate(log.dropped, log.kept), log.dropped):
                    new = log.replaced.get(number)
                    yield item if new is None else new._replace(id=item.id)
        yield from log.pending

    def _append(self, name: str, key: str, log: LogState) -> Settled | None:
        """Append the pending items behind the end; None where the file has another name too.

        Such a file is somebody's backup, or another session's since a rename that died: it is copied instead.
        """
        settled = log.settled
        path = self.path(name, settled)
        data = b"".join(log_lines.encode_lines(settled.file, log.kept, log.pending))
        try:
            fd = self.open(path, disk.WRITE)
        except FileNotFoundError:
            self.missing(name, key, settled)
        except OSError as error:
            raise_io_error(error, "opening a log", path)
        try:
            try:
                status = os.fstat(fd)
                if status.st_size < settled.end:
                    raise CorruptShard(path, status.st_size, "the log's file is shorter than the journal says", key)
                if status.st_nlink > 1:
                    return None
                _write(fd, data, settled.end)
            finally:
                os.close(fd)
        except OSError as error:
            raise_io_error(error, "writing a log", path)
        return Settled(settled.file, settled.lines + len(log.pending), settled.end + len(data), settled.first)

    def write_new(self, name: str, log: LogState, items: Iterable[Item], *, first: int) -> Settled:
        """Write items to a new file, on the medium with its name; `first` is the number of the first one.

        The file gets the owner and mode of the file it follows, or of the shard. Raises StoreIOError, CorruptShard.
        """
        settled = Settled(new_log_id(), 0, 0, first)
        path = self.path(name, settled)
        lines = end = 0
        try:
            fd = disk.create(path)
            try:
                self._copy_access(name, log, fd)
                for count, data in _batches(log_lines.encode_lines(settled.file, first, items)):
                    disk.write_all(fd, data, end)
                    lines, end = lines + count, end + len(data)
                disk.sync(fd)
            finally:
                os.close(fd)
            disk.sync_directory(os.path.dirname(path))
        except BaseException as error:
            discard(path)
            if isinstance(error, OSError) and not isinstance(error, ShardStoreError):
                raise_io_error(error, "writing a log", path)
            raise
        return Settled(settled.file, lines, end, first) if lines else self._nothing(path)

    def _nothing(self, path: str) -> Settled:
        discard(path)
        return Settled()

    def _copy_access(self, name: str, log: LogState, fd: int) -> None:
        before = self.path(name, log.settled) if log.settled.file else self.layout.shard_path(name)
        try:
            source = os.open(before, disk.READ)
        except OSError:
            return  # the file that is followed is gone: the new one is its owner's alone, as every new file
        try:
            disk.copy_access(source, fd)
        finally:
            os.close(source)


def _write(fd: int, data: bytes, end: int) -> None:
    """Write behind the end and sync; what did not fit is given back."""
    try:
        disk.write_all(fd, data, end)
        disk.sync(fd)
    except OSError:
        with suppress(OSError):  # what stays there never happened
            os.ftruncate(fd, end)
        raise


def _batches(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield len(batch), b"".join(batch)
            batch, size = [], 0
    if batch:
        yield len(batch), b"".join(batch)


def discard(path: str) -> None:
    """Remove a log file that no journal names; one that stays is swept by compact."""
    try:
        os.unlink(path)
    except OSError:
        return


def give_name(source: str, target: str) -> None:
    """Give a log file a second name, in another directory perhaps, on the medium; copy it where there are no links.

    Does nothing where the file is missing, which is damage that goes along. Raises OSError.
    """
    for _ in range(2):
        try:
            if disk.link(source, target):
                break
            _copy(source, target)
            break
        except FileNotFoundError:
            return
        except FileExistsError:
            if os.path.samefile(source, target):
                break
            os.unlink(target)  # a copy that a call which died had not finished: no other file has this id
    disk.sync_directory(os.path.dirname(target))


def _copy(source: str, target: str) -> None:
    old = os.open(source, disk.READ)
    try:
        new = disk.create(target)
        try:
            disk.copy_access(old, new)
            place = 0
            while data := os.pread(old, _CHUNK, place):
                disk.write_all(new, data, place)
                place += len(data)
            disk.sync(new)
        finally:
            os.close(new)
    finally:
        os.close(old)


class _Opened:
    """A log file while it is read. `with` opens it: LogReplaced or CorruptShard where it is not there."""

    __slots__ = ("_fd", "_files", "_key", "_name", "_path", "_seed", "_settled", "_values")

    def __init__(self, files: LogFiles, name: str, key: str, settled: Settled, *, values: bool = False) -> None:
        self._files = files
        self._values = values
        self._name, self._key, self._settled = name, key, settled
        self._path = files.path(name, settled)
        self._seed = log_lines.seed_of(settled.file)
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            self._fd = self._files.open(self._path, disk.READ)
        except FileNotFoundError:
            self._files.missing(self._name, self._key, self._settled)
        except OSError as error:
            raise_io_error(error, "opening a log", self._path)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what was read was read
            os.close(self._fd)

    def read(self, start: int, stop: int) -> list[Item]:
        """Return the items of these numbers."""
        try:
            items = self._quickly(start, stop)
            return items if items is not None else self._slowly(start, stop)
        except OSError as error:
            raise_io_error(error, "reading a log", self._path)

    def iterate(self, start: int, stop: int) -> Iterator[Item]:
        """Yield the items of these numbers, some at a time."""
        step = max(1, int(_CHUNK * self._settled.lines / max(1, self._settled.end)))
        for first in range(start, stop, step):
            yield from self.read(first, min(stop, first + step))

    def ids_behind(self, end: int) -> list[tuple[str, int]]:
        """Return (id, number) of the lines behind a byte where a line begins. Raises CorruptShard for a damaged one."""
        found = []
        try:
            data = disk.read_all(self._fd, end, self._settled.end - end)
        except OSError as error:
            raise_io_error(error, "reading a log", self._path)
        if len(data) < self._settled.end - end:
            self._damaged(end + len(data), "the log's file is shorter than the journal says")
        for text in data.split(b"\n")[:-1]:
            if not log_lines.is_intact(text, self._seed):
                self._damaged(data.find(text) + end, "the checksum of a line does not match")
            named = log_lines.named(text)
            if named is not None:
                found.append(named)
        return found

    def _quickly(self, start: int, stop: int) -> list[Item] | None:
        """Read the items where they should be; None where they are not: something in the file is damaged."""
        settled = self._settled
        behind = settled.first + settled.lines
        place = self._tail_place(start) if stop == behind else self._search(start)
        wanted = stop - start
        size = (
            settled.end - place if stop == behind else int(settled.end / settled.lines * wanted * _TAIL_MORE) + _PROBE
        )
        while True:
            size = min(size, settled.end - place)
            items = self._items(disk.read_all(self._fd, place, size), start, stop)
            if len(items) == wanted and all(items):
                return items  # type: ignore[return-value]
            if place + size >= settled.end:
                if stop != behind or place == 0:
                    return None
                place, size = max(0, settled.end - 3 * size), 3 * size  # a tail of long items
            else:
                size *= 3

    def _items(self, data: bytes, start: int, stop: int) -> list[Item | None]:
        """Return the items of these numbers, from the first of them on, as far as they stand in a piece of the file."""
        lines = data.split(b"\n")[:-1]
        begin = _index_of(lines, start)
        if begin is None:
            return []
        chosen = enumerate(lines[begin : begin + stop - start], start)
        if self._values:
            return [log_lines.value_of(text, number, self._seed) for number, text in chosen]
        found: list[Item | None] = []
        for number, text in chosen:
            parsed = log_lines.parse_line(text, self._seed)
            found.append(parsed[1] if parsed is not None and parsed[0] == number else None)
        return found

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
        raise CorruptShard(self._path, offset, reason, self._key)


def id_key(name: str) -> str | bytes:
    """Return what an id is remembered by: itself, or a hash of a long one, so that its price is bounded."""
    if len(name) <= _ID_KEY_BYTES:
        return name
    from hashlib import blake2b

    return blake2b(name.encode(), digest_size=16).digest()


def _index_of(lines: list[bytes], number: int) -> int | None:
    """Return where the line of a number stands among consecutive ones; None where it does not."""
    for begin in range(min(2, len(lines))):  # the first one may be the end of a line
        first = log_lines.number_of(lines[begin])
        if first is not None:
            at = begin + number - first
            if 0 <= at < len(lines) and log_lines.number_of(lines[at]) == number:
                return at
    return next((n for n, text in enumerate(lines) if log_lines.number_of(text) == number), None)


_Look = tuple[int, int, int] | None  # inode, size and time of change of a file; None: there is none


def _look(path: str) -> _Look:
    try:
        status = os.stat(path)
    except OSError:
        return None  # opening it says what is wrong
    return status.st_ino, status.st_size, status.st_mtime_ns


class _Newest:
    """The newest settled items of the logs that were read or written last: what a host asks for again and again.

    It is asked for with a look at the file: one that somebody wrote into, or took away, is read again. Each step is one
    call of C, so no mutex is needed.
    """

    __slots__ = ("_files",)

    def __init__(self) -> None:
        # By file id: the look at it, the number of the first item, the items, and whether they have their values alone.
        self._files: dict[str, tuple[_Look, int, list[Item], bool]] = {}

    def get(self, file_id: str, seen: _Look, start: int, stop: int, *, values: bool) -> list[Item] | None:
        """Return the items of these numbers; None where they are not all here."""
        look, first, items, poor = self._files.get(file_id) or (None, 0, [], True)
        if look is None or look != seen or start < first or stop > first + len(items) or (poor and not values):
            return None
        return items[start - first : stop - first]

    def keep(self, file_id: str, seen: _Look, first: int, items: list[Item], *, values: bool) -> None:
        """Remember the newest items of a file, if they are few and small."""
        if seen is None or len(items) > _NEWEST or sum([len(item.raw) for item in items]) > _NEWEST_BYTES:
            return
        if len(self._files) >= _NEWEST_FILES:
            self._files.clear()
        self._files[file_id] = (seen, first, items, values)

    def forget(self, file_id: str) -> None:
        """Forget a file."""
        self._files.pop(file_id, None)


class _KnownIds:
    """The ids in the log files of a store, as far as this process has read them. Safe between threads."""

    __slots__ = ("_files", "_mutex")

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple[int, dict[str | bytes, int]]] = OrderedDict()
        self._mutex = threading.RLock()  # re-entrant: a signal handler may read a log

    def of(self, file_id: str) -> tuple[int, dict[str | bytes, int]]:
        """Return up to which byte a file was read, and the numbers by id."""
        return self._files.get(file_id) or (0, {})

    def extend(
        self, file_id: str, start: int, end: int, added: list[tuple[str, int]]
    ) -> tuple[int, dict[str | bytes, int]]:
        """Note what was read from byte `start` to `end`; return what `of` then does."""
        with self._mutex:
            known, numbers = self.of(file_id)
            if start > known:  # the file was forgotten meanwhile: it is read again from there
                return known, numbers
            for name, number in added:
                numbers[id_key(name)] = number
            self._files[file_id] = (max(known, end), numbers)
            self._files.move_to_end(file_id)
            self._bound()
            return self._files[file_id]

    def forget(self, file_id: str) -> None:
        """Forget a file."""
        self._files.pop(file_id, None)

    def _bound(self) -> None:
        while len(self._files) > 1 and (
            len(self._files) > _ID_FILES_MAX or sum(len(numbers) for _, numbers in self._files.values()) > _IDS_MAX
        ):
            self._files.popitem(last=False)
