"""Erasing what a session was before: old revisions, dropped and replaced items, and copies that were set aside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from shardstore._files import disk
from shardstore._files.layout import ARCHIVE, QUARANTINE, SHARDS, log_owner, parse_log, parse_stamped, shard_name
from shardstore._files.logfile import discard
from shardstore.errors import raise_io_error
from shardstore.reports import EraseReport

if TYPE_CHECKING:
    from pathlib import Path

    from shardstore._files.engine import FileEngine
    from shardstore._files.transaction import FileTransaction

_UNREACHED: Final = (
    "backups, and copies that somebody made of the files",
    "free pages of the index's catalog, until compact gives them back",
    "blocks of removed files, as long as the disk keeps them",
)


def erase_history(engine: FileEngine, key: str, timeout: float | None) -> EraseReport:
    """Implement Store.erase_history."""
    name = shard_name(key)
    with engine.transaction(key, timeout, create=False) as txn:
        removed = [f"{SHARDS}/{name}", *_forget(engine, txn, name)]
        for place, directory in ((ARCHIVE, engine.layout.archive), (QUARANTINE, engine.layout.quarantine)):
            removed += _clear(place, directory, name)
    return EraseReport(key, tuple(removed), _UNREACHED)


def _forget(engine: FileEngine, txn: FileTransaction, name: str) -> list[str]:
    """Write journal and log anew, without their past, and remove every other log file of the session."""
    txn.repair_tail()
    txn.rewrite(new_log=bool(txn.state.log.settled.file))
    present = txn.state.log.settled.file
    removed = []
    directory = os.path.dirname(engine.layout.shard_path(name))
    for file in os.listdir(directory):
        parsed = parse_log(f"{name.partition('/')[0]}/{file}")
        if parsed is not None and parsed[0] == name and parsed[1] != present:
            discard(f"{directory}/{file}")
            removed.append(f"{SHARDS}/{name.partition('/')[0]}/{file}")
    return removed


def _clear(place: str, directory: Path, name: str) -> list[str]:
    """Remove the files of one session from archive/ or quarantine/."""
    try:
        files = os.listdir(directory)
    except FileNotFoundError:
        return []
    removed = []
    for file in files:
        stamped = parse_stamped(file)
        if log_owner(file) == name or (stamped is not None and stamped[0] == name):
            try:
                os.unlink(directory / file)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise_io_error(error, "removing a copy of a session", str(directory / file))
            removed.append(f"{place}/{file}")
    if removed:
        disk.sync_directory(directory)
    return removed
