"""Telling a torn tail from damage: bytes behind the last record of a journal that are no record themselves.

A torn tail is a commit that a death or a power cut left unfinished: it was never acknowledged, and is stepped over.
Damage is everything else. docs/internals/format.md has the table.
"""

from __future__ import annotations

import re
from zlib import crc32

from shardstore._journal import record

_LINE = re.compile(rb"^[^\n]+\n", re.MULTILINE)  # anchored: a search may not begin again at every byte
SECTOR = 512  # bytes that a disk writes whole or not at all


def classify_tail(tail: bytes, offset: int, *, first: bool) -> str | None:  # noqa: PLR0911  # one return a judgement
    """Classify bytes at `offset` that are no record: None for a torn tail, else the damage ("": what the reader found).

    `first`: no record stands before them in the file.

    Damage in front of a record that was committed durably is never a torn write, since every byte before such a record
    was on the disk when it was written. In front of a relaxed one it is, if whole sectors are missing: that is how
    a power cut leaves appends which reached the disk out of order. With no whole record behind it, it is the commit
    that was under way, except where the journal would then be empty and nothing but a changed byte explains it.
    """
    behind = _first_whole(tail)
    if behind is not None:
        start, durable = behind
        if durable:
            return "" if start == 0 else "damage in front of a durable record"
        return None if _sector_missing(tail, offset, start) else "damage in front of a whole record"
    # A power cut may lose the first bytes of a record, up to the end of a sector, and cut off the record behind it.
    if _newline_changed(tail) and not _sector_missing(tail, offset, record.BODY):
        return "the newline behind a record was changed"
    if not first:
        return None
    if not tail.startswith(record.PREFIX[: len(tail)]) and tail[:SECTOR].strip(b"\n\0"):
        return "it does not begin as a journal does"
    if not tail.endswith(b"\n"):
        changed = tail[-1:] != b"\0" and record.is_intact(tail[:-1])  # a torn write leaves less than a line, never more
        return "the newline behind a record was changed" if changed else None
    text = tail.rstrip(b"\n")
    cut_at_sector = (offset + len(text)) % SECTOR == 0 and not text.endswith(b"}")
    return None if cut_at_sector or _sector_missing(text, offset, len(text)) else ""


def _first_whole(tail: bytes) -> tuple[int, bool] | None:
    """Find the first intact, finished record; return its start, and whether it or a later one was committed durably."""
    first = None
    for line in _LINE.finditer(tail):
        text = line[0][:-1].lstrip(b"\0")  # a block that never reached the disk reads as zeros
        start = line.end() - 1 - len(text)
        if record.is_intact(text) or (text.endswith(b"\r") and record.is_intact(text := text.rstrip(b"\r"))):
            first = start if first is None else first
            found = record.parse(text)
            if not isinstance(found, str) and found.get("durable"):
                return first, True
    return None if first is None else (first, False)


def _newline_changed(tail: bytes) -> bool:
    """Return whether the tail begins with an intact record and another one follows it, without a newline between."""
    claimed, crc, done = tail[len(record.PREFIX) : record.BODY - 2], 0, record.BODY
    start = tail.find(record.PREFIX, record.BODY + 1)
    while start > 0:  # one pass, however often an entry holds what looks like the start of a record
        crc, done = crc32(tail[done : start - 1], crc), start - 1
        if claimed == b"%08x" % crc:
            return True
        start = tail.find(record.PREFIX, start + 1)
    return False


def _sector_missing(tail: bytes, offset: int, stop: int) -> bool:
    """Return whether a sector of tail[:stop] was never written: it holds zeros and preallocated newlines alone.

    `offset` is the place of tail[0] in the file. A sector that reaches past `stop` is known to be written.
    """
    start = 0
    while start < stop:
        end = start + SECTOR - (offset + start) % SECTOR
        if end > stop:
            return False
        if not tail[start:end].strip(b"\n\0"):
            return True
        start = end
    return False
