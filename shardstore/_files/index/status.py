"""How the index is doing, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore._files.index.look import Look, Moved, Unusable
from shardstore._files.layout import SHARDS

if TYPE_CHECKING:
    from shardstore._files.index.progress import Progress
    from shardstore._files.index.reader import Reader
    from shardstore._files.index.views import View

_LOOKS = 50  # while others refresh


def status(
    reader: Reader, *, refresh_first: bool, progress: Progress | None
) -> tuple[int, int, tuple[int, int, int], tuple[str, ...], str | None]:
    """Give generation (-1: the index is unusable), pending notes, totals, damaged shards, and why it was made anew."""

    def ask(view: View) -> tuple[tuple[int, int, int], list[str]]:
        return view.totals(), view.damaged()

    totals, damaged = reader.answer(ask, refresh_first=refresh_first, progress=progress)
    paths = tuple(f"{SHARDS}/{name}" for name in damaged)
    for _ in range(_LOOKS):
        try:
            with Look.open(reader.place) as look:
                return look.number, len(look.names()), totals, paths, reader.rebuilt_because
        except Moved:
            continue
        except Unusable as problem:
            return -1, 0, totals, paths, str(problem)
    return -1, 0, totals, paths, "it does not stand still"
