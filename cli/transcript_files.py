"""The files of a transcript: which names it may have, and which ids its items get.

An item's id is the text `id` in it, else its line's number. Ids that were given otherwise stand in a file of their own,
whose name is the transcript's and `.ids`; the transcript itself stays as its program knows it:

    {"n":3,"crc":"9f1c2a3b","id":"u1"}     the item in line 3, whose text has this CRC-32, has the id u1
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from shardstore import _codec as codec
from shardstore._draft_log import check_id
from shardstore._files.layout import shard_name
from shardstore.errors import InvalidEntry, InvalidKey

from . import show
from .exits import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IDS: Final = ".ids"
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_OWN_MAX: Final = 1000  # characters of an id that an item holds; a longer text is hardly one


def names(key: str, entry: dict[str, Any]) -> list[str]:
    """Return the names that a session's transcript may have: an export writes the first, an import tries each.

    A name that leads out of the directory is left out.
    """
    file, own = entry.get("sessionFile"), entry.get("sessionId")
    given = [os.path.basename(file)] if isinstance(file, str) else []
    given += [f"{own}.jsonl"] if isinstance(own, str) else []
    safe = [name for name in given if _SAFE.fullmatch(name) and not name.endswith(IDS) and name != "sessions.json"]
    try:
        return [*safe, shard_name(key).partition("/")[2]]
    except InvalidKey:  # no session has such a key
        return safe


def own_id(value: Any) -> str | None:
    """Return the id that an item holds, if that can be one."""
    found = value.get("id") if isinstance(value, dict) else None
    if not isinstance(found, str) or len(found) > _OWN_MAX:
        return None
    try:
        check_id(found)
    except InvalidEntry:
        return None
    return found


def ids_of(own: Sequence[str | None], numbers: Sequence[int], given: Sequence[str | None]) -> list[str]:
    """Return an id for each item: the given one, its own, or its line's number; no two are equal.

    Where two items hold one id, the later ones get `#2`, `#3` ...: each is kept. Lines that are added later change
    none of them.
    """
    taken, counts = {name for name in given if name is not None}, dict[str, int]()
    found: list[str] = []
    for mine, number, named in zip(own, numbers, given, strict=True):
        if named is not None:
            found.append(named)
            continue
        base = name = f"line:{number}" if mine is None else mine
        while name in taken:
            counts[base] = counts.get(base, 1) + 1
            name = f"{base}#{counts[base]}"
        taken.add(name)
        found.append(name)
    return found


def checksum(text: bytes) -> str:
    """Return what the file of ids knows a line by."""
    return f"{crc32(text.strip()):08x}"


def given_ids(path: Path) -> dict[tuple[int, str], str]:
    """Return the ids beside a transcript, by line number and checksum. Raises CommandError for a damaged file."""
    beside = path.with_name(path.name + IDS)
    try:
        data = beside.read_bytes() if beside.is_file() and not beside.is_symlink() else b""
    except OSError as error:
        raise CommandError(f"cannot read {show.text(os.fspath(beside))}: {error.strerror}") from None
    found: dict[tuple[int, str], str] = {}
    for number, text in enumerate(data.split(b"\n"), 1):
        if text.strip():
            try:
                given = codec.loads(text)
                check_id(given["id"])
                found[int(given["n"]), str(given["crc"])] = given["id"]
            except (ValueError, KeyError, TypeError, InvalidEntry):
                hint = "put the file back, or remove it to import the items under other ids; nothing was imported"
                raise CommandError(f"{show.text(os.fspath(beside))}, line {number}: no id of an item", hint) from None
    return found


def ids_line(number: int, crc: str, name: str) -> bytes:
    """Return the line that keeps an item's id."""
    return codec.dumps({"n": number, "crc": crc, "id": name}) + b"\n"
