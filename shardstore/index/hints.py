"""Files that a person copies into shards/ or takes away: found by the mtimes of the directories, as far as those go.

Only a hint. An update notes itself; what somebody does by hand does not, and a directory's mtime does not always
move. compact and verify compare every directory.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from shardstore.index.rows import digest_of
from shardstore.layout import PREFIXES

if TYPE_CHECKING:
    from shardstore.index.catalogue import Catalogue
    from shardstore.index.look import Place

_EVERY_S: Final = 1.0
_AT_MOST: Final = 32  # directories listed in one go: a list is not to wait for more


class Directories:
    """When each directory of shards was last compared with the catalogue, by this process or whoever published."""

    __slots__ = ("_compared", "_epoch", "_next")

    def __init__(self) -> None:
        self._epoch = ""
        self._compared: dict[str, int] = {}
        self._next = 0.0

    def due(self) -> bool:
        """Tell whether it is time to look again; the next time is a second later."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _EVERY_S
        return True

    def suspects(
        self, place: Place, catalogue: Catalogue, epoch: str, *, every: bool = False
    ) -> tuple[set[str], dict[str, int]]:
        """Compare the directories whose mtime moved, or `every` one; return shards to be read, and the mtimes.

        Shards the catalogue does not know, and those it knows that are not listed.
        """
        if self._epoch != epoch:
            self._epoch, self._compared = epoch, catalogue.directories()
        found: set[str] = set()
        compared: dict[str, int] = {}
        for prefix in PREFIXES:
            mtime = _mtime(place.layout.shard_path(prefix))
            if every or mtime != self._compared.get(prefix):
                found |= _differences(place, catalogue, prefix)
                compared[prefix] = mtime
                if not every and len(compared) == _AT_MOST:
                    break
        self._compared |= compared
        return found, compared


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _differences(place: Place, catalogue: Catalogue, prefix: str) -> set[str]:
    listed = {digest_of(name): name for name in place.shards.list_directory(prefix)}
    known = catalogue.known(prefix)
    names = {name for digest, name in listed.items() if digest not in known}
    for digest in known - listed.keys():
        name = catalogue.name(digest)
        if name is not None:
            names.add(name)
    return names
