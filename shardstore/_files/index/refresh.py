"""Bringing the catalog up to date: by whoever lists, one at a time, in one transaction.

Whoever commits has marked the shard as changed behind our mark, which the next list reads; or holds the shard's lock
when we come, and is marked again behind our mark; or has committed before, and is read here.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from shardstore import _events as events
from shardstore._files.change_file.file import BEFORE, BYTES_MAX, MARK, ChangeFile, Unusable, change, unlink
from shardstore._files.direct.rows import Busy, NoSession, SessionRow
from shardstore._files.index.catalog import fingerprint, stamp
from shardstore._model import UNKNOWN, UNSEEN
from shardstore.errors import ShardStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shardstore._files.change_file.file import Pending
    from shardstore._files.index.catalog import Catalog, Meta
    from shardstore._files.index.place import Place


# For which an index cannot be used, or not be written. A message of SQLite may quote bytes that are no text.
FAILURES: Final = (Unusable, OSError, sqlite3.Error, UnicodeDecodeError)


@contextmanager
def where_usable() -> Iterator[None]:
    """Leave the block where the index cannot be used. Raises StoreNotFound, StoreIOError, which are OSErrors too."""
    try:
        yield
    except ShardStoreError:
        raise
    except FAILURES:
        return


def refresh(place: Place, catalog: Catalog, file: ChangeFile, first: Callable[[], None] | None = None) -> bool:
    """Refresh unless somebody else is at it, or it cannot be written; return whether the catalog is newer by now.

    `first` is called under the index lock. REQUIRES: the connection is in no transaction. Raises StoreIOError where a
    shard cannot be read.
    """
    if not file.lock():
        return False
    began = time.monotonic()
    try:
        with where_usable():
            if first is not None:
                first()
            return _refresh(place, catalog, file)
        return False
    finally:
        file.unlock()
        if events.measured is not None:
            events.measured("refresh", time.monotonic() - began)


def _refresh(place: Place, catalog: Catalog, old: ChangeFile) -> bool:
    """Refresh. REQUIRES: the index lock."""
    rotates = old.size() > BYTES_MAX
    new = ChangeFile.create(place.directory, old.filename) if rotates else old
    try:
        with catalog.writing(exclusive=rotates):
            meta = catalog.meta()
            if meta.file != old.filename or not old.is_named():
                raise Unusable("another change file by now")
            found = place.directories.to_publish(meta)
            for name in found.suspects and found.suspects - old.read(meta.mark).names:  # so watchers hear of it
                old.write(change(name, UNKNOWN, catalog.key_of(name) or ""))
            mark = new.append(MARK)
            if rotates:  # from here on whoever knows the old one alone looks for another
                os.rename(old.path, f"{place.directory}/{BEFORE}")
            pending = old.read(meta.mark)
            if not is_sealed(place, meta, pending):
                raise Unusable("the catalog is not as it was sealed")
            changes = read_locked(place, new, pending.names | found.suspects)
            check_settings(place, meta)
            catalog.publish(changes, found.compared, meta._replace(file=new.filename, mark=mark))
        write_seal(place, new, mark)
        place.use(new)
        place.directories.published(found, (new.filename, mark))
    except BaseException:
        if rotates and new.is_named():
            unlink(new.path)
        raise
    finally:
        if rotates:
            new.unlock()
    return True


def read_locked(place: Place, file: ChangeFile, names: Iterable[str]) -> list[SessionRow | NoSession]:
    """Read shards under their locks; mark those that are busy as changed again. Raises OSError, StoreIOError."""
    found: list[SessionRow | NoSession] = []
    for name in names:
        one = place.shards.read_locked(name)
        if isinstance(one, Busy):
            file.append(change(name, UNSEEN, ""))  # watchers have seen the change of whoever is inside
        else:
            found.append(one)
    return found


def check_settings(place: Place, meta: Meta) -> None:
    """Raise Unusable if other fields were indexed while shards were read: some rows are of these, some of those."""
    if meta.settings != place.settings:
        raise Unusable("the indexed fields are others by now")


def is_sealed(place: Place, meta: Meta, pending: Pending) -> bool:
    """Return whether the catalog looks as the last seal says, and that is of its mark. Raises OSError."""
    return pending.seal == f"{meta.mark} {fingerprint(place.catalog_path)}"


def write_seal(place: Place, file: ChangeFile, mark: int) -> None:
    """Write what the catalog looks like from now on, and that it knows all changes before the mark. Raises OSError."""
    file.append(f"= {mark} {stamp(place.catalog_path)}")
