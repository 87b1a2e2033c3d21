"""Telling how far a reading of every directory has got."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

Progress = Callable[[int, int], None]  # (done, total)


class _Counted(Sized, Iterable[T_co], Protocol[T_co]):
    """What has a length and can be gone through."""


def told(items: _Counted[T], progress: Progress | None) -> Iterator[T]:
    """Yield each item, saying before it how many are done, and after the last one that all are."""
    for done, item in enumerate(items):
        if progress is not None:
            progress(done, len(items))
        yield item
    if progress is not None:
        progress(len(items), len(items))
