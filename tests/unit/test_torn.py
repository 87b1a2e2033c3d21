"""A torn tail never happened, a changed byte is damage: the two are told apart wherever a journal is cut or spoilt."""

from __future__ import annotations

import random

import pytest

from shardstore._files import file
from shardstore._journal import replay as journal
from shardstore._journal.torn import _newline_changed, _sector_missing, classify_tail
from tests.support import disk
from tests.unit.journals import lines, rev_or_damage

SECTOR = 512  # bytes that a disk writes whole, as docs/internals/format.md has it


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


@pytest.mark.parametrize("hole", [b"\0", b"\n"])
def test_a_lost_record_that_ends_with_its_sector_is_a_lost_tail(hole: bytes) -> None:
    """The hole reaches up to the next record, so that nothing but the hole tells where that begins."""
    made = lines(2, durable=False)
    start = -len(b"".join(made)) % SECTOR + len(b"".join(made))  # the third record fills a sector of its own
    made[1] = lines(2, durable=False, size=20 + start - len(b"".join(made)))[1]
    before = b"".join(made)
    assert len(before) % SECTOR == 0
    behind = lines(4, durable=False)[3]
    assert rev_or_damage(before + hole * SECTOR + behind) == 2
    assert isinstance(rev_or_damage(before + hole * SECTOR + lines(4, durable=True)[3]), str)


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


RECORD, RELAXED = lines(1, durable=True)[0], lines(1, durable=False)[0]


@pytest.mark.parametrize(
    ("tail", "offset", "first", "expected"),
    [
        # A whole record behind: durable means damage, and "" where the tail begins with it.
        (RECORD, 0, False, ""),
        (b"x\n" + RECORD, 0, False, "damage in front of a durable record"),
        (b"x\n" + RELAXED, 0, False, "damage in front of a whole record"),
        (b"x\n" + RELAXED + RECORD, 0, False, "damage in front of a durable record"),
        (b"\0" * SECTOR + RELAXED, 0, False, None),
        (b"\0" * (SECTOR - 1) + b"x\n" + RELAXED, 0, False, "damage in front of a whole record"),
        (b"x\n" + RELAXED[:-1] + b"\r\n", 0, False, "damage in front of a whole record"),
        (b"x\n" + b"no record\r\n", 0, False, None),
        # No whole record: the newline behind one was changed.
        (RECORD[:-1] + b"x" + RELAXED[:-2], 0, False, "the newline behind a record was changed"),
        (RECORD[:-1] + b"\0" + RELAXED[:-2], 0, False, "the newline behind a record was changed"),
        (RECORD[:-1] + RELAXED[:-2], 0, False, None),
        # The first of its file: it begins as a journal does, and a tear leaves less than a line.
        (b"no journal", 0, True, "it does not begin as a journal does"),
        (b'{"cr', 0, True, None),
        (b"\0" * SECTOR + b"no journal", 0, True, None),
        (b"\0" * (SECTOR - 1) + b"no journal", 0, True, "it does not begin as a journal does"),
        (RECORD[:-1] + b"x", 0, True, "the newline behind a record was changed"),
        (RECORD[:-1] + b"\0", 0, True, None),
        (RECORD[:-2] + b"x", 0, True, None),
        (RECORD[:9] + b"X" + RECORD[10:], 0, True, ""),
        (b"no journal", 0, False, None),
    ],
)
def test_each_judgement_of_a_tail(tail: bytes, offset: int, first: bool, expected: str | None) -> None:
    """None for a torn tail, else what the damage is."""
    assert classify_tail(tail, offset, first=first) == expected


@pytest.mark.parametrize("offset", [0, 1, 100, SECTOR, 3 * SECTOR - 7])
def test_a_first_line_that_ends_with_a_sector_was_cut_there(offset: int) -> None:
    """Of a line whose newline is the file's room; one that ends in a brace is whole, and was changed."""
    length = 2 * SECTOR - offset % SECTOR
    text = b'{"crc":"00000000","rev":1,"put":{"a":"' + b"x" * SECTOR * 3
    for cut, expected in ((length, None), (length - 1, ""), (length + 1, "")):
        assert classify_tail(text[:cut] + b"\n", offset, first=True) == expected
    assert classify_tail(text[: length - 1] + b"}\n", offset, first=True) == ""


