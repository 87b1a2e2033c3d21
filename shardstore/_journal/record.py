"""One line of a journal: made here, checked and read here (docs/format.md has it byte for byte).

    {"crc":"9f1c2a3b","rev":1,"at":1763800000123,"by":"4711","durable":true,"id":"6b0c…","key":"…","put":{…}}

`crc` is the CRC-32 of every byte after `{"crc":"9f1c2a3b",` up to and including the closing brace.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple
from zlib import crc32

from shardstore import _codec as codec

PREFIX = b'{"crc":"'
BODY = len(b'{"crc":"9f1c2a3b",')


class Record(NamedTuple):
    """What a whole line says. Exactly one of `put`, `set`/`unset` and `delete` is given."""

    rev: int
    at: int  # milliseconds since the epoch; never less than the record before it
    by: str
    durable: bool
    id: str | None  # names the incarnation; given where a journal or an incarnation begins
    key: str | None
    created: int | None  # given where a rewritten journal begins
    put: dict[str, Any] | None
    set: dict[str, Any] | None
    unset: list[str] | None
    delete: bool


def line(rev: int, at: int, by: str, body: bytes, *, durable: bool) -> bytes:
    """Make a whole line, newline included. `body` is what stands after `by` and `durable`, without the last brace."""
    flag = b'"durable":true,' if durable else b""
    rest = b'"rev":%d,"at":%d,"by":%b,%b%b}' % (rev, at, _quoted(by), flag, body)
    return b'{"crc":"%08x",%b\n' % (crc32(rest), rest)


_quoted = lru_cache(maxsize=256)(codec.dumps)  # an actor writes its name again and again


def head(incarnation: str, key: str, created: int | None = None) -> bytes:
    """Make the start of the body that begins a journal or an incarnation; a `put_body` follows."""
    since = b"" if created is None else b'"created":%d,' % created
    return b'"id":"%b","key":%b,%b' % (incarnation.encode(), codec.dumps(key), since)


def put_body(fields: dict[str, bytes]) -> bytes:
    """Make the body that gives a whole entry."""
    return b'"put":' + codec.join(fields)


def change_body(changed: dict[str, bytes], removed: list[str]) -> bytes:
    """Make the body that gives top-level fields new values and takes others away; one of both is not empty."""
    if not removed:
        return b'"set":' + codec.join(changed)
    unset = b'"unset":' + codec.dumps(removed)
    return b'"set":' + codec.join(changed) + b"," + unset if changed else unset


DELETE_BODY = b'"delete":true'


def intact(text: bytes) -> bool:
    """Tell whether a line, given without its newline, is exactly what its writer wrote."""
    return text[:BODY] == b'{"crc":"%08x",' % crc32(text[BODY:])


def parse(text: bytes) -> Record | str:
    """Read a line, given without its newline; return what is wrong with it instead where it is not a record."""
    if not intact(text):
        return "the checksum does not match"
    try:
        given = codec.loads(text)
    except codec.JSONDecodeError as error:
        return f"not JSON behind a right checksum: {error}"
    get = given.get
    record = Record(
        get("rev"), get("at"), get("by"), get("durable", False), get("id"), get("key"), get("created"),
        get("put"), get("set"), get("unset"), get("delete", False),
    )  # fmt: skip
    return record if _well_formed(record) else "not a record behind a right checksum"


def _well_formed(r: Record) -> bool:
    """Check types and combinations: a right checksum proves who wrote a line, not that it makes sense."""
    changes = r.set is not None or r.unset is not None
    return (
        type(r.rev) is int
        and r.rev > 0
        and type(r.at) is int
        and r.at >= 0
        and type(r.by) is str
        and type(r.durable) is bool
        and (type(r.put) is dict) + changes + (r.delete is True) == 1
        and (r.put is None or type(r.put) is dict)
        and (r.set is None or type(r.set) is dict)
        and (r.unset is None or (type(r.unset) is list and all(type(name) is str for name in r.unset)))
        and (r.id is None) == (r.key is None)
        and (r.id is None or (type(r.id) is str and type(r.key) is str and r.put is not None))
        and (r.created is None or type(r.created) is int)
    )
