"""Revisions that were acknowledged and are gone: a shard that was emptied, cut back or removed behind the store's back.

A shard without them looks like any other. Only the index can know better: a writer marks a shard before it writes
to it or removes it, so a row without a mark names the revision that the shard must hold. The next list reads the shard
and replaces the row, so verify leaves a record in quarantine/, and names that until a repair.

Of a session that was written since the last refresh the row says less: its mark tells that it changed, once for many
commits, and not how far it came. As the same incarnation never goes back, its shard must hold the row's revision all
the same, unless it is empty or gone, as after a purge. To know more, every commit would have to write to a second file.
Of a session that has no row nothing is known: it was made since, or index/ is gone, or a backup's. If a file of its log
was left, verify names that as unused, and compact keeps it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from shardstore import _codec as codec
from shardstore._files import disk
from shardstore._files.file import read_file, read_journal
from shardstore._files.index.upkeep import Believed, believed
from shardstore._files.layout import is_shard_of, parse_short, short_name, stamped_name
from shardstore._files.missing import quarantined
from shardstore._journal import replay
from shardstore.errors import CorruptShard, ShardStoreError, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardstore._files.engine import FileEngine
    from shardstore._files.layout import Layout
    from shardstore._journal.replay import Journal

_RECORD_BYTES_MAX = 1 << 16


class Short(NamedTuple):
    """A shard that holds less than was acknowledged."""

    shard: str  # its name, relative to ROOT/shards
    key: str
    version: str  # the newest that the lists knew
    known: int  # the revision of that version
    found: int  # the newest revision that the file holds; 0: none


def find_short(engine: FileEngine) -> Iterator[Short]:
    """Yield each shard that holds less than the index knows. Changes nothing."""
    suspects = [
        (name, row) for name, row in believed(engine.index.lister).items() if _compare(engine.layout, name, row)
    ]
    # A row that still stands after the shard was read is no older than the shard: nobody marked it meanwhile.
    still = believed(engine.index.lister) if suspects else {}
    for name, row in suspects:
        found = _compare(engine.layout, name, row)
        if found is not None and still.get(name) == row:
            yield found


def _compare(layout: Layout, name: str, row: Believed) -> Short | None:
    """Return what a shard lacks; None where it holds the row's revision, or another incarnation, or is damaged.

    If another session's file, a directory or a link stands in its place, it lacks everything. No writer puts one there,
    so a mark does not explain it. And once a repair has moved it away, nothing else knows of the session.
    """
    path, short = layout.shard_path(name), Short(name, row.key, row.version, row.rev, 0)
    try:
        journal, _ = read_file(path)
    except CorruptShard:
        return _salvageable(path, row, short) if disk.is_regular(path) else short
    except ShardStoreError:
        return None  # unreadable: named as such
    state = journal.state
    if _is_of_another(journal, row.key):
        return short
    if journal.records and (not row.version.startswith(f"{state.incarnation}.") or state.rev >= row.rev):
        return None
    if row.marked and not journal.records and disk.is_directory(os.path.dirname(path)):
        return None  # whoever marked it may have removed it
    return short._replace(found=state.rev)


def _salvageable(path: str, row: Believed, short: Short) -> Short | None:
    """Return what a damaged shard lacks at its end. A repair sees gaps between lines, but not what followed the last.

    None if it lacks nothing there. None if nothing of it is whole, for verify names that as lost anyway. And None for a
    marked row, which may be another incarnation's.
    """
    try:
        state, _ = replay.salvage(read_journal(path), "")
    except ShardStoreError:
        return None
    found = 0 if state is None else state.rev - 1  # salvage is a revision by itself
    return short._replace(found=found) if 0 < found < row.rev and not row.marked else None


def _is_of_another(journal: Journal, key: str) -> bool:
    return journal.state.key not in (None, key)


def keep_evidence(engine: FileEngine, short: Short, *, record: bool) -> None:
    """Copy the file's bytes to quarantine/, write the record if asked to, and have the next list read the shard.

    Raises StoreIOError.
    """
    layout = engine.layout
    try:
        disk.add_directory(layout.quarantine)
        data = _bytes(layout.shard_path(short.shard), short.key)
        if data:
            disk.publish(layout.quarantine / stamped_name(short.shard), data)
        if record:
            disk.publish(layout.quarantine / short_name(short.shard), codec.dumps(short._asdict()) + b"\n")
    except OSError as error:
        raise_io_error(error, "recording lost revisions", str(layout.quarantine))
    engine.pool.mark_changed(short.shard)


def _bytes(path: str, key: str) -> bytes:
    """Return what a file holds of a session; nothing where it is another one's, which a repair moves to quarantine/."""
    try:
        return b"" if _is_of_another(read_file(path)[0], key) else read_journal(path).rstrip(b"\n")
    except CorruptShard:
        return b""  # it became damaged in this moment; a repair keeps it


def recorded(layout: Layout) -> Iterator[tuple[str, Short]]:
    """Yield (file name in quarantine/, its record) of each shard that was found short before."""
    for name in quarantined(layout):
        if parse_short(name):
            short = _parse(layout.quarantine / name)
            if short is not None:
                yield name, short


def is_back(layout: Layout, short: Short) -> bool:
    """Return whether the shard holds the very version that it lacked: somebody put the file back.

    The number alone proves nothing: whoever went on without the lost revisions gave their numbers to others.
    """
    try:
        states = replay.history(read_journal(layout.shard_path(short.shard)))
    except ShardStoreError:
        return False
    return any(state.version == short.version for state in states)


def _parse(path: str | os.PathLike[str]) -> Short | None:
    """Read a record; None where it is none of ours."""
    try:
        fd = os.open(path, disk.READ)
    except OSError:
        return None
    try:
        given = codec.loads(disk.read_all(fd, 0, _RECORD_BYTES_MAX))
        short = Short(**given)
    except (OSError, ValueError, TypeError):
        return None
    finally:
        os.close(fd)
    numbers = type(short.known) is int and type(short.found) is int
    return short if numbers and is_shard_of(short.shard, short.key) and type(short.version) is str else None


def forget(layout: Layout, names: Iterable[str]) -> None:
    """Remove records. The copies of the files stay. Raises StoreIOError."""
    try:
        for name in names:
            os.unlink(layout.quarantine / name)
        disk.sync_directory(layout.quarantine)
    except OSError as error:
        raise_io_error(error, "removing a record", str(layout.quarantine))


def sentence(short: Short) -> str:
    """Return which revisions are missing, for people."""
    holds = f"its file ends at revision {short.found}" if short.found else "its file holds none, or is gone"
    first, last = short.found + 1, short.known
    gone = f"revision {last} is missing" if first == last else f"revisions {first} to {last} are missing"
    return f"{gone}: the lists knew revision {last}, and {holds}; put the file back from a backup"
