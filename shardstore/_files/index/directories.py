"""Files that a person copies into shards/ or takes away: found by the mtimes of the directories, as far as those go.

Only a hint. A commit marks its shard as changed; a change by hand does not, and a directory's mtime does not
always move. compact and verify compare every directory.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from shardstore._files.layout import PREFIXES

if TYPE_CHECKING:
    from shardstore._files.index.catalog import Catalog
    from shardstore._files.index.shards import ShardReader

_EVERY_S: Final = 1.0
_AT_MOST: Final = 32  # directories listed in one go: a list is not to wait for more


class Directories:
    """The differences between the directories and a catalog, until they are published."""

    def __init__(self) -> None:
        self.suspects: frozenset[str] = frozenset()  # shards to be read though nobody marked them as changed
        self.compared: dict[str, int] = {}  # the mtimes of the directories that were compared
        self._known: dict[str, int] = {}  # of all directories, as they were when last compared
        self._file = ""
        self._next = 0.0

    def due(self) -> bool:
        """Return whether it is time to look again; the next time is a second later."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _EVERY_S
        return True

    def compare(self, shards: ShardReader, catalog: Catalog, file: str, *, every: bool = False) -> None:
        """Find shards that only a directory or only the catalog knows, where the mtime moved, or in `every` directory.

        `file`: the catalog's change file. REQUIRES: a transaction of the catalog.
        """
        if self._file != file:
            self._file, self._known = file, catalog.directories()
            self.suspects, self.compared = frozenset(), {}
        found: set[str] = set()
        compared: dict[str, int] = {}
        for prefix in PREFIXES:
            mtime = mtime_of(shards.layout.shard_path(prefix))
            if every or mtime != self._known.get(prefix):
                found |= catalog.known(prefix).keys() ^ shards.list_directory(prefix).keys()
                compared[prefix] = mtime
                if not every and len(compared) == _AT_MOST:
                    break
        self._known = {**self._known, **compared}
        self.suspects, self.compared = self.suspects | found, {**self.compared, **compared}

    def published(self, suspects: frozenset[str], compared: dict[str, int], file: str) -> None:
        """Forget what a refresh has taken in; `file`: the change file that goes on."""
        self._file = file
        self.suspects -= suspects
        self.compared = {prefix: at for prefix, at in self.compared.items() if compared.get(prefix) != at}


def mtime_of(path: str) -> int:
    """Return a directory's mtime in nanoseconds; 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
