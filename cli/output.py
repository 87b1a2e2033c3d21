"""Where results go: data to stdout as text or JSON, messages to stderr.

A width is known when stdout is a terminal or COLUMNS is set. With one, rich folds tables into it, and below
`STACK_BELOW` columns every row becomes a few lines. Without one (a pipe, a file) every row is one line, however long,
so that grep and cut work. Keys are folded, never cut.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import exits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCHEMA_VERSION = 1
STACK_BELOW = 60  # columns; a folded key in a narrower table is a ribbon
RICH_ROWS_MAX = 1000  # rich lays out about 3,000 rows a second


@dataclass(frozen=True)
class Column:
    """A column of a table; `fold` may be broken over lines, the others keep their width.

    `lead` is what a row is about: where rows are stacked it stands in front, whole.
    """

    title: str
    right: bool = False
    fold: bool = False
    lead: bool = False


def line(text: str = "") -> None:
    """Print one line of data."""
    _write(f"{text}\n".encode("utf-8" if _utf8() else sys.stdout.encoding, "backslashreplace"))


def message(text: str) -> None:
    """Tell the person something that is not data."""
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def json_object(fields: dict[str, Any]) -> None:
    """Print one JSON object, indented, with the schema version in front."""
    json_value({"schema_version": SCHEMA_VERSION, **fields})


def json_value(value: Any) -> None:
    """Print a JSON value, indented, as UTF-8 whatever the locale says."""
    _write(json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n")


def json_rows(name: str, rows: Iterable[dict[str, Any]], **fields: Any) -> None:
    """Print an object whose field `name` holds the rows, one row a line: fast, and fit for line tools."""
    from shardstore._codec import dumps

    head = dumps({"schema_version": SCHEMA_VERSION, **fields})[:-1] + f',"{name}":['.encode()
    lines = [dumps(row) for row in rows]
    _write(head + (b"\n" + b",\n".join(lines) + b"\n" if lines else b"") + b"]}\n")


def json_line(fields: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    from shardstore._codec import dumps

    _write(dumps({"schema_version": SCHEMA_VERSION, **fields}) + b"\n")


def _write(data: bytes) -> None:
    """Write to stdout; leave quietly when nobody reads any more."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        reader_left()


def reader_left() -> None:
    """Leave as a filter does whose reader closed the pipe (`| head`): no message."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
    raise SystemExit(exits.PIPE_CLOSED)


def _utf8() -> bool:
    return sys.stdout.encoding.lower().replace("-", "") == "utf8"


def width() -> int | None:
    """Give the columns there are, or None where nothing limits a line."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under their titles, in the shape that the width allows."""
    columns_there_are = width()
    if columns_there_are is None or len(rows) > RICH_ROWS_MAX:
        _aligned(columns, rows)
    elif columns_there_are < STACK_BELOW:
        _stacked(columns, rows, columns_there_are)
    else:
        _rich(columns, rows, columns_there_are)


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print one line a row, padded to the widest cell."""
    titles = [column.title.upper() for column in columns]
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]
    pad = [str.rjust if column.right else str.ljust for column in columns]
    text = [
        "  ".join(f(cell, w) for f, cell, w in zip(pad, row, widths, strict=True)).rstrip() for row in (titles, *rows)
    ]
    line("\n".join(text))


def _stacked(columns: Sequence[Column], rows: Sequence[Sequence[str]], limit: int) -> None:
    """Print a row as a paragraph: what it is about, whole, then the rest with the titles."""
    for row in rows:
        cells = [(column, cell) for column, cell in zip(columns, row, strict=True) if cell]
        cells.sort(key=lambda pair: not pair[0].lead)
        (first, lead), *rest = cells
        line(f"{first.title} {lead}" if first.right else lead)
        words = ", ".join(f"{column.title} {cell}" for column, cell in rest)
        line(_wrapped(words, limit, first="  ", indent="  "))


def _wrapped(text: str, limit: int, *, first: str, indent: str) -> str:
    """Wrap between words only: a key or a path that is broken cannot be copied."""
    import textwrap

    return textwrap.fill(
        text,
        max(20, limit),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _rich(columns: Sequence[Column], rows: Sequence[Sequence[str]], limit: int) -> None:
    """Print a table that rich fits into the columns there are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold" if _styled() else "")
    for column in columns:
        grid.add_column(
            column.title.upper(),
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.fold,
        )
    for row in rows:
        grid.add_row(*map(Text, row))  # Text: a key like "[red]" or ":key:" is not markup
    console = Console(width=limit, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(grid)
    line("\n".join(text.rstrip() for text in captured.get().splitlines()))


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Print `name  value` lines, the values under one another."""
    indent = max(len(name) for name, _ in rows) + 2
    limit = width()
    for name, value in rows:
        text = f"{name:<{indent}}{value}"
        line(text if limit is None or len(text) <= limit else _hanging(f"{name:<{indent}}", value, limit))


def _hanging(name: str, value: str, limit: int) -> str:
    """Wrap a value beside its name; one that cannot be wrapped starts on the same line all the same."""
    return _wrapped(value, limit, first=name, indent=" " * len(name)) if " " in value else f"{name}{value}"


def heading(text: str) -> None:
    """Print the title of a section after an empty line; bold where a terminal shows it."""
    line(f"\n\033[1m{text}\033[0m" if _styled() else f"\n{text}")


def _styled() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
