"""The lines of a log file, written and checked here (docs/internals/format.md has them byte for byte).

    {"crc":"9f1c2a3b","n":12,"id":"u1","at":1763800000123456,"by":"4711","item":{…}}

`crc` is the CRC-32 of the file's id, as in its name, and of every byte after `{"crc":"9f1c2a3b",` up to and including
the closing brace. So the lines of another file are no lines of this one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from shardstore import _codec as codec
from shardstore._log import Item

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BODY: Final = len(b'{"crc":"9f1c2a3b",')
_NUMBER: Final = re.compile(rb'"n":(0|[1-9][0-9]{0,15}),')
_HEAD: Final = re.compile(
    rb'"n":(0|[1-9][0-9]{0,15}),(?:"id":("(?:[^"\\]|\\.)*"),)?"at":([1-9][0-9]{0,17}),"by":("(?:[^"\\]|\\.)*"),"item":'
)
_ID: Final = re.compile(rb'"n":([0-9]{1,16}),"id":("(?:[^"\\]|\\.)*"),')
_START: Final = re.compile(rb'(?=\{"crc":"[0-9a-f]{8}","n":)')

_quoted = lru_cache(maxsize=256)(codec.kept)
_actor = lru_cache(maxsize=256)(codec.loads)
_BEGINNING: Final = b'{"crc":"%08x",'


def encode_lines(file_id: str, first: int, items: Iterable[Item]) -> Iterator[bytes]:
    """Yield the line of each item, newline included; `first` is the number of the first one."""
    seed = crc32(file_id.encode())
    for number, item in enumerate(items, first):
        name = b"" if item.id is None else b'"id":%b,' % codec.dumps(item.id)
        rest = b'"n":%d,%b"at":%d,"by":%b,"item":%b}' % (number, name, item.at, _quoted(item.actor), item.raw)
        yield b'{"crc":"%08x",%b\n' % (crc32(rest, seed), rest)


def seed_of(file_id: str) -> int:
    """Return what the checksums of a file's lines begin with."""
    return crc32(file_id.encode())


def is_intact(text: bytes, seed: int) -> bool:
    """Return whether a line, given without its newline, is what a writer of this file wrote."""
    return text[:BODY] == _BEGINNING % crc32(text[BODY:], seed)


def are_intact(lines: list[bytes], seed: int) -> bool:
    """Return whether `is_intact` is true of each line: one comparison for all, since whole logs are read by it."""
    checksums = tuple([crc32(text[BODY:], seed) for text in lines])
    return b"".join([text[:BODY] for text in lines]) == _BEGINNING * len(lines) % checksums


def number_of(text: bytes) -> int | None:
    """Return the number that a line, or its beginning, claims; None where it claims none."""
    match = _NUMBER.match(text, BODY)
    return None if match is None else int(match[1])


def parse_line(text: bytes, seed: int) -> tuple[int, Item] | None:
    """Return number and item of a line, given without its newline; None where it is not intact."""
    if not is_intact(text, seed):
        return None
    head = _HEAD.match(text, BODY)
    if head is None:
        return None
    number, name, at, by = head.groups()
    return int(number), Item(text[head.end() : -1], None if name is None else codec.loads(name), int(at), _actor(by))


def items_of(lines: list[bytes], first: int, seed: int) -> list[Item] | None:
    """Return the items of consecutive lines, of which the first has this number; None where one is not intact."""
    found = []
    for number, text in enumerate(lines, first):
        parsed = parse_line(text, seed)
        if parsed is None or parsed[0] != number:
            return None
        found.append(parsed[1])
    return found


def values_of(lines: list[bytes], first: int, seed: int) -> list[Any] | None:
    """Return the same items as values, decoded in one call: a third of the price."""
    if not are_intact(lines, seed):
        return None
    try:
        found = codec.loads(b"[%b]" % b",".join(lines))
        numbers, values = [line["n"] for line in found], [line["item"] for line in found]
    except (codec.JSONDecodeError, KeyError):  # behind a right checksum: no writer of this format
        return None
    return values if numbers == [*range(first, first + len(lines))] else None


def ids_in(data: bytes, seed: int) -> tuple[list[tuple[str, int]], bytes | None]:
    """Return (id, number) of each whole line whose item has an id; or the first line that is not intact.

    In one loop: the first use of ids reads a whole log through it.
    """
    lines = data.split(b"\n")[:-1]
    if not are_intact(lines, seed):
        return [], next(text for text in lines if not is_intact(text, seed))
    found: list[tuple[str, int]] = []
    match = _ID.match
    for text in lines:
        head = match(text, BODY)
        if head is not None:
            number, name = head.groups()
            found.append((codec.loads(name) if b"\\" in name else name[1:-1].decode(), int(number)))
    return found, None


def whole_lines(data: bytes, seed: int) -> Iterator[tuple[int, int, Item]]:
    """Yield (offset, number, item) of every intact line, whatever stands between them: for salvage."""
    place = 0
    for line in data.split(b"\n"):
        found = parse_line(line, seed)
        if found is not None:
            yield place, *found
        elif len(starts := [match.start() for match in _START.finditer(line)]) > 1:  # a newline was changed
            for start, stop in zip(starts, [*starts[1:], len(line) + 1], strict=True):
                found = parse_line(line[start : stop - 1], seed)
                if found is not None:
                    yield place + start, *found
        place += len(line) + 1
