"""Where results go: data to stdout as text or JSON, messages to stderr.

A width is known when stdout is a terminal or COLUMNS is set; tables.py fits tables into it. Without one (a pipe, a
file) every row is one line, however long, so that grep and cut work.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from . import escape, exits, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCHEMA_VERSION = 1


def line(text: str = "") -> None:
    """Print one line of data."""
    _write(f"{text}\n".encode("utf-8" if _utf8() else sys.stdout.encoding, "backslashreplace"))


def new_page() -> None:
    """Begin a page: clear a terminal; elsewhere a line with the time stands in front of it."""
    if sys.stdout.isatty():
        _write(b"\x1b[H\x1b[2J")
    else:
        line(f"-- {datetime.now(UTC).strftime('%Y-%m-%d %H:%M:%S')}")


def message(text: str) -> None:
    """Print a line for a person on stderr: it is not data."""
    sys.stdout.flush()
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:  # a log on a full disk, a reader that left: what was done is done, and the exit code tells
        _write_nowhere(sys.stderr)


def json_message(fields: dict[str, Any]) -> None:
    """Print a line of JSON on stderr, for a program: it is not data."""
    message(escape.json_text(json.dumps({"schema_version": SCHEMA_VERSION, **fields}, ensure_ascii=False)))


def json_object(fields: dict[str, Any]) -> None:
    """Print one JSON object, indented, with the schema version in front."""
    json_value({"schema_version": SCHEMA_VERSION, **fields})


def json_value(value: Any) -> None:
    """Print a JSON value, indented, as UTF-8 whatever the locale says."""
    _write(escape.json_text(json.dumps(value, ensure_ascii=False, indent=2)).encode() + b"\n")


def json_rows(name: str, rows: Iterable[dict[str, Any]], **fields: Any) -> None:
    """Print an object whose field `name` holds the rows, one row a line: fast, and fit for line tools."""
    from shardstore._codec import dumps

    head = escape.json_bytes(dumps({"schema_version": SCHEMA_VERSION, **fields}))[:-1] + f',"{name}":['.encode()
    lines = [escape.json_bytes(dumps(row)) for row in rows]
    _write(head + (b"\n" + b",\n".join(lines) + b"\n" if lines else b"") + b"]}\n")


def json_line(fields: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    from shardstore._codec import dumps

    _write(escape.json_bytes(dumps({"schema_version": SCHEMA_VERSION, **fields})) + b"\n")


def _write(data: bytes) -> None:
    """Write to stdout; leave quietly when nobody reads any more."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        reader_left()
    except OSError as error:
        _write_nowhere(sys.stdout)
        raise exits.CommandError(f"the output cannot be written: {os.strerror(error.errno or 0)}") from error


def _write_nowhere(stream: TextIO) -> None:
    """Have what is left in a stream's buffer go nowhere, or Python complains when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def reader_left() -> None:
    """Leave as a filter does whose reader closed the pipe (`| head`): no message."""
    _write_nowhere(sys.stdout)
    raise SystemExit(exits.PIPE_CLOSED)


def _utf8() -> bool:
    return sys.stdout.encoding.lower().replace("-", "") == "utf8"


def width() -> int | None:
    """Return the columns there are, or None where nothing limits a line."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def table(columns: Sequence[tables.Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under their titles, in the shape that the width allows."""
    line(tables.lay_out(columns, rows, width(), bold=_styled()))


def pairs(rows: Sequence[tuple[str, str]], *, whole: Sequence[str] = ()) -> None:
    """Print `name  value` lines, the values under one another; those of the names in `whole` stay on one line."""
    indent = max(len(name) for name, _ in rows) + 2
    limit = width()
    for name, value in rows:
        start = f"{name:<{indent}}"
        fits = limit is None or name in whole or len(start) + len(value) <= limit
        line(start + value if fits else "\n".join(tables.wrapped(value, limit or 0, start, " " * indent)))


def heading(text: str) -> None:
    """Print the title of a section after an empty line; bold where a terminal shows it."""
    line(f"\n\033[1m{text}\033[0m" if _styled() else f"\n{text}")


def _styled() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
