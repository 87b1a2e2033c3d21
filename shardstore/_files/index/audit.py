"""Comparing the index with the shards, for verify. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shardstore._files.index.catalogue import Catalogue, CatalogueError
from shardstore._files.index.files import catalogue_name
from shardstore._files.index.look import Look, Moved, Unusable
from shardstore._files.index.progress import told
from shardstore._files.index.rows import Other, Row, digest_of
from shardstore._files.index.shards import Busy
from shardstore._files.layout import PREFIXES

if TYPE_CHECKING:
    from shardstore._files.index.look import Place
    from shardstore._files.index.progress import Progress

_LOOKS: Final = 5


def check(place: Place, progress: Progress | None = None) -> list[tuple[str, str]]:
    """Return (path relative to ROOT/index, what is wrong) for every row that a list would wrongly believe.

    An index that is missing, damaged or behind is no problem: it knows that it is, and is made anew or refreshed.
    """
    for _ in range(_LOOKS):
        try:
            with Look.open(place) as look:
                return _checked(place, look, progress)
        except Moved:
            continue
        except Unusable:
            return []
    return []


def _checked(place: Place, look: Look, progress: Progress | None) -> list[tuple[str, str]]:
    """Compare every directory through one connection. Raises Moved, Unusable."""
    try:
        catalogue = Catalogue(place.directory, look.epoch)
    except CatalogueError as error:
        raise Unusable(str(error)) from None
    try:
        return _Audit(place, look, catalogue).run(progress)
    except CatalogueError as error:
        if not look.stands():
            raise Moved from None
        raise Unusable(str(error)) from None
    finally:
        catalogue.close()


class _Audit:
    def __init__(self, place: Place, look: Look, catalogue: Catalogue) -> None:
        self.place = place
        self.look = look
        self.catalogue = catalogue
        self.noted = look.names()
        self.path = catalogue_name(look.epoch)

    def run(self, progress: Progress | None) -> list[tuple[str, str]]:
        problems: list[tuple[str, str]] = []
        for prefix in told(PREFIXES, progress):
            problems += self._directory(prefix)
        return problems

    def _directory(self, prefix: str) -> list[tuple[str, str]]:
        """Compare one directory. Raises Moved, Unusable."""
        told = self._told(prefix)
        listed = self.place.shards.list_shards(prefix)
        names = {digest_of(name): name for name in [*listed, *(name for name, _ in told.values())]}
        wrong = {name: what for digest, name in names.items() if (what := self._compare(name, told.get(digest)))}
        if wrong:
            # What was noted or published while we looked is no mistake.
            if not self.look.stands():
                raise Moved
            self.noted |= self._noted_now()
        return [(self.path, what) for name, what in sorted(wrong.items()) if name not in self.noted]

    def _told(self, prefix: str) -> dict[bytes, tuple[str, Row | None]]:
        """Give what the catalogue says of a directory: name and row by digest; no row for what is no session."""
        known = self.catalogue.known(prefix)
        return {digest: (self.catalogue.name(digest) or "", self.catalogue.row(digest)) for digest in known}

    def _noted_now(self) -> set[str]:
        with Look.open(self.place) as now:
            return now.names()

    def _compare(self, name: str, told: tuple[str, Row | None] | None) -> str | None:
        """Say how a shard differs from its row; None where it does not."""
        if name in self.noted:
            return None
        found = self.place.shards.read(name)
        row = None if told is None else told[1]
        if isinstance(found, Busy):
            return None
        if isinstance(found, Other):
            return None if row is None else f"{row.key!r} is listed at revision {row.rev}; its shard is {found.kind}"
        if row is None:
            return f"{found.key!r} is not listed; its shard is at revision {found.rev}"
        if found._replace(end=row.end) == row:
            return None  # a journal that maintenance shortened is no other session
        return f"{row.key!r} is listed as of revision {row.rev}; its shard is at revision {found.rev}"
