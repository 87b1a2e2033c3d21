"""How the index is doing, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore.index.look import Look, Moved, Unusable
from shardstore.layout import SHARDS

if TYPE_CHECKING:
    from shardstore.index.progress import Progress
    from shardstore.index.reader import Reader
    from shardstore.index.views import View

_LOOKS = 50  # while others refresh


def status(
    reader: Reader, *, refresh_first: bool, progress: Progress | None
) -> tuple[int, int, int, tuple[str, ...], str | None]:
    """Do what Index.status says."""

    def ask(view: View) -> tuple[int, list[str]]:
        return view.totals()[0], view.damaged()

    rows, damaged = reader.answer(ask, refresh_first=refresh_first, progress=progress)
    paths = tuple(f"{SHARDS}/{name}" for name in damaged)
    for _ in range(_LOOKS):
        try:
            with Look.open(reader.place) as look:
                return look.number, len(look.names()), rows, paths, reader.rebuilt_because
        except Moved:
            continue
        except Unusable as problem:
            return 0, 0, rows, paths, str(problem)
    return 0, 0, rows, paths, "it does not stand still"
