"""The revisions that the index vouches for: what verify holds the shards against."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shardstore._files.index.catalogue import Catalogue, CatalogueError
from shardstore._files.index.look import Look, Moved, Unusable
from shardstore._files.layout import PREFIXES, shard_name

if TYPE_CHECKING:
    from shardstore._files.index import Index


class Believed(NamedTuple):
    """What a list would say of a session, without reading its shard."""

    key: str
    rev: int
    version: str


def believed(index: Index) -> dict[str, Believed]:
    """Return what the index holds of each session, by the name of its shard; nothing where it cannot be believed.

    A session that a writer marked as changed is left out: there the shard decides.
    """
    place = index._answers.place  # noqa: SLF001  # the one caller from outside that asks for rows as they are
    try:
        with Look.open(place) as look:
            catalogue = Catalogue(place.directory, look.epoch)
            try:
                rows = _rows(catalogue)
            finally:
                catalogue.close()
            changed = look.names()
            return {name: row for name, row in rows.items() if name not in changed} if look.stands() else {}
    except (Moved, Unusable, CatalogueError):
        return {}


def _rows(catalogue: Catalogue) -> dict[str, Believed]:
    rows = {}
    for prefix in PREFIXES:
        for digest in catalogue.known(prefix):
            row = catalogue.row(digest)
            if row is not None:
                rows[shard_name(row.key)] = Believed(row.key, row.rev, row.version)
    return rows
