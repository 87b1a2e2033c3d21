"""The log files of a store: their check, their repair, and their compaction."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from shardstore._files import disk
from shardstore._files.file import read_file, read_journal
from shardstore._files.layout import ARCHIVE, log_file, log_owner, log_path, parse_log, parse_stamped, stamped_name
from shardstore._files.logfile import discard, give_name
from shardstore._files.missing import quarantined
from shardstore._log import Item, LogChange, LogState, Settled
from shardstore._model import Change
from shardstore.errors import CorruptShard, raise_io_error

if TYPE_CHECKING:
    from shardstore._files.engine import FileEngine
    from shardstore._files.layout import Layout
    from shardstore._files.shard import Shard
    from shardstore._files.transaction import FileTransaction
    from shardstore._journal.replay import Journal
    from shardstore._model import State

PUT_BACK = "put the file back from a backup, under this name, before you repair"
_RUNS_MAX = 8  # runs of items that are named


class Losses(NamedTuple):
    """A problem in the settled part of a log."""

    missing: bool  # the file is not there
    lost: tuple[int, ...]  # indices of items that are not whole
    whole: int  # items that are, those in the journal included
    short: bool = False  # the file ends before the place that the journal names

    @property
    def detail(self) -> str:
        """A sentence for people."""
        what = f"the log's file is {'missing' if self.missing else 'too short' if self.short else 'damaged'}"
        some = "item" if len(self.lost) == 1 else "items"
        return f"{what}: {some} {runs(self.lost)} cannot be read; {self.whole:,} can"


def losses(engine: FileEngine, name: str, log: LogState) -> Losses | None:
    """Return the problem of the log's file; None if every item in it is whole. Raises StoreIOError."""
    if log.kept == log.dropped:
        return None
    found = engine.logs.whole_items(name, log.settled)
    lost = tuple(number - log.dropped for number in range(log.dropped, log.kept) if number not in found)
    if not lost:
        return None
    size = _size(engine.logs.path(name, log.settled))
    return Losses(size is None, lost, log.length - len(lost), short=size is not None and size < log.settled.end - 1)


def _size(path: str) -> int | None:
    """Return the bytes of a file; None where there is none."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise_io_error(error, "looking at a log", path)


def runs(numbers: tuple[int, ...]) -> str:
    """Return numbers as text, a run of them as its first and last."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    named = [f"{first:,}" if first == last else f"{first:,} to {last:,}" for first, last in found[:_RUNS_MAX]]
    return ", ".join(named) + (" and more" if len(found) > _RUNS_MAX else "")


def repair(engine: FileEngine, txn: FileTransaction, name: str) -> str:
    """Go on with the items that are whole, as a new revision; journal and damaged file are kept in quarantine/.

    The journal alone names the lost items' file: without it, nobody could put that file back later.
    Return a sentence about the repair, for people. REQUIRES: inside `txn`.
    """
    log = txn.state.log
    found = losses(engine, name, log)
    if found is None:
        return "it is whole by now"
    whole = engine.logs.whole_items(name, log.settled)
    items = [_newest(log, number, whole[number]) for number in range(log.dropped, log.kept) if number in whole]
    kept = [keep_journal(engine.layout, txn, name), keep(engine.layout, name, log.settled.file)]
    change = LogChange(cut=log.dropped, add=(*items, *log.pending))
    txn.commit(Change({}, [], log=change), engine.process, durable=True)
    txn.rewrite()
    return f"{found.whole:,} items salvaged; " + (
        f"the originals are {kept[0]} and {kept[1]}" if kept[1] else f"the original is {kept[0]}"
    )


def _newest(log: LogState, number: int, item: Item) -> Item:
    new = log.replaced.get(number)
    return item if new is None else new._replace(id=item.id)


def keep_journal(layout: Layout, txn: FileTransaction, name: str) -> str:
    """Copy a whole journal to quarantine/; return the copy's name relative to the root. Raises StoreIOError.

    A copy, and no second name of the file: the commits that follow would be in it.
    """
    target = layout.quarantine / stamped_name(name)
    data = txn.read_whole()
    try:
        disk.add_directory(layout.quarantine)
        disk.publish(target, data)
    except OSError as error:
        raise_io_error(error, "keeping a journal in quarantine", str(target))
    return f"{layout.quarantine.name}/{target.name}"


def keep(layout: Layout, name: str, file_id: str) -> str:
    """Link a log file to a second name in quarantine/; return it relative to the root, empty where there is no file."""
    target = layout.quarantine / log_file(name, file_id)
    try:
        disk.add_directory(layout.quarantine)
        give_name(log_path(layout, name, file_id), str(target))
    except OSError as error:
        raise_io_error(error, "keeping a damaged log in quarantine", str(target))
    return f"{layout.quarantine.name}/{target.name}" if disk.exists(target) else ""


def files_of(layout: Layout, name: str) -> list[str]:
    """Return the ids of all log files beside a shard, whether its journal names them or not. Raises OSError."""
    prefix = name.partition("/")[0]
    found = [parse_log(f"{prefix}/{file}") for file in sorted(os.listdir(layout.shard_path(prefix)))]
    return [parsed[1] for parsed in found if parsed is not None and parsed[0] == name]


