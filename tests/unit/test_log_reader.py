"""Reading log files: any items of any log, found where they should be, and beside damage all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardstore import CorruptShard, Store
from shardstore._files import log_reader
from shardstore._files.layout import shard_name
from shardstore._files.log_reader import OpenedLog
from shardstore._files.logfile import LogFiles
from shardstore._log import Item, LogState, Settled

NAME = shard_name("k")
COUNT = 400


def item(number: int) -> Item:
    """Return an item of a length of its own: some are longer than a probe."""
    size = 12_000 if number % 97 == 5 else 30 * (number % 7)
    return Item(b'{"n":%d,"text":"%b"}' % (number, b"x" * size), f"id{number}" if number % 3 else None, 5, "me")


ITEMS = [item(number) for number in range(COUNT)]


@pytest.fixture
def files(root: Path) -> LogFiles:
    with Store(root) as store:
        store.create("k", {})
    return LogFiles(str(root))


@pytest.fixture
def settled(files: LogFiles) -> Settled:
    """Return the file of a log whose first 100 items were dropped before."""
    return files.write_new(NAME, LogState(), ITEMS, first=100)


def opened(files: LogFiles, settled: Settled) -> OpenedLog:
    return OpenedLog(files, NAME, "k", settled)


PLACES = [(0, 1), (0, COUNT), (399, 400), (380, 400), (5, 6), (4, 7), (101, 104), (200, 203), (296, 298), (50, 350)]


@pytest.mark.parametrize(("start", "stop"), PLACES)
def test_items_are_found_by_their_numbers(
    files: LogFiles, settled: Settled, monkeypatch: pytest.MonkeyPatch, start: int, stop: int
) -> None:
    """Without reading the whole file, with all that is known of them or their values alone."""
    monkeypatch.delattr(OpenedLog, "_slowly")
    with opened(files, settled) as file:
        assert file.read(100 + start, 100 + stop) == ITEMS[start:stop]
        assert file.values(100 + start, 100 + stop) == [json.loads(one.raw) for one in ITEMS[start:stop]]


def test_iterating_reads_some_at_a_time(files: LogFiles, settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "_CHUNK", 4_096)
    read, asked = OpenedLog._lines, []
    monkeypatch.setattr(
        OpenedLog, "_lines", lambda self, start, stop: (asked.append(stop - start), read(self, start, stop))[1]
    )
    with opened(files, settled) as file:
        assert list(file.iterate(100, 500)) == ITEMS
        assert len(file.values(100, 500)) == COUNT
    assert len(asked) > 20
    assert max(asked) < 100


@pytest.mark.parametrize("lost", [0, 150, 399])
def test_beside_a_damaged_line_every_other_one_is_read(files: LogFiles, settled: Settled, lost: int) -> None:
    path = Path(files.path(NAME, settled))
    lines = path.read_bytes().splitlines(keepends=True)
    place = sum(map(len, lines[:lost]))
    lines[lost] = lines[lost].replace(b'"n":', b'"N":')
    path.write_bytes(b"".join(lines))
    with opened(files, settled) as file:
        for start, stop in ((0, lost), (lost + 1, COUNT)):
            assert file.read(100 + start, 100 + stop) == ITEMS[start:stop]
            assert file.values(100 + start, 100 + stop) == [json.loads(one.raw) for one in ITEMS[start:stop]]
        for read in (file.read, file.values):
            with pytest.raises(CorruptShard, match=f"item {100 + lost} is not whole") as caught:
                read(100 + max(0, lost - 3), 100 + min(COUNT, lost + 3))
            assert caught.value.offset == place


def test_a_shorter_file_has_what_it_has(files: LogFiles, settled: Settled) -> None:
    path = Path(files.path(NAME, settled))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:300]))
    with opened(files, settled) as file:
        assert file.read(100, 400) == ITEMS[:300]
        with pytest.raises(CorruptShard, match="shorter than the journal says"):
            file.read(390, 401)
        with pytest.raises(CorruptShard, match="shorter than the journal says"):
            file.ids_behind(0)


def test_ids_are_read_from_a_line_on(files: LogFiles, settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, however the lines fall into them; the last line is remembered by its checksum."""
    monkeypatch.setattr(log_reader, "_CHUNK", 1_000)
    lines = Path(files.path(NAME, settled)).read_bytes().splitlines(keepends=True)
    everything = [(one.id, number) for number, one in enumerate(ITEMS, 100) if one.id is not None]
    with opened(files, settled) as file:
        found, last = file.ids_behind(0)
        assert found == everything
        assert file.ids_behind(sum(map(len, lines[:300])))[0] == [one for one in everything if one[1] >= 400]
        assert (last.place, last.begins) == (settled.end - len(lines[-1]), lines[-1][:64])
        assert file.has(last)
        assert not file.has(last._replace(place=last.place - 1))


def test_a_damaged_line_among_ids_is_named_by_its_byte(files: LogFiles, settled: Settled) -> None:
    path = Path(files.path(NAME, settled))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[7] = lines[7].replace(b'"n":', b'"N":')
    path.write_bytes(b"".join(lines))
    with opened(files, settled) as file, pytest.raises(CorruptShard, match="checksum") as caught:
        file.ids_behind(0)
    assert caught.value.offset == sum(map(len, lines[:7]))


def test_a_line_in_the_place_of_another_one_is_damage(files: LogFiles, settled: Settled) -> None:
    """Each line is whole, and not where its number says."""
    path = Path(files.path(NAME, settled))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[20], lines[21] = lines[21], lines[20]
    path.write_bytes(b"".join(lines))
    with opened(files, settled) as file:
        assert file.read(120, 122) == ITEMS[20:22]
        assert file.values(110, 130) == [json.loads(one.raw) for one in ITEMS[10:30]]
        lines[20] = lines[21]
        path.write_bytes(b"".join(lines))
        for read in (file.read, file.values):
            with pytest.raises(CorruptShard, match="item 121 is not whole"):
                read(110, 130)
