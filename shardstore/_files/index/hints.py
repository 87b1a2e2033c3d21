"""Files that a person copies into shards/ or takes away: found by the mtimes of the directories, as far as those go.

Only a hint. An update notes itself; what somebody does by hand does not, and a directory's mtime does not always
move. compact and verify compare every directory.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from shardstore._files.index.rows import digest_of
from shardstore._files.layout import PREFIXES

if TYPE_CHECKING:
    from shardstore._files.index.catalogue import Catalogue
    from shardstore._files.index.look import Place

_EVERY_S: Final = 1.0
_AT_MOST: Final = 32  # directories listed in one go: a list is not to wait for more


class Directories:
    """What was found by comparing the directories with the catalogue, until it is published."""

    __slots__ = ("_epoch", "_known", "_next", "compared", "suspects")

    def __init__(self) -> None:
        self.suspects: frozenset[str] = frozenset()  # shards to be read though they are not noted
        self.compared: dict[str, int] = {}  # the mtimes of the directories that were compared
        self._known: dict[str, int] = {}  # of all directories, as they were when last compared
        self._epoch = ""
        self._next = 0.0

    def due(self) -> bool:
        """Tell whether it is time to look again; the next time is a second later."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _EVERY_S
        return True

    def compare(self, place: Place, catalogue: Catalogue, epoch: str, *, every: bool = False) -> None:
        """Find, where a directory's mtime moved or in `every` one, shards that only it or only the catalogue knows."""
        if self._epoch != epoch:
            self._epoch, self._known = epoch, catalogue.directories()
            self.suspects, self.compared = frozenset(), {}
        found: set[str] = set()
        compared: dict[str, int] = {}
        for prefix in PREFIXES:
            mtime = _mtime(place.layout.shard_path(prefix))
            if every or mtime != self._known.get(prefix):
                found |= _differences(place, catalogue, prefix)
                compared[prefix] = mtime
                if not every and len(compared) == _AT_MOST:
                    break
        self._known = {**self._known, **compared}
        self.suspects, self.compared = self.suspects | found, {**self.compared, **compared}

    def published(self, suspects: frozenset[str], compared: dict[str, int]) -> None:
        """Forget what a refresh has taken in."""
        self.suspects -= suspects
        self.compared = {prefix: at for prefix, at in self.compared.items() if compared.get(prefix) != at}


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _differences(place: Place, catalogue: Catalogue, prefix: str) -> set[str]:
    listed = {digest_of(name): name for name in place.shards.list_shards(prefix)}
    known = catalogue.known(prefix)
    names = {name for digest, name in listed.items() if digest not in known}
    for digest in known - listed.keys():
        name = catalogue.name(digest)
        if name is not None:
            names.add(name)
    return names
