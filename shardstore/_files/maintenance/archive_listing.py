"""The files in archive/ and quarantine/: listing them, and emptying the archive for good."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from shardstore._files import disk
from shardstore._files.file import read_file, read_journal
from shardstore._files.layout import ARCHIVE, QUARANTINE, log_file, parse_stamped
from shardstore._files.logfile import discard
from shardstore._files.maintenance.repair import key_in
from shardstore.errors import CorruptShard, InvalidQuery, raise_io_error
from shardstore.reports import ArchivedFile, PurgeReport, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from shardstore._files.layout import Layout


def archived(layout: Layout, prefix: str | None = None) -> list[ArchivedFile]:
    """List the files of both directories, the oldest first. A file without a shard's name is not ours and left out."""
    _check_prefix(prefix)
    files = [*_files(ARCHIVE, layout.archive), *_files(QUARANTINE, layout.quarantine)]
    found = [_known(layout, one)[0] for one in files]
    return sorted((one for one in found if _has_prefix(one, prefix)), key=lambda one: (one.moved_at, one.path))


def _check_prefix(prefix: str | None) -> None:
    if prefix is not None and type(prefix) is not str:
        raise InvalidQuery(f"prefix is a str, not {type(prefix).__name__}")


def _has_prefix(one: ArchivedFile, prefix: str | None) -> bool:
    return not prefix or (one.key is not None and one.key.startswith(prefix))


def purge(
    layout: Layout,
    older_than: float,
    *,
    prefix: str | None,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> PurgeReport:
    """Remove the files from archive/ that were moved there longer ago than this. Never touches quarantine/.

    A file that cannot be read, or removed, is reported as skipped.
    Raises InvalidQuery for a malformed prefix, before anything is removed.
    """
    _check_prefix(prefix)
    limit = time.time() - older_than
    old = [one for one in _files(ARCHIVE, layout.archive) if one.moved_at <= limit]
    removed, skipped = [], []
    for done, file in enumerate(old):
        if progress is not None:
            progress(done, len(old))
        try:
            one, log = _known(layout, file)
            if not _has_prefix(one, prefix):
                continue
            if not dry_run:
                os.unlink(layout.root / one.path)
                discard(log)
            removed.append(one)
        except FileNotFoundError:
            continue  # restored, or purged by another, meanwhile
        except OSError as error:
            skipped.append(Skipped(file.path, None, str(error), failed=True))
    if removed and not dry_run:
        disk.sync_directory(layout.archive)
    return PurgeReport(dry_run, tuple(removed), sum(one.size for one in removed), tuple(skipped))


def _files(place: str, directory: Path) -> Iterator[ArchivedFile]:
    try:
        disk.check_directory(directory)
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise_io_error(error, f"listing {place}/", str(directory))
    for name in names:
        parsed = parse_stamped(name)
        if parsed is None:
            continue
        path = f"{directory}/{name}"
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue  # restored or purged meanwhile
        except OSError as error:
            raise_io_error(error, f"listing {place}/", path)
        if stat.S_ISREG(status.st_mode):
            yield ArchivedFile(place, f"{place}/{name}", None, status.st_size, parsed[1] / 1000)


def _known(layout: Layout, one: ArchivedFile) -> tuple[ArchivedFile, str]:
    """Return the file with its key, and with the bytes of its log, whose path comes beside it.

    The key is None where the file is too damaged to tell, or gone. Raises StoreIOError.
    """
    path = f"{layout.root}/{one.path}"
    try:
        state = read_file(path)[0].state
    except CorruptShard as error:  # as most in quarantine are
        return replace(one, key=error.key or _key_in_remains(path)), ""
    parsed = parse_stamped(os.path.basename(path))
    if parsed is None or not state.log.settled.file:
        return replace(one, key=state.key), ""
    log = f"{os.path.dirname(path)}/{log_file(parsed[0], state.log.settled.file)}"
    return replace(one, key=state.key, size=one.size + _size_of(log)), log


def _size_of(log: str) -> int:
    """Return the bytes of a log file, 0 where it is gone. Raises StoreIOError."""
    try:
        return os.stat(log).st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise_io_error(error, "looking at an archived log", log)


def _key_in_remains(path: str) -> str | None:
    """Return the key that the file's name proves, whatever else of the file is damaged."""
    parsed = parse_stamped(os.path.basename(path))
    try:
        return key_in(read_journal(path), parsed[0]) if parsed is not None else None
    except CorruptShard:  # too large to be a shard
        return None
