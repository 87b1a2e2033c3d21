"""Tidying index/ up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from shardstore._files.index import generation
from shardstore._files.index.catalogue import Catalogue, CatalogueError, seal_of
from shardstore._files.index.look import IndexLock, Look, Unusable
from shardstore._files.index.rebuild import sweep

if TYPE_CHECKING:
    from shardstore._files.index.look import Place

_WORTH_IT: Final = 0.25  # share of the catalogue that is unused


def vacuum(place: Place) -> int:
    """Do what Index.vacuum says; nothing where somebody refreshes, or without the right to write."""
    before = _size(place.directory)
    try:
        lock = IndexLock.take(place)
    except OSError:
        return 0
    if lock is None:
        return 0
    with lock:
        try:
            with Look(place, lock.fd, owned=False) as look:
                sweep(place.directory, look.epoch, look.seal.base)
                _shrink(place, look, lock.fd)
        except (Unusable, CatalogueError, OSError):
            pass  # the next list makes it anew
    return max(0, before - _size(place.directory))


def _shrink(place: Place, look: Look, fd: int) -> None:
    """Write the catalogue anew without its unused pages. REQUIRES: the index lock."""
    catalogue = Catalogue(place.directory, look.epoch, mode="rw")
    try:
        if catalogue.slack() < _WORTH_IT:
            return
        generation.break_seal(fd)
        catalogue.vacuum()
    finally:
        catalogue.close()
    generation.write_seal(fd, seal_of(catalogue.path, look.seal.base), look.epoch)


def _size(directory: str) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return 0
