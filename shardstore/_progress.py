"""Counting how far a long call has got."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

Progress = Callable[[int, int], None]  # (done, total)


def track(items: Sequence[T], progress: Progress | None) -> Iterator[T]:
    """Yield each item; report before it how many are done, and after the last one that all are."""
    for done, item in enumerate(items):
        if progress is not None:
            progress(done, len(items))
        yield item
    if progress is not None:
        progress(len(items), len(items))
