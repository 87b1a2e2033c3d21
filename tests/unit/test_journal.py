"""From bytes to a state: whole records count, a torn tail never happened, anything else is damage."""

from __future__ import annotations

import random
from typing import Any

import pytest

from shardstore._journal import replay as journal
from tests.support import disk

AT = 1_763_800_000_000
SECTOR = 512


def lines(count: int, *, durable: bool, size: int = 20) -> list[bytes]:
    """Make a journal of so many records: a put and changes."""
    head: dict[str, Any] = {"durable": True} if durable else {}
    made = [
        disk.line(
            {"rev": 1, "at": AT, "by": "x", **head, "id": "0" * 24, "key": "k", "put": {"n": 1, "pad": "p" * size}}
        )
    ]
    made += [
        disk.line({"rev": n, "at": AT + n, "by": "x", **head, "set": {"n": n, "pad": f"{n}" * size}})
        for n in range(2, count + 1)
    ]
    return made


def rev_or_damage(data: bytes) -> int | str:
    """Give the revision a journal ends with (0: absent), or what is wrong with it."""
    found = journal.replay(data)
    return found.state.rev if found.damage is None else found.damage.reason


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("room", [0, 1, 500])
def test_a_whole_journal(durable: bool, room: int) -> None:
    """Every record counts; room behind them does not."""
    made = lines(3, durable=durable)
    found = journal.replay(b"".join(made) + b"\n" * room)
    assert found.damage is None
    assert found.tail == b""
    assert (found.state.rev, found.state.key, found.state.records, found.state.end) == (3, "k", 3, sum(map(len, made)))
    assert found.state.fields is not None
    assert found.state.fields["n"] == b"3"


def test_nothing_and_room_are_absent() -> None:
    """An empty file, and one of room alone, hold no session."""
    for data in (b"", b"\n", b"\n" * 4_096):
        found = journal.replay(data)
        assert found == (journal.ABSENT, b"", None)


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("room", [b"", b"\n" * 300])
def test_a_tail_cut_anywhere_is_torn(durable: bool, room: bytes) -> None:
    """However much of the last record reached the file, in room or at the end, the state is the one before it."""
    made = lines(3, durable=durable)
    before = b"".join(made[:2])
    for length in range(1, len(made[2])):
        tail = made[2][:length]
        if room and length == len(made[2]) - 1:
            continue  # its newline is the room's: the record is whole
        found = journal.replay(before + tail + room)
        assert found.damage is None, f"{length} bytes: {found.damage}"
        assert found.state.rev == 2
        assert found.state.end == len(before)
        assert found.tail.rstrip(b"\n") == tail.rstrip(b"\n")


def test_a_first_record_cut_anywhere_is_an_absent_session() -> None:
    """A creator that dies leaves no session and no damage."""
    (first,) = lines(1, durable=True)
    for length in range(1, len(first)):
        assert rev_or_damage(first[:length]) == 0


