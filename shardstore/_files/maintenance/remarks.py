"""Oddities of a readable journal: verify and inspect name them, so nothing is stepped over in silence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shardstore._files.file import read_file
from shardstore._model import DAY_US

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore._journal.replay import Journal

_SPACE: Final = b"\n"  # fills the preallocated space behind a journal
_COMMIT_S: Final = 0.05  # a tail that is still there after this is no commit under way


def remarks(path: str, journal: Journal, tail: bytes) -> Iterator[tuple[str, str]]:
    """Yield (kind, sentence) for each odd thing about the journal at `path`, read as given."""
    if tail and _stays(path, journal):
        size = _count(len(tail.rstrip(_SPACE)) or len(tail), "byte")
        where = f"after revision {journal.state.rev}" if journal.records else "at the start"
        yield (
            "torn",
            (
                f"{size} {where} are no whole record: a commit that was cut off, or a changed "
                "byte in the newest one; the next write keeps them in quarantine/"
            ),
        )
    ahead = journal.state.updated_at - time.time_ns() // 1000
    if ahead > DAY_US:
        yield (
            "future",
            (
                f"its last change lies {_count(ahead // DAY_US, 'day')} ahead of the clock: one clock is wrong; the "
                "next write brings it back to the present"
            ),
        )


def _stays(path: str, journal: Journal) -> bool:
    """Return whether the tail is still there when a commit under way would be finished."""
    time.sleep(_COMMIT_S)
    again, tail = read_file(path)
    return bool(tail) and again.end == journal.end


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
