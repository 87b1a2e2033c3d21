"""A torn tail never happened, a changed byte is damage: the two are told apart wherever a journal is cut or spoilt."""

from __future__ import annotations

import random

import pytest

from shardstore._journal import replay as journal
from shardstore._journal.torn import SECTOR
from tests.unit.journals import lines, rev_or_damage


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("space", [b"", b"\n" * 300])
def test_a_tail_cut_anywhere_is_torn(durable: bool, space: bytes) -> None:
    """However much of the last record reached the file, in space or at the end, the state is the one before it."""
    made = lines(3, durable=durable)
    before = b"".join(made[:2])
    for length in range(1, len(made[2])):
        tail = made[2][:length]
        if space and length == len(made[2]) - 1:
            continue  # its newline is part of the space: the record is whole
        found = journal.replay(before + tail + space)
        assert found.damage is None, f"{length} bytes: {found.damage}"
        assert found.journal.state.rev == 2
        assert found.journal.end == len(before)
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
    for space in (b"", b"\n" * 100):
        for place in range(len(data)):
            for bit in range(8):
                changed = bytearray(data + space)
                changed[place] ^= 1 << bit
                seen = rev_or_damage(bytes(changed))
                if place < second:
                    assert isinstance(seen, str), f"byte {place}, bit {bit}: revision {seen}"
                else:
                    assert isinstance(seen, str) or seen == 2, f"byte {place}, bit {bit}: revision {seen}"