@pytest.mark.parametrize("hole", [b"\0", b"\n"])
@pytest.mark.parametrize("offset", [0, 1, 300, SECTOR - 1, SECTOR, 5 * SECTOR + 9])
def test_a_sector_is_missing_where_all_of_it_is_empty(hole: bytes, offset: int) -> None:
    """Counted in the file's sectors; one that reaches past the end of what is looked at is known to be written."""
    data = b"x" * (5 * SECTOR)
    begins = [at for at in range(len(data)) if (offset + at) % SECTOR == 0]
    for at in begins[:-1]:
        holed = data[:at] + hole * SECTOR + data[at + SECTOR :]
        assert _sector_missing(holed, offset, len(data))
        assert _sector_missing(holed, offset, at + SECTOR)
        assert not _sector_missing(holed, offset, at + SECTOR - 1)
        for place in (at, at + SECTOR - 1):
            assert not _sector_missing(holed[:place] + b"x" + holed[place + 1 :], offset, len(data))
    assert not _sector_missing(data, offset, len(data))
    assert not _sector_missing(b"", offset, 0)
    if begins[0]:
        assert _sector_missing(hole * begins[0] + data[begins[0] :], offset, len(data)), "the rest of a sector"


def test_a_changed_newline_is_found_behind_what_looks_like_a_record() -> None:
    """An entry may hold the beginning of a record, however often; the checksum goes over all of it."""
    nested = disk.line(
        {"rev": 1, "at": 5, "by": "x", "id": "0" * 24, "key": "k", "put": {"a": [{"crc": "0"}] * 3, "b": {"crc": "1"}}}
    )
    for newline in (b"x", b"\0", b"\r"):
        assert _newline_changed(nested[:-1] + newline + nested)
        assert _newline_changed(nested[:-1] + newline + nested[:12])
    assert not _newline_changed(nested[:-1] + nested), "nothing between them: bytes are missing, none was changed"
    assert not _newline_changed(nested[:-1] + b"xx" + nested)
    assert not _newline_changed(nested[:-1])
    assert not _newline_changed(nested.replace(b'"k"', b'"l"')[:-1] + b"x" + nested)
    assert not _newline_changed(b"")


@pytest.mark.parametrize("hole", [b"\0", b"\n"])
def test_the_beginning_of_a_record_in_front_of_a_sector_may_be_missing(hole: bytes) -> None:
    """Of two that were under way: the first one lacks its first bytes, the second one its last. No newline was changed."""
    first, second = disk.line({"rev": 2, "at": 5, "set": {"a": 1}}), disk.line({"rev": 3, "at": 6, "set": {"a": 2}})
    for missing in (1, 4, 7, 16):
        tail = hole * missing + first[missing:] + second[:-5]
        assert _newline_changed(tail) == (missing < 8)
        assert classify_tail(tail, 4096 - missing, first=False) is None
        if missing < 8:
            assert classify_tail(tail, 4000, first=False) == "the newline behind a record was changed"
            assert classify_tail(tail, 4096 - missing - 1, first=False) is not None


def appended(before: bytes, end: int, line: bytes, *, durable: bool) -> bytes:
    """Return what a file with this journal of `end` bytes holds after an append, with the space that it leaves."""
    data = before[:end] + line
    if len(data) <= len(before):
        return data.ljust(len(before), b"\n")
    room = durable or len(line) < file._LONG_BYTES
    return data.ljust(file.size_with_space(len(data)) if room else len(data) + 1, b"\n")


@pytest.mark.parametrize("seed", range(40))
def test_any_mixture_of_sectors_of_unsynced_records_is_a_torn_tail(seed: int) -> None:
    """Each sector is as it was before, or behind any of up to three commits: the session is as it was synced, or later."""
    rng = random.Random(seed)
    durable, new = rng.random() < 0.5, rng.random() < 0.2
    made = lines(4, durable=False, size=rng.randrange(20, 700))
    synced = 0 if new else 1
    end = len(made[0]) * synced
    space = rng.choice([0, 1, file.size_with_space(end) - end]) if synced else 0
    versions = [(made[0] * synced).ljust(end + space, b"\n")]
    for number, line in enumerate(made[synced : synced + rng.choice([1, 2, 3])]):
        if durable and number == 0:  # of a group the first alone says so
            line = lines(synced + 1, durable=True, size=rng.randrange(20, 700))[synced]
        versions.append(appended(versions[-1], end, line, durable=durable and number == 0))
        end += len(line)
    padded = [one.ljust(len(versions[-1]), b"\0") for one in versions]
    for _ in range(300):
        mixed = b"".join(rng.choice(padded)[at : at + SECTOR] for at in range(0, len(padded[0]), SECTOR))
        for size in {len(one) for one in versions}:
            found = rev_or_damage(mixed[:size])
            assert isinstance(found, int), found
            assert found >= synced