@pytest.mark.parametrize("hole", [b"\0", b"\n"])
def test_a_long_record_with_sectors_missing_is_torn(hole: bytes) -> None:
    """A commit of many sectors of which some never reached the disk, in any order, never happened."""
    made = lines(2, durable=True, size=4_000)
    before, last = made
    start = len(before)
    whole = before + last + b"\n" * 600
    rng = random.Random(1)
    sectors = range(start // SECTOR + 1, (start + len(last)) // SECTOR + 1)
    for _ in range(200):
        data = bytearray(whole)
        for sector in rng.sample(list(sectors), rng.randrange(1, len(sectors))):
            data[sector * SECTOR : (sector + 1) * SECTOR] = hole * SECTOR
        assert rev_or_damage(bytes(data)) == 1


def test_relaxed_records_after_a_hole_are_a_lost_tail() -> None:
    """A power cut may leave a hole in front of whole relaxed records: cut back to the longest whole prefix."""
    made = lines(6, durable=False, size=700)
    whole = b"".join(made)
    ends = [sum(map(len, made[: n + 1])) for n in range(len(made))]
    for sector in range(ends[0] // SECTOR + 1, (len(whole) - 1) // SECTOR):
        data = bytearray(whole + b"\n" * 500)
        data[sector * SECTOR : (sector + 1) * SECTOR] = b"\0" * SECTOR
        expected = sum(end <= sector * SECTOR for end in ends)
        assert rev_or_damage(bytes(data)) == expected, f"sector {sector}"


def test_the_same_hole_before_a_durable_record_is_damage() -> None:
    """What stands before a durable record was on the disk when that was written: a hole there is corruption."""
    made = lines(6, durable=True, size=700)
    data = bytearray(b"".join(made))
    for sector in range(len(made[0]) // SECTOR + 1, sum(map(len, made[:5])) // SECTOR):
        holed = bytearray(data)
        holed[sector * SECTOR : (sector + 1) * SECTOR] = b"\0" * SECTOR
        assert isinstance(rev_or_damage(bytes(holed)), str), f"sector {sector}"


@pytest.mark.parametrize("durable", [True, False])
def test_no_changed_bit_is_read_as_a_value(durable: bool) -> None:
    """Every bit of every byte of three records: the two earlier ones are damage, the last may be the state before."""
    made = lines(3, durable=durable, size=5)
    data = b"".join(made)
    second = len(made[0]) + len(made[1])
    for room in (b"", b"\n" * 100):
        for place in range(len(data)):
            for bit in range(8):
                changed = bytearray(data + room)
                changed[place] ^= 1 << bit
                seen = rev_or_damage(bytes(changed))
                if place < second:
                    assert isinstance(seen, str), f"byte {place}, bit {bit}: revision {seen}"
                else:
                    assert isinstance(seen, str) or seen == 2, f"byte {place}, bit {bit}: revision {seen}"


def test_damage_says_where_and_why() -> None:
    """The offset is that of the line which cannot be read; the reason is text."""
    made = lines(3, durable=True)
    data = made[0] + b"X" + made[1][1:] + made[2]
    found = journal.replay(data)
    assert found.damage is not None
    assert found.damage.offset == len(made[0])
    assert found.damage.reason
    assert found.state.rev == 1


@pytest.mark.parametrize("split", [1, 2])
def test_reading_on_equals_reading_anew(split: int) -> None:
    """Applying what was added to a remembered state gives the state of the whole."""
    made = lines(3, durable=True)
    first = journal.replay(b"".join(made[:split])).state
    assert journal.replay(b"".join(made[split:]), first).state == journal.replay(b"".join(made)).state


def test_a_deleted_session_begins_again_at_one() -> None:
    """delete ends an incarnation; the next begins with its own id, key and revision 1, and time goes on."""
    made = lines(2, durable=True)
    gone = disk.line({"rev": 3, "at": AT + 9, "by": "x", "durable": True, "delete": True})
    found = journal.replay(b"".join(made) + gone)
    assert found.damage is None
    assert not found.state.exists
    again = {"rev": 1, "at": AT + 10, "by": "x", "durable": True, "id": "1" * 24, "key": "k", "put": {"m": 1}}
    found = journal.replay(b"".join(made) + gone + disk.line(again))
    assert found.damage is None
    assert (found.state.rev, found.state.fields) == (1, {"m": b"1"})
    for wrong in ({**again, "rev": 4}, {**again, "key": "other"}, {**again, "at": AT}):
        assert isinstance(
            rev_or_damage(
                b"".join(made)
                + gone
                + disk.line(wrong)
                + disk.line({"rev": wrong["rev"] + 1, "at": AT + 11, "by": "x", "durable": True, "set": {}})
            ),
            str,
        )
    change = {"rev": 4, "at": AT + 10, "by": "x", "durable": True, "set": {"n": 1}}
    assert rev_or_damage(b"".join(made) + gone + disk.line(change) + disk.line({**change, "rev": 5})) != 5


def test_the_size_is_that_of_the_compact_json() -> None:
    """The live size that is kept along the way is the size of the entry's compact JSON, after every kind of change."""
    import json

    made = lines(3, durable=True)
    made.append(disk.line({"rev": 4, "at": AT + 5, "by": "x", "set": {"new": [1, {"é": None}]}, "unset": ["pad"]}))
    made.append(disk.line({"rev": 5, "at": AT + 6, "by": "x", "unset": ["n", "new"]}))
    made.append(disk.line({"rev": 6, "at": AT + 7, "by": "x", "put": {"a": "\n", "b": 1.5}}))
    for count in range(1, len(made) + 1):
        data = b"".join(made[:count])
        entry = disk.state(data)
        assert journal.replay(data).state.size == len(
            json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
        )
