"""Files that a person copies into shards/, puts in the place of others, changes or takes away.

A commit marks its shard as changed; a person with `cp` does not. A file that comes or goes moves its directory's ctime.
No tool sets a ctime back, as `cp -a` and rsync do with the mtime, so the next list finds the file. A change in place
moves no ctime; lists find it by looking at every file in turn. Each list does a bounded part of this, and compact does
all of it.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore._files.direct.rows import INTEGER_MAX
from shardstore._files.file import CHECK_S
from shardstore._files.layout import PREFIXES
from shardstore.errors import StoreIOError, StoreNotFound

if TYPE_CHECKING:
    from shardstore._files.direct.shards import ShardReader
    from shardstore._files.index.catalog import Catalog, Meta

    Edition = tuple[str, int]  # of a catalog: its change file and its mark, which every refresh moves

_TURN_S: Final = 1.0  # seconds in which up to _FILES_MOST files are compared
_FILES_MOST: Final = 1000  # a few milliseconds; a quarter of them is for files in directories that did not change
_TICK_NS: Final = 20_000_000  # a second change within one tick of the kernel's clock, up to 10 ms, moves no ctime
_SECOND_NS: Final = 1_000_000_000
_NO_DIRECTORY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Findings(NamedTuple):
    """The findings since the last refresh. Replaced as a whole: one thread reads it while another one compares."""

    suspects: frozenset[str]  # shards to be read though nobody marked them as changed
    compared: dict[str, int]  # the ctimes of the directories that were compared


NOTHING: Final = Findings(frozenset(), {})


class Directories:
    """The differences between the files and a catalog, until they are published. One thread compares at a time."""

    def __init__(self) -> None:
        self.found = NOTHING
        self._mutex = threading.RLock()  # a signal handler may list in the middle of a list
        self._edition: Edition | None = None  # of the catalog that was compared with
        self._known: dict[str, int] = {}  # the ctimes of all directories, as they were when last compared
        self._next = self._turn = 0.0  # time.monotonic
        self._left = 0  # files that may still be compared in this turn
        self._first = 0  # the directory that is compared first: those behind it have waited longest
        self._digest = b""  # behind which the next turn begins

    def check(self, shards: ShardReader, catalog: Catalog, meta: Meta) -> None:
        """Find shards that were changed by hand, if it is time to, and within the bounds of this turn.

        REQUIRES: a transaction of the catalog, which `meta` is of.
        """
        if time.monotonic() < self._next:
            return
        with self._mutex:
            now = time.monotonic()
            if now < self._next:  # another thread compared while this one waited
                return
            self._follow(catalog, meta)
            begins = now >= self._turn
            if begins:
                self._turn, self._left = now + _TURN_S, _FILES_MOST
            for prefix in PREFIXES[self._first :] + PREFIXES[: self._first]:
                ctime = ctime_of(shards.layout.shard_path(prefix))
                if ctime != self._known.get(prefix) and self._left > 0:
                    self._left -= self._compare(shards, catalog, prefix, ctime)
            if begins:
                self._walk(shards, catalog, max(self._left, _FILES_MOST // 4, 1))
            self._next = now + CHECK_S  # at the end: a thread that lists meanwhile waits for the findings

    def compare_all(self, shards: ShardReader, catalog: Catalog, meta: Meta) -> None:
        """Find every shard that was changed by hand. REQUIRES: a transaction of the catalog, which `meta` is of."""
        with self._mutex:
            self._follow(catalog, meta)
            for prefix in PREFIXES:
                self._compare(shards, catalog, prefix, ctime_of(shards.layout.shard_path(prefix)))

    def _follow(self, catalog: Catalog, meta: Meta) -> None:
        """Read the ctimes from the catalog again where another process has published, or a rebuild.

        The suspects stay until their directory is compared again. REQUIRES: the mutex, here and below.
        """
        edition = meta.edition
        if self._edition != edition:
            self._edition, self._known = edition, catalog.directories()
            self.found = Findings(self.found.suspects, {})
            for name in self.found.suspects:  # they stay until their directory is compared again
                self._known.pop(name[:2], None)

    def _compare(self, shards: ShardReader, catalog: Catalog, prefix: str, ctime: int) -> int:
        """Compare the files of one directory, which had this ctime before; return how many looks that took."""
        settled = is_settled(ctime)  # asked first: a file may come in the same tick as the look at the ctime
        self._first = (PREFIXES.index(prefix) + 1) % len(PREFIXES)
        found: dict[str, int] = {}
        try:
            found = shards.fingerprints(prefix)
        except StoreNotFound:
            raise
        except StoreIOError as error:
            if error.errno not in _NO_DIRECTORY:
                self._known.pop(prefix, None)  # nobody knows its files now: compare it later
                return 1
        # Where there is no directory any more, each shard that is known is read, and says so itself.
        known = catalog.fingerprints(prefix)
        differ = {name for name in known.keys() | found.keys() if known.get(name) != found.get(name)}
        self._add(prefix, differ, {prefix: ctime} if settled else {})
        if settled:
            self._known[prefix] = ctime
        return len(found) + 1

    def _walk(self, shards: ShardReader, catalog: Catalog, count: int) -> None:
        """Compare the next files that the catalog knows, for a change in place moves no directory's ctime."""
        rows = catalog.known(self._digest, most=count)
        self._digest = rows[-1][0] if len(rows) == count else b""
        differ = {name for _, name, fingerprint in rows if fingerprint != (shards.fingerprint(name) or 0)}
        if differ:
            self._add("", differ, {})

    def _add(self, prefix: str, suspects: set[str], compared: dict[str, int]) -> None:
        """Add suspects; with a prefix they are all there are in this directory."""
        while True:
            before = self.found
            kept = {name for name in before.suspects if not prefix or name[:2] != prefix}
            after = Findings(frozenset(suspects | kept), before.compared | compared)
            if self.found is before:  # else a signal handler has listed in between
                self.found = after
                return

    # Refreshing

    def to_publish(self, meta: Meta) -> Findings:
        """Return the findings for a refresh of this catalog; NOTHING where they belong to another one."""
        with self._mutex:
            return self.found if self._edition == meta.edition else NOTHING

    def published(self, taken: Findings, edition: Edition) -> None:
        """Forget the findings that a refresh took in, unless a thread has compared with the old catalog meanwhile."""
        with self._mutex:
            if self.found is taken:
                self.found, self._edition = NOTHING, edition
            else:
                self._edition = None


def ctime_of(path: str) -> int:
    """Return a directory's ctime in nanoseconds; 0 where there is none."""
    try:
        return os.stat(path).st_ctime_ns & INTEGER_MAX
    except OSError:
        return 0


def is_settled(ctime: int) -> bool:
    """Return whether any later change of a directory will move this ctime."""
    coarse = _SECOND_NS if ctime % _SECOND_NS == 0 else 0  # a file system that keeps whole seconds
    return abs(time.time_ns() - ctime) > _TICK_NS + coarse
