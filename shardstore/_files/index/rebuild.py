"""Rebuilding the index: as slow as reading every shard once, and exact while others write.

Whoever commits meanwhile has marked the shard as changed in the new change file, or held the shard's lock from before
that file was there: then the shard is busy here, or has been committed to before it is read.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from shardstore import _events as events
from shardstore._files import disk
from shardstore._files.change_file.file import MARK, TEMP_PREFIX, ChangeFile, Unusable, change_files, impostors, unlink
from shardstore._files.direct.rows import Busy
from shardstore._files.index.catalog import CATALOG, IN_MEMORY, Catalog, Meta
from shardstore._files.index.directories import ctime_of, is_settled
from shardstore._files.index.refresh import check_settings, read_locked, write_seal
from shardstore._files.layout import PREFIXES
from shardstore._progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore._files.direct.rows import Found, NoSession, SessionRow
    from shardstore._files.index.place import Place
    from shardstore._progress import Progress


def rebuild(place: Place, progress: Progress | None) -> bool:
    """Rebuild the index unless somebody else is at it, or it cannot be written; return whether it was done.

    `progress` is called under the index lock; its exception is raised, and the index is left as missing.
    """
    began = time.monotonic()
    try:
        _make_directory(place.directory)
        with ExitStack() as stack:
            marked = _discard_locked(place, stack)
            if marked is None:
                return False
            file = ChangeFile.create(place.directory)
            stack.callback(file.unlock)
            if change_files(place.directory) != [file.filename]:
                unlink(file.path)
                return False
            _fill(place, file, marked, progress)
    except (Unusable, sqlite3.Error):
        return False
    took = time.monotonic() - began
    events.note("index", events.INFO, "rebuilt the index in %.2f s: %s", took, place.directory)
    if events.measured is not None:
        events.measured("rebuild", took)
    return True


def _make_directory(path: str) -> None:
    """Create index/ unless it is there. A file or a link in its place is replaced."""
    if os.path.islink(path) or not os.path.isdir(path):
        with suppress(FileNotFoundError):
            os.unlink(path)
        disk.make_directory(path)


def _discard_locked(place: Place, stack: ExitStack) -> set[str] | None:
    """Unlink every change file under its lock; return the shards that they name, or None where one is not free."""
    marked: set[str] = set()
    for name in impostors(place.directory):
        remove(f"{place.directory}/{name}")  # a writer whose change file had this name takes it for the file
    for name in change_files(place.directory):
        try:
            file = ChangeFile(place.directory, name, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if not file.lock():
            return None
        stack.callback(file.unlock)
        with suppress(Unusable):
            marked |= file.read_all().names
        unlink(file.path)
    return marked


def _fill(place: Place, file: ChangeFile, marked: set[str], progress: Progress | None) -> None:
    """Build the catalog and put it in place. REQUIRES: the index lock."""
    pid, temp = os.getpid(), f"{place.directory}/{TEMP_PREFIX}{file.filename}.catalog"
    directories: dict[str, int] = {}
    catalog = None
    try:
        mark = file.append(MARK)
        sweep(place.directory)
        meta = Meta(place.settings, place.life(), file.filename, mark)
        catalog = Catalog.create(temp, place.indexed)
        catalog.fill(_batches(place, file, marked, directories, progress), directories, meta)
        catalog.close()
        check_settings(place, meta)
        if not file.is_named():
            raise Unusable("the change file was deleted")
        if os.path.isdir(place.catalog_path):
            remove(place.catalog_path)  # somebody put it there; nothing can be renamed over a directory
        os.rename(temp, place.catalog_path)
        write_seal(place, file, mark)
    except BaseException:
        if os.getpid() == pid:  # a child that forked in `progress` leaves its parent's files and connection alone
            if catalog is not None:
                catalog.close()
            for path in (file.path, temp):
                with suppress(OSError):
                    unlink(path)
        raise


def _batches(
    place: Place, file: ChangeFile, marked: set[str], directories: dict[str, int], progress: Progress | None
) -> Iterator[list[SessionRow | NoSession]]:
    """Read every shard under its lock, a directory at a time.

    A listing does not prove absence: on btrfs a file that is renamed over meanwhile may not be in it. So each directory
    is listed again, and the differences are read again. A file that both listings missed was renamed over in each. A
    writer renames once while it holds the lock, so it took the lock again in between, and marked the shard in our file.
    """
    pid = os.getpid()
    for prefix in track(PREFIXES, progress):
        if os.getpid() != pid:
            raise Unusable("this process forked while it made the index")
        ctime = ctime_of(place.layout.shard_path(prefix))
        directories[prefix] = ctime if is_settled(ctime) else -1  # else the next list compares it again
        before = place.shards.list_directory(prefix)
        names = before.keys() | {name for name in marked if name.startswith(prefix)}
        found = {one.name: one for one in read_locked(place, file, sorted(names))}
        after = place.shards.list_directory(prefix, before)
        again = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        found.update({one.name: one for one in read_locked(place, file, again)})
        yield list(found.values())


def scan(place: Place, marked: set[str], progress: Progress | None) -> tuple[Catalog, dict[str, Found]]:
    """Read every shard without its lock, into a catalog in memory. Return that and the shards that it does not know.

    `marked`: shards that are known, though a listing may miss them. Raises StoreNotFound, StoreIOError.
    """
    unknown: dict[str, Found] = {}

    def batches() -> Iterator[list[SessionRow | NoSession]]:
        for names in place.shards.names(marked, progress):
            found = [place.shards.read(name, keep=False) for name in sorted(names)]
            unknown.update({one.name: one for one in found if isinstance(one, Busy)})
            yield [one for one in found if not isinstance(one, Busy)]

    catalog = Catalog.create(IN_MEMORY, place.indexed)
    try:
        catalog.fill(batches(), {}, Meta(place.settings, "", "", 0))
    except BaseException:
        catalog.close()
        raise
    return catalog, unknown


def remove(path: str) -> None:
    """Remove whatever has a name of ours."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        unlink(path)


def sweep(directory: str) -> None:
    """Delete the files that dead processes left in index/, and files of SQLite that no catalog of ours has.

    REQUIRES: the index lock. Somebody who is still at work on one of these fails, and looks again.
    """
    for name in os.listdir(directory):
        if name.startswith((TEMP_PREFIX, f"{CATALOG}-")):
            with suppress(OSError):
                os.unlink(f"{directory}/{name}")
