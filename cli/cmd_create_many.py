"""`shardstore create-many`: create sessions from lines of JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from . import exits, output, parse, progress, show
from .options import plain_app
from .writing import Writing, writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

app = plain_app()
_AGAIN = "each session is created whole or not at all; run it again with --skip-existing for the rest"


@app.command("create-many")
@writes
def create_many(
    to: Writing,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file of JSON lines; - is stdin.")] = "-",
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave sessions alone that exist; do not count them.")
    ] = False,
) -> None:
    """Create sessions from lines of JSON.

    A line is {"key": "agent:main", "data": {"status": "done"}}. Other names are ignored, so it takes the lines that
    `get-many` prints. Every line is checked first. It stops at a session that exists, with exit code 4, unless you pass
    --skip-existing.

    The sessions share their syncs, so it is much faster than a `set` for each.
    """
    from shardstore import SessionExists

    rows = _rows(_read(path))
    if not rows:  # the command in front of the pipe failed: no store is made of that
        return _report(0, 0, as_json=to.json)
    try:
        with to.open(create=True) as opened, progress.bar("Creating", _AGAIN) as shown:
            count = opened.create_many(_shown(rows, shown), on_exists="skip" if skip_existing else "raise")
    except SessionExists as error:
        before = [key for key, _ in rows].index(error.key)
        message = f"session {show.quoted(error.key)} exists already; {show.count(before, 'session')} created before it"
        raise exits.CommandError(message, "--skip-existing leaves such sessions alone", code=exits.CONFLICT) from error
    return _report(count, len(rows) - count, as_json=to.json)


def _report(created: int, existing: int, *, as_json: bool) -> None:
    if as_json:
        return output.json_object({"created": created, "existing": existing})
    there = f"; {show.count(existing, 'session')} existed already" if existing else ""
    return output.message(f"{show.count(created, 'session')} created{there}")


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise exits.CommandError(f"{show.text(path)} cannot be read: {error.strerror}") from error


def _rows(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Parse the lines. Raises CommandError: nothing was created."""
    rows: dict[str, dict[str, Any]] = {}
    for number, text in parse.lines(data):
        key, entry = _row(text, number)
        if key in rows:
            _refuse(number, f"the key {show.quoted(key)} comes a second time")
        rows[key] = entry
    return list(rows.items())


def _row(text: str, number: int) -> tuple[str, dict[str, Any]]:
    """Parse one line, and check that the store can hold its entry."""
    from shardstore import InvalidEntry, InvalidKey, _codec, _keys
    from shardstore._journal.record import entry_bytes

    try:
        row = parse.strict_json(text)
    except ValueError as error:
        _refuse(number, f"not JSON: {error}")
    key, entry = (row.get("key"), row.get("data")) if isinstance(row, dict) else (None, None)
    if not isinstance(key, str) or not isinstance(entry, dict):
        _refuse(number, 'a line is {"key": "agent:main", "data": {"status": "done"}}')
    try:
        _keys.check_key(key)
        size = entry_bytes(_codec.encode_entry(entry))
    except (InvalidKey, InvalidEntry) as error:
        _refuse(number, show.text(str(error)))
    if size > _codec.ENTRY_BYTES_MAX:
        _refuse(number, f"{size:,} bytes of JSON; at most {_codec.ENTRY_BYTES_MAX:,} are allowed")
    return key, entry


def _refuse(number: int, reason: str) -> NoReturn:
    raise exits.CommandError(f"line {number}: {reason}", "nothing was created; mend the line and run it again")


def _shown(rows: list[tuple[str, dict[str, Any]]], shown: Callable[[int, int], None]) -> Iterator[Any]:
    for done, row in enumerate(rows):
        shown(done, len(rows))
        yield row
