"""Watching a store in files: by the change file of the index; where there is none, by reading every shard."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Final

from shardstore._files.change_file.file import Unusable, change_files
from shardstore._files.index.upkeep import look
from shardstore._files.watch.changes import FileChanges
from shardstore._files.watch.position import Position, life_text, parse
from shardstore._files.watch.scan import SCAN, ScanChanges
from shardstore.errors import ShardStoreError, WatchExpired

if TYPE_CHECKING:
    from shardstore._files.index.lister import Lister

_TRIES: Final = 20
_PAUSE_S: Final = 0.01


def here(lister: Lister, *, write: bool) -> str:
    """Return the token of this moment. Raises StoreNotFound, StoreIOError."""
    for _ in range(_TRIES):
        lister.answer(lambda _: None, refresh=write, progress=None)  # then there is an index, or there can be none
        if not change_files(lister.place.directory):
            break
        try:
            meta = look(lister, lambda *_: None)[1]  # it knows everything that was committed before its mark
            changes = FileChanges(lister, "", Position(meta.file, meta.mark, {}), write=write)
            token = changes.present().token(life_text(lister.place))
            changes.close()
        except (ShardStoreError, Unusable, OSError, sqlite3.Error) as error:
            if isinstance(error, ShardStoreError) and not isinstance(error, WatchExpired):
                raise
        else:
            return token
        time.sleep(_PAUSE_S)  # somebody refreshes, or rebuilds it
    return ScanChanges.begin(lister.place)


def open_changes(lister: Lister, prefix: str, since: str | None, *, write: bool) -> FileChanges | ScanChanges:
    """Return the changes from a token on, or from now on. Raises WatchExpired, StoreNotFound, StoreIOError."""
    token = here(lister, write=write) if since is None else since
    if token.startswith(SCAN):
        return ScanChanges(lister.place, prefix, token)
    try:
        life = life_text(lister.place)
    except OSError:
        life = ""  # no index at all
    return FileChanges(lister, prefix, parse(token, life), write=write)
