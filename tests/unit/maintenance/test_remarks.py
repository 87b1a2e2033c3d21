"""Remarks: what is odd about a journal that can be read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shardstore._files.file import read_file
from shardstore._files.maintenance import remarks as module
from shardstore._files.maintenance.remarks import remarks
from tests.support import disk
from tests.unit.journals import lines

TAIL = b'{"crc":"00000000","rev":9'


def found(path: Path) -> list[tuple[str, str]]:
    return list(remarks(str(path), *read_file(str(path))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "journal"
    made.write_bytes(b"".join(lines(3, durable=False)))
    return made


def test_a_whole_journal_has_none(path: Path) -> None:
    assert found(path) == []


def test_a_torn_tail_is_named_with_its_size_and_place(path: Path) -> None:
    """Its room behind it does not count."""
    path.write_bytes(path.read_bytes() + TAIL + b"\n" * 100)
    ((kind, text),) = found(path)
    assert kind == "torn"
    assert text.startswith(f"{len(TAIL)} bytes after revision 3 are no whole record")


def test_a_tail_at_the_start_of_a_file(path: Path) -> None:
    path.write_bytes(TAIL)
    ((_, text),) = found(path)
    assert "at the start" in text


def test_a_commit_under_way_is_no_torn_tail(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that is in the middle of its record has written it a moment later."""
    journal = path.read_bytes()
    path.write_bytes(journal + TAIL)
    read = read_file(str(path))
    monkeypatch.setattr(module.time, "sleep", lambda _: path.write_bytes(journal + lines(4, durable=False)[3]))
    assert list(remarks(str(path), *read)) == []


def test_a_time_ahead_of_the_clock_is_named_from_a_day_on(path: Path) -> None:
    at = time.time_ns() // 1000
    for days, named in ((0.9, False), (1.1, True), (40, True)):
        record = {"rev": 1, "at": at + int(days * disk.DAY_US), "by": "x", "id": "0" * 24, "key": "k", "put": {}}
        path.write_bytes(disk.line(record))
        assert [kind for kind, _ in found(path)] == ["future"] * named
    assert "39 days ahead" in found(path)[0][1] or "40 days ahead" in found(path)[0][1]
