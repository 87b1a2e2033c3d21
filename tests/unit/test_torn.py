"""What stands behind the last record: a torn tail, which is stepped over, or damage. docs/internals/format.md has the table."""

from __future__ import annotations

from typing import Any

import pytest

from shardstore._journal import torn
from tests.support import disk

SECTOR = 512


def record(rev: int, *, durable: bool = False, **rest: Any) -> bytes:
    """Make a line of a journal."""
    return disk.line(
        {"rev": rev, "at": 5, "by": "me", **({"durable": True} if durable else {}), **(rest or {"set": {"n": rev}})}
    )


def of_length(length: int, *, durable: bool = False) -> bytes:
    """Make a line of exactly so many bytes, its newline included."""
    empty = len(record(2, durable=durable, set={"x": ""}))
    return record(2, durable=durable, set={"x": "y" * (length - empty)})


LOST = of_length(2 * SECTOR)  # two whole sectors


def gap(start: int, fill: bytes = b"\0", size: int = SECTOR) -> bytes:
    """Lose a part of that line, as a disk does that never wrote it."""
    return LOST[:start] + fill * size + LOST[start + size :]


@pytest.mark.parametrize("fill", [b"\0", b"\n"])
@pytest.mark.parametrize(
    ("offset", "start", "size", "is_torn"),
    [
        (0, 0, SECTOR, True),
        (0, SECTOR, SECTOR, False),  # one byte of it was written
        (SECTOR, 0, SECTOR, True),
        (100, SECTOR - 100, SECTOR, True),
        (100, 1, 900, False),  # so many bytes are gone, but no sector is
        (0, 1, SECTOR - 1, False),
        (0, 0, SECTOR - 1, False),
        (300, 0, SECTOR - 300, True),  # the rest of a sector that the record before began
    ],
)
def test_in_front_of_a_relaxed_record(fill: bytes, offset: int, start: int, size: int, is_torn: bool) -> None:
    """Appends that reached the disk out of order miss whole sectors; anything else is damage."""
    if (start, size) == (SECTOR, SECTOR):
        tail = LOST[:SECTOR] + fill * (SECTOR - 1) + b"x\n" + record(3)
    else:
        tail = gap(start, fill, size) + record(3)
    found = torn.judge(tail, offset, first=False)
    assert found == (None if is_torn else "damage in front of a whole record")


def test_a_sector_that_reaches_past_the_gap_was_written() -> None:
    """The last sector in front of the whole record holds the record's beginning too."""
    tail = b"x" * 100 + b"\0" * 100 + b"\n" + record(3)
    assert torn.judge(tail, 0, first=False) == "damage in front of a whole record"


def test_a_sector_that_ends_where_the_record_begins_counts() -> None:
    """One that ends exactly there can be missing as a whole."""
    assert torn.judge(b"\0" * (SECTOR - 1) + b"\n" + record(3), 0, first=False) is not None
    assert torn.judge(b"x" * 9 + b"\n" + b"\n" * (SECTOR - 10) + record(3), 0, first=False) is not None
    assert torn.judge(b"\n" * SECTOR + record(3), 0, first=False) is None


@pytest.mark.parametrize("first", [True, False])
def test_in_front_of_a_durable_record(first: bool) -> None:
    """Every byte before it was on the disk when it was written: never a tear, however many sectors are missing."""
    behind = record(3, durable=True)
    assert torn.judge(gap(0) + behind, 0, first=first) == "damage in front of a durable record"
    assert (
        torn.judge(gap(0) + record(3) + record(4, durable=True), 0, first=first)
        == "damage in front of a durable record"
    )
    assert torn.judge(gap(0) + behind + record(4), 0, first=first) == "damage in front of a durable record"


def test_a_durable_record_that_does_not_follow() -> None:
    """A whole record that does not fit what stands before it: the reader's own words stay."""
    assert torn.judge(record(7, durable=True), 0, first=False) == ""


@pytest.mark.parametrize("cut", [2, 20, 100, 400])
def test_the_commit_that_was_under_way(cut: int) -> None:
    """With nothing whole behind it, and records before it, the rest of a commit is torn wherever it ends."""
    assert torn.judge(LOST[:-cut], 700, first=False) is None
    assert torn.judge(LOST[:-cut] + b"\n" * 50, 700, first=False) is None


def test_a_newline_that_was_changed() -> None:
    """Two whole records without a newline between them are no tear: somebody changed that byte."""
    one, two = record(2), record(3)
    for between in (b" ", b"x", b"\0"):
        tail = one[:-1] + between + two
        assert torn.judge(tail, 0, first=False) == "the newline behind a record was changed"
    assert torn.judge(one[:-1] + two[:-1], 0, first=False) is None  # no byte stands between them: nothing was changed
    inside = record(2, set={"text": '{"crc":"00000000","rev":1}'})
    assert torn.judge(inside[:-1] + b" " + two[:-1], 0, first=False) == "the newline behind a record was changed"
    assert torn.judge(inside[:-20], 0, first=False) is None


FIRST = disk.line({"rev": 1, "at": 5, "by": "me", "id": "6b0c", "key": "k", "put": {"x": "y" * 2_000}})


@pytest.mark.parametrize("offset", [0, SECTOR])
def test_the_first_commit_of_all(offset: int) -> None:
    """It is torn where it has no end, ends with a sector, or misses one; else a changed byte explains it."""
    assert torn.judge(FIRST[:700], offset, first=True) is None
    assert torn.judge(FIRST[:SECTOR] + b"\n" * SECTOR, offset, first=True) is None
    assert torn.judge(FIRST[:700] + b"\n" * SECTOR, offset, first=True) == ""
    assert torn.judge(FIRST[: SECTOR + 1] + b"\n" * SECTOR, offset, first=True) == ""
    missing = FIRST[:SECTOR] + b"\0" * SECTOR + FIRST[2 * SECTOR :]
    assert torn.judge(missing, offset, first=True) is None
    changed = FIRST.replace(b"yyy", b"yxy", 1)
    assert torn.judge(changed, offset, first=True) == ""
    assert torn.judge(changed[:SECTOR] + changed[SECTOR:], offset, first=False) is None


def test_a_first_commit_that_ends_with_a_sector_and_is_whole_but_for_a_byte() -> None:
    """A line that ends with a brace has its end: where it fails all the same, a byte was changed."""
    line = disk.line({"rev": 1, "at": 5, "by": "me", "id": "6b0c", "key": "k", "put": {"x": ""}})
    line = disk.line(
        {"rev": 1, "at": 5, "by": "me", "id": "6b0c", "key": "k", "put": {"x": "y" * (SECTOR + 1 - len(line))}}
    )
    assert len(line.rstrip(b"\n")) == SECTOR
    assert torn.judge(line.replace(b"yyy", b"yxy", 1), 0, first=True) == ""


@pytest.mark.parametrize(("tail", "is_torn"), [
    (b"garbage\n", False), (b"garbage", False), (b"{", True), (b'{"crc":"', True), (b'{"crc":"0123', True),
    (b"\0" * 4096, True), (b"\0" * SECTOR + b"garbage", True), (b"\0" * (SECTOR - 1) + b"garbage", False),
    (b'{"crc":"' + b"0" * 600 + b"}\n", False), (b"[]\n", False), (b"{}\n", False),
])  # fmt: skip
def test_what_a_journal_begins_with(tail: bytes, is_torn: bool) -> None:
    """It begins as a record does, or with a sector that was never written."""
    found = torn.judge(tail, 0, first=True)
    assert (found is None) is is_torn
