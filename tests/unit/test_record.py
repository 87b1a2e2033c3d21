"""One journal line: made as the format says, and believed only when every byte of it is as it was written."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardstore import _codec as codec
from shardstore._journal import record
from tests.inputs.strategies import entries, same
from tests.support import disk

LINE = record.line(3, 1_763_800_000_789, "4711", b'"set":{"totalTokens":5},"unset":["x"]', durable=True)


def test_a_line_is_what_the_format_says() -> None:
    """crc first, over every byte after it up to and including the closing brace; then rev, at, by, durable, change."""
    assert LINE.endswith(b"\n")
    text = LINE.decode()
    rest = text[len('{"crc":"00000000",') : -1]
    assert text.startswith(f'{{"crc":"{zlib.crc32(rest.encode()):08x}",')
    assert list(json.loads(text)) == ["crc", "rev", "at", "by", "durable", "set", "unset"]


def test_the_store_and_the_description_make_the_same_line() -> None:
    """The tests' own writer, made from the description, gives the same bytes."""
    rest: dict[str, Any] = {
        "rev": 3,
        "at": 1_763_800_000_789,
        "by": "4711",
        "durable": True,
        "set": {"totalTokens": 5},
        "unset": ["x"],
    }
    assert disk.line(rest) == LINE


@settings(deadline=None)
@given(
    entry=entries,
    rev=st.integers(1, 2**53),
    at=st.integers(0, 2**53),
    by=st.text(st.characters(exclude_categories=["Cs"])),
    durable=st.booleans(),
)
def test_a_record_comes_back(entry: dict[str, Any], rev: int, at: int, by: str, durable: bool) -> None:
    """What a line was made of is what it is parsed into, for any entry and actor, always as one line."""
    body = record.head("0" * 24, "a key \n") + record.put_body(codec.encode_entry(entry))
    line = record.line(rev, at, by, body, durable=durable)
    assert line.count(b"\n") == 1
    parsed = record.parse(line[:-1])
    assert isinstance(parsed, record.Record)
    assert (parsed.rev, parsed.at, parsed.by, parsed.durable, parsed.id, parsed.key) == (
        rev,
        at,
        by,
        durable,
        "0" * 24,
        "a key \n",
    )
    assert same(parsed.put, entry)
    assert parsed.set is None
    assert parsed.unset is None
    assert parsed.delete is False
    assert json.loads(line) == {
        "crc": line[8:16].decode(),
        **({"durable": True} if durable else {}),
        "rev": rev,
        "at": at,
        "by": by,
        "id": "0" * 24,
        "key": "a key \n",
        "put": entry,
    }


def test_no_changed_bit_is_believed() -> None:
    """Of all single-bit changes of a line, none is taken for a whole line."""
    text = LINE[:-1]
    assert record.intact(text)
    for place in range(len(text)):
        for bit in range(8):
            changed = bytearray(text)
            changed[place] ^= 1 << bit
            assert not record.intact(bytes(changed)), f"byte {place}, bit {bit}"


def test_no_part_of_a_line_is_believed() -> None:
    """No prefix, suffix or extension of a line is a whole line."""
    text = LINE[:-1]
    for length in range(len(text)):
        assert not record.intact(text[:length])
        assert not record.intact(text[length + 1 :])
    assert not record.intact(text + b" ")
    assert not record.intact(b" " + text)
    assert not record.intact(text + b"\r")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'"put":[]',
        b'"put":null',
        b'"set":[]',
        b'"unset":{}',
        b'"unset":[1]',
        b'"delete":false',
        b'"delete":1',
        b'"put":{},"set":{}',
        b'"put":{},"delete":true',
        b'"set":{},"delete":true',
        b'"key":"k","put":{}',
        b'"id":"i","put":{}',
        b'"id":"i","key":"k"',
        b'"id":"i","key":"k","set":{}',
        b'"id":1,"key":"k","put":{}',
        b'"id":"i","key":1,"put":{}',
        b'"put":{}}{',
    ],
)
def test_a_right_checksum_does_not_make_a_record(body: bytes) -> None:
    """A line that its writer meant, but that is no record, is described and not returned."""
    line = record.line(1, 1, "x", body, durable=False)
    assert record.intact(line[:-1])
    assert isinstance(record.parse(line[:-1]), str)
