"""Log files: the settled part of the logs, one file a session that needs one. Reading, and appending behind the end.

A log file only grows: a line that a journal named stays where it was, so readers need no lock. Changed lines go to a
file of a new name, and the old one is removed once no journal names it. Bytes behind the end that the journal names
never happened.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

from shardstore import _codec as codec
from shardstore import _events as events
from shardstore._files import disk
from shardstore._files.file import read_file
from shardstore._files.layout import Layout, log_name, new_log_id, shard_name
from shardstore._files.log_cache import NEWEST, Known, KnownIds, Newest, id_key, nothing_known, stamp_of
from shardstore._files.log_reader import OpenedLog
from shardstore._journal import log_lines
from shardstore._log import Item, LogState, Settled
from shardstore.errors import CorruptShard, LogReplaced, ShardStoreError, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CHUNK: Final = 1 << 20  # bytes of lines that are read, or written, at a time


def _none_idle() -> int:
    return 0


class LogFiles:
    """Reads the log files of one store; the engine's `logs`. Opens a file for each read: a snapshot holds nothing."""

    __slots__ = ("_ids", "_newest", "free_descriptors", "layout")

    def __init__(self, root: str) -> None:
        self.layout = Layout(root)
        self.free_descriptors: Callable[[], int] = _none_idle  # closes what is open and idle; set by the engine
        self._ids = KnownIds()
        self._newest = Newest()

    def __reduce__(self) -> tuple[Any, ...]:
        return (LogFiles, (str(self.layout.root),))

    def read(self, key: str, log: LogState, start: int, stop: int) -> list[Item]:
        """Return the settled items of these numbers, as the file has them. Raises LogReplaced, CorruptShard."""
        name, settled = shard_name(key), log.settled
        seen = stamp_of(self.path(name, settled))
        found = self._newest.get(settled.file, seen, start, stop)
        if found is None:
            with OpenedLog(self, name, key, settled) as file:
                found = file.read(start, stop)
            if stop == settled.first + settled.lines:
                self._newest.keep(settled.file, seen, start, found)
        return found

    def values(self, key: str, log: LogState, start: int, stop: int) -> list[Any]:
        """Return the values of the same items. Raises LogReplaced, CorruptShard."""
        if stop - start <= NEWEST:
            return [codec.loads(item.raw) for item in self.read(key, log, start, stop)]
        with OpenedLog(self, shard_name(key), key, log.settled) as file:
            return file.values(start, stop)

    def number_of(self, key: str, log: LogState, name: str) -> int | None:
        """Return the number of the settled item with this id; the first use in a process reads the file once."""
        settled = log.settled
        known = self._ids.of(settled.file)
        try:
            known = self._read_ids(key, settled, known)
        except CorruptShard:
            if known.end < settled.end:
                raise  # else appends go on beside the damage
        number = known.numbers.get(id_key(name))
        return number if number is not None and log.dropped <= number < log.kept else None

    def _read_ids(self, key: str, settled: Settled, known: Known) -> Known:
        """Return the ids up to the end that a journal names. Raises LogReplaced, CorruptShard."""
        with OpenedLog(self, shard_name(key), key, settled) as file:
            if not file.has(known.last):  # somebody put a backup in the file's place, or damaged it
                with suppress(CorruptShard):  # then what was read before still holds
                    return self._ids.extend(settled.file, nothing_known(), settled.end, *file.ids_behind(0))
            if known.end >= settled.end:
                return known
            return self._ids.extend(settled.file, known, settled.end, *file.ids_behind(known.end))

    def forget(self, file_id: str) -> None:
        """Forget a file that is gone."""
        self._ids.forget(file_id)
        self._newest.forget(file_id)

    def open(self, path: str, flags: int) -> int:
        """Open a log file; where no descriptor is left for it, have idle ones closed. Raises OSError."""
        try:
            return disk.open_file(path, flags)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self.free_descriptors():
                raise
        return disk.open_file(path, flags)

    def path(self, name: str, settled: Settled) -> str:
        """Return the path of a shard's log file."""
        return self.layout.shard_path(log_name(name, settled.file))

    def missing(self, name: str, key: str, settled: Settled) -> NoReturn:
        """Raise for a file that is not there: LogReplaced, or CorruptShard where the journal still names it."""
        journal, _ = read_file(self.layout.shard_path(name))
        state = journal.state
        if state.exists and state.log.settled.file == settled.file:
            why = "the log's file is missing, so put it back from a backup before any repair"
            error = CorruptShard(self.path(name, settled), 0, why, key)
            raise events.damaged(error) from None
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
        newest = [*log.pending[-NEWEST:]]
        self._newest.keep(done.file, stamp_of(self.path(name, done)), log.end - len(newest), newest)
        return done

    def rewrite(self, name: str, key: str, log: LogState) -> Settled:
        """Put the whole log in a new file, on the medium; return where it stands then."""
        return self.write_new(name, log, self._all(name, key, log), first=log.dropped)

    def _all(self, name: str, key: str, log: LogState) -> Iterator[Item]:
        """Yield every item that stands."""
        if log.dropped < log.kept:
            with OpenedLog(self, name, key, log.settled) as file:
                for number, item in enumerate(file.iterate(log.dropped, log.kept), log.dropped):
                    new = log.replaced.get(number)
                    yield item if new is None else new._replace(id=item.id)
        yield from log.pending

    def _append(self, name: str, key: str, log: LogState) -> Settled | None:
        """Append the pending items behind the end; None where the file is to be copied instead.

        That is one with another name too: somebody's backup, or another session's since a rename that died. And one
        that holds other items behind the end: somebody put an older journal back, and snapshots still name them.
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
                if status.st_size < settled.end - 1:
                    raise CorruptShard(path, status.st_size, "the log's file is shorter than the journal says", key)
                if status.st_nlink > 1 or not _is_free(fd, status.st_size, settled.end, data):
                    return None
                if status.st_size < settled.end:  # somebody cut the last newline off, and with it no item
                    _write(fd, b"\n" + data, settled.end - 1)
                else:
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


def _is_free(fd: int, size: int, end: int, data: bytes) -> bool:
    """Return whether the file ends at `end`, or goes on with the same bytes, which a settle that died wrote."""
    return size <= end or (size - end <= len(data) and data.startswith(disk.read_all(fd, end, size - end)))


def _write(fd: int, data: bytes, end: int) -> None:
    """Write behind the end and sync; if that fails, cut the file back to the end."""
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
    """Link a log file to a second name, in another directory perhaps, on the medium; copy it where there are no links.

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
