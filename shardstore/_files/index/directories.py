"""Files that a person copies into shards/, puts in the place of others, changes or takes away.

A commit marks its shard as changed; what somebody does by hand does not. What was put into a directory, or taken out of
it, moves the directory's ctime, which no tool sets back as `cp -a` and rsync do with the mtime: the next list finds it.
What was changed in place is found by looking at every file in turn. Both within bounds, so that a list of many sessions
does not pay for it: compact compares all at once.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore._files.file import CHECK_S
from shardstore._files.layout import PREFIXES
from shardstore.errors import StoreIOError, StoreNotFound

if TYPE_CHECKING:
    from shardstore._files.index.catalog import Catalog
    from shardstore._files.index.shards import ShardReader

_TURN_S: Final = 1.0  # seconds in which up to _FILES_MOST files are compared
_FILES_MOST: Final = 1000  # a few milliseconds
_INTEGER_MAX: Final = (1 << 63) - 1  # of SQLite: a time beyond the year 2262 is larger


class Found(NamedTuple):
    """What was found since the last refresh; replaced as a whole, for a thread reads it while another one compares."""

    suspects: frozenset[str]  # shards to be read though nobody marked them as changed
    compared: dict[str, int]  # the ctimes of the directories that were compared


NOTHING: Final = Found(frozenset(), {})


class Directories:
    """The differences between the files and a catalog, until they are published. One thread compares at a time."""

    def __init__(self) -> None:
        self.found = NOTHING
        self._mutex = threading.RLock()  # a signal handler may list in the middle of a list
        self._known: dict[str, int] = {}  # the ctimes of all directories, as they were when last compared
        self._file = ""
        self._next = self._turn = 0.0  # time.monotonic
        self._left = 0  # files that may still be compared in this turn
        self._digest = b""  # behind which the next turn begins

    def check(self, shards: ShardReader, catalog: Catalog, file: str) -> None:
        """Find shards that were changed by hand, if it is time to, and within the bounds of this turn.

        `file`: the catalog's change file. REQUIRES: a transaction of the catalog.
        """
        if time.monotonic() < self._next:
            return
        with self._mutex:
            now = time.monotonic()
            if now < self._next:  # another thread compared while this one waited
                return
            self._follow(catalog, file)
            begins = now >= self._turn
            if begins:
                self._turn, self._left = now + _TURN_S, _FILES_MOST
            for prefix in PREFIXES:
                ctime = ctime_of(shards.layout.shard_path(prefix))
                if ctime != self._known.get(prefix) and self._left > 0:
                    self._compare(shards, catalog, prefix, ctime)
            if begins:
                self._walk(shards, catalog)
            self._next = now + CHECK_S  # not before: who lists meanwhile waits for what is found

    def compare_all(self, shards: ShardReader, catalog: Catalog, file: str) -> None:
        """Find every shard that was changed by hand. REQUIRES: a transaction of the catalog."""
        with self._mutex:
            self._follow(catalog, file)
            for prefix in PREFIXES:
                self._compare(shards, catalog, prefix, ctime_of(shards.layout.shard_path(prefix)))

    def _follow(self, catalog: Catalog, file: str) -> None:
        """Begin anew where the catalog was made anew. REQUIRES: the mutex, here and below."""
        if self._file != file:
            self._file, self._known = file, catalog.directories()
            self.found = NOTHING

    def _compare(self, shards: ShardReader, catalog: Catalog, prefix: str, ctime: int) -> None:
        """Compare the files of one directory, which had this ctime before."""
        known = catalog.fingerprints(prefix)
        try:
            found = shards.fingerprints(prefix)
        except StoreNotFound:
            raise
        except StoreIOError:  # no directory any more: each shard that is known there is read, and says so itself
            found = {}
        self._left -= len(found) + 1
        differ = {name for name in known.keys() | found.keys() if known.get(name) != found.get(name)}
        self._add(differ, {prefix: ctime})
        self._known[prefix] = ctime

    def _walk(self, shards: ShardReader, catalog: Catalog) -> None:
        """Compare the next files that the catalog knows, for a change in place moves no directory's ctime."""
        if self._left <= 0:
            return
        rows = catalog.walk(self._digest, self._left)
        self._digest = rows[-1][0] if len(rows) == self._left else b""
        self._left -= len(rows)
        differ = {name for _, name, fingerprint in rows if fingerprint != shards.fingerprint(name)}
        if differ:
            self._add(differ, {})

    def _add(self, suspects: set[str], compared: dict[str, int]) -> None:
        while True:
            before = self.found
            after = Found(before.suspects | suspects, before.compared | compared)
            if self.found is before:  # else a signal handler has listed in between
                self.found = after
                return

    def published(self, taken: Found, file: str) -> None:
        """Forget what a refresh has taken in, unless a thread compared meanwhile; `file`: the change file that goes on.

        A shard that this thread found may be one that was taken in before it was changed by hand once more.
        """
        with self._mutex:
            self._file = file
            if self.found is taken:
                self.found = NOTHING


def ctime_of(path: str) -> int:
    """Return a directory's ctime in nanoseconds; 0 where there is none."""
    try:
        return os.stat(path).st_ctime_ns & _INTEGER_MAX
    except OSError:
        return 0