def set_aside(layout: Layout, name: str) -> None:
    """Move the log files of a shard that is lost to quarantine/, so that compact does not sweep them."""
    for file_id in files_of(layout, name):
        if keep(layout, name, file_id):
            os.unlink(log_path(layout, name, file_id))


def salvaged_log(shard: Shard, state: State) -> State:
    """Return a salvaged state with the log that its files hold, where no record that names one of them is whole.

    The whole items of the newest file come first, then those of the records.
    """
    log = state.log
    ids = [] if log.settled.file else files_of(shard.layout, shard.name)
    if not ids:
        return state
    newest = max(ids, key=lambda one: os.stat(log_path(shard.layout, shard.name, one)).st_mtime_ns)
    found = shard.logs.whole_items(shard.name, Settled(newest))
    known = set(log.pending)
    items = [item for _, item in sorted(found.items()) if item not in known]  # a settle that died wrote them twice
    size = log.bytes + sum(len(item.raw) for item in items)
    return state._replace(log=log._replace(pending=(*items, *log.pending), bytes=size))


# Files that nobody needs


def why_unused(layout: Layout, name: str, file_id: str) -> str | None:
    """Return what a log file may be that no journal names, for people; None where one does, or cannot be read."""
    try:
        journal, _ = read_file(layout.shard_path(name))
    except CorruptShard:
        return None
    if journal.state.log.settled.file == file_id:
        return None
    reason = why_kept(layout, name, file_id, journal)
    if reason:
        return f"{reason}: this may be all that is left; compact moves it to quarantine/"
    return "no journal names it; compact sweeps it"


def is_unused(layout: Layout, name: str, file_id: str) -> bool:
    """Return whether no journal names a log file; False where the journal cannot be read."""
    return why_unused(layout, name, file_id) is not None


class Swept(NamedTuple):
    """The outcome for a log file that no journal names."""

    why: str  # for people
    kept: bool = False  # in quarantine/


def sweep(engine: FileEngine, txn: FileTransaction, name: str, file_id: str) -> Swept | None:
    """Remove a log file that no journal names; None where one names it after all.

    The journal without it is put on the medium first: else a power cut might bring back one that names it.
    A file that may be all that is left of a log goes to quarantine/ instead.
    REQUIRES: inside `txn`, which keeps out a writer that has just made the file.
    """
    if txn.state.log.settled.file == file_id:
        return None
    path = log_path(engine.layout, name, file_id)
    disk.sync_directory(os.path.dirname(path))
    reason = why_kept(engine.layout, name, file_id, txn.journal)
    kept = keep(engine.layout, name, file_id) if reason else ""
    os.unlink(path)
    return Swept(f"{reason}; it is {kept}", kept=True) if kept else Swept("no journal names it")


def sweep_all(txn: FileTransaction, layout: Layout, name: str) -> None:
    """Remove what a delete that died left of a session's log, before its tombstone goes. REQUIRES: inside `txn`."""
    left = files_of(layout, name)
    if left:
        txn.cover()
        for file_id in left:
            discard(log_path(layout, name, file_id))


def why_kept(layout: Layout, name: str, file_id: str, journal: Journal) -> str:
    """Return why an unused log file of a shard may be all that is left of its log; an empty text where it is not.

    A delete and a replacement leave a journal that says so before the file goes. A file that somebody emptied, removed
    or put back from a backup says nothing of the log that it had.
    """
    if not journal.records:
        return "its session's file is empty or gone"
    named = journal.state.log.settled.file
    if named and not disk.exists(log_path(layout, name, named)):
        return "the log that its session's file names is missing"
    by = _named_in_quarantine(layout, name, file_id)
    return f"{layout.quarantine.name}/{by} names it" if by else ""


def _named_in_quarantine(layout: Layout, name: str, file_id: str) -> str:
    """Return the name of a session's file in quarantine/ that holds the id of a log file; empty where none does.

    What a repair moved there may be damaged, so its bytes decide. Raises StoreIOError.
    """
    for file in quarantined(layout):
        stamped = parse_stamped(file)
        if stamped is None or stamped[0] != name:
            continue
        try:
            if file_id.encode() in read_journal(str(layout.quarantine / file)):
                return file
        except CorruptShard:
            continue  # a directory or a link that stood in a session's place
    return ""


def unused_in_archive(layout: Layout) -> list[tuple[str, str]]:
    """Return (shard name, file name) of each log file in archive/ that no archived journal names. Raises OSError."""
    try:
        files = sorted(os.listdir(layout.archive))
    except FileNotFoundError:
        return []
    owners = [(owner, file) for file in files if (owner := log_owner(file)) is not None]
    return [(owner, file) for owner, file in owners if is_unused_in_archive(layout, owner, file, files)]


def is_unused_in_archive(layout: Layout, owner: str, file: str, files: list[str] | None = None) -> bool:
    """Return whether no archived journal of a shard names a log file in archive/."""
    for other in os.listdir(layout.archive) if files is None else files:
        stamped = parse_stamped(other)
        if stamped is None or stamped[0] != owner:
            continue
        try:
            journal, _ = read_file(f"{layout.root}/{ARCHIVE}/{other}")
        except CorruptShard:
            return False
        if file == log_file(owner, journal.state.log.settled.file):
            return False
    return True
