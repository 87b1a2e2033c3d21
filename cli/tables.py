"""Tables as text: aligned where they fit, words wrapped where a column may grow downwards, stacked where nothing fits.

No word is ever broken, and what a row is about (a key, a path) stays on one line: a person copies it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "
_FOLDED_MIN = 16  # columns; a narrower column of words is a ribbon
_WIDTH_MIN = 20
_WRAPPED_ROWS_MAX = 5000  # wrapping more would take longer than anybody reads


@dataclass(frozen=True)
class Column:
    """A column of a table; the words of a `fold` may go on several lines, all others stay on one.

    `lead` is what a row is about: where rows are stacked it stands in front.
    """

    title: str
    right: bool = False
    fold: bool = False
    lead: bool = False


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], limit: int | None, *, bold: bool = False) -> str:
    """Return a table as lines of at most `limit` columns; None: each row is one line, however long."""
    titles = [column.title.upper() for column in columns]
    widths = [max(map(cells, texts)) for texts in zip(titles, *rows, strict=True)]
    if limit is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > limit and len(rows) <= _WRAPPED_ROWS_MAX:
        narrow = _narrowed(columns, rows, widths, limit)
        if narrow is None:
            return "\n".join(_stacked(columns, row, limit) for row in rows)
        widths = narrow
    head = _line(columns, titles, widths)
    body = [_line(columns, part, widths) for row in rows for part in _parts(columns, row, widths)]
    return "\n".join([f"\033[1m{head}\033[0m" if bold else head, *body])


def cells(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _narrowed(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: list[int], limit: int
) -> list[int] | None:
    """Return widths that fit: the widest column of words gives way first, down to its longest word. None: none fit."""
    narrow = list(widths)
    least = [_least(column, [row[n] for row in rows], widths[n]) for n, column in enumerate(columns)]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - limit
    while excess > 0:
        spare = [have - need for have, need in zip(narrow, least, strict=True)]
        widest = max(range(len(narrow)), key=lambda n: (spare[n] > 0, narrow[n]))
        if spare[widest] <= 0:
            return None
        narrow[widest] -= 1
        excess -= 1
    return narrow


def _least(column: Column, texts: Sequence[str], width: int) -> int:
    if not column.fold or column.lead:
        return width
    longest = max((cells(word) for text in texts for word in text.split(" ")), default=0)
    return min(width, max(_FOLDED_MIN, longest))


def _parts(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> list[list[str]]:
    """Return the lines of a row, cell by cell."""
    folded = [
        wrapped(text, width, "", "") if column.fold and not column.lead and cells(text) > width else [text]
        for column, text, width in zip(columns, row, widths, strict=True)
    ]
    return [[part[n] if n < len(part) else "" for part in folded] for n in range(max(map(len, folded)))]


def _line(columns: Sequence[Column], texts: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(map(_padded, columns, texts, widths)).rstrip()


def _padded(column: Column, text: str, width: int) -> str:
    room = " " * (width - cells(text))
    return room + text if column.right else text + room


def _stacked(columns: Sequence[Column], row: Sequence[str], limit: int) -> str:
    """Return a row as a paragraph: the lead column whole, then the rest with the titles."""
    shown = [(column, text) for column, text in zip(columns, row, strict=True) if text]
    shown.sort(key=lambda pair: not pair[0].lead)
    (first, lead), *rest = shown
    words = ", ".join(f"{column.title} {text}" for column, text in rest)
    return "\n".join([f"{first.title} {lead}" if first.right else lead, *wrapped(words, limit, "  ", "  ")])


def wrapped(text: str, limit: int, first: str, indent: str) -> list[str]:
    """Wrap text between words only, behind `first` on its first line and `indent` on the others."""
    import textwrap

    room = max(limit, _WIDTH_MIN if first or indent else 1)
    if " " not in text:
        return [first + text]
    return textwrap.wrap(
        text,
        room,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
