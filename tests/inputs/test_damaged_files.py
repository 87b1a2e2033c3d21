"""Every byte of a shard flipped, every length of it: an error or a state that existed; never a wrong value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, Store
from tests.support import disk
from tests.support.everything import ask_everything

pytestmark = pytest.mark.damages("that is the point")
KEY = "agent:main:main"
SAMPLE = 61  # every so many damaged files, everything that a store answers is asked
NESTED = {"crc": "00000000", "rev": 9}  # begins as a line does
STATES: list[dict[str, Any]] = [
    {"n": 1, "text": "é\n", "list": [1, {"a": None}]},
    {"n": 2, "text": "é\n", "nested": NESTED},
    {"n": 3, "text": "\\", "nested": NESTED},
]


@pytest.fixture(params=["commit", "relaxed", "rewritten"])
def shard(
    request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Store, Path, bytes, list[int]]:
    """Return a store, its one shard of three records, the shard's bytes, and where each record ends."""
    monkeypatch.setattr("shardstore._files.file._READER_RETRIES", 1)  # nobody else writes: what looks damaged is
    store = Store(root, durability="relaxed" if request.param == "relaxed" else "commit")
    request.addfinalizer(store.close)
    store.create(KEY, STATES[0])
    if request.param == "rewritten":
        for n in range(10):
            store.patch(KEY, {"list": f"{n}" * 20_000})
        store.replace(KEY, STATES[0])
        store.compact()
    store.patch(KEY, {"n": 2, "nested": NESTED}, unset=["list"])
    store.patch(KEY, {"n": 3, "text": "\\"})
    path = disk.shard(root, KEY)
    data = path.read_bytes()
    ends = [place + 1 for place in range(disk.end(data)) if data[place : place + 1] == b"\n"]
    assert len(ends) == 3, "three records"
    assert [disk.state(data[:end]) for end in ends] == STATES
    return store, path, data, ends


def put(path: Path, data: bytes) -> None:
    """Put a file of these bytes in a shard's place, as a new file, so that nothing is remembered of it."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(data)
    fresh.chmod(0o600)
    fresh.rename(path)


def outcome(store: Store) -> Any:
    """Read the session: its entry, None when it is absent, or CorruptShard."""
    try:
        session = store.get(KEY)
    except CorruptShard as error:
        return type(error)
    return None if session is None else session.data


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_every_flipped_byte(shard: tuple[Store, Path, bytes, list[int]], mask: int) -> None:
    """A flip in an earlier record is CorruptShard; in the last one CorruptShard or the state before; in the room either."""
    store, path, data, ends = shard
    for place in range(min(len(data), ends[2] + 600)):
        flipped = bytearray(data)
        flipped[place] ^= mask
        put(path, bytes(flipped))
        if place % SAMPLE == 0:
            ask_everything(store)
        seen = outcome(store)
        if place < ends[1]:
            assert seen is CorruptShard, f"byte {place} of an earlier record: {seen}"
        elif place < ends[2]:
            assert seen in (CorruptShard, STATES[1]), f"byte {place} of the last record: {seen}"
        else:
            assert seen in (CorruptShard, STATES[2]), f"byte {place} of the room: {seen}"


def test_every_byte_turned_into_a_newline_or_nul(shard: tuple[Store, Path, bytes, list[int]]) -> None:
    """Line ends and zeros in the wrong place, as lost sectors leave them, never make a wrong value."""
    store, path, data, ends = shard
    for place in range(ends[2]):
        for byte in (b"\n", b"\0"):
            if data[place : place + 1] == byte:
                continue
            put(path, data[:place] + byte + data[place + 1 :])
            if place % SAMPLE == 0:
                ask_everything(store)
            seen = outcome(store)
            if place < ends[1]:
                assert seen is CorruptShard, f"byte {place}: {seen}"
            else:
                assert seen in (CorruptShard, STATES[1]), f"byte {place}: {seen}"


def test_every_length(shard: tuple[Store, Path, bytes, list[int]]) -> None:
    """Cut anywhere, the session is what its whole records say: the tail was never acknowledged."""
    store, path, data, ends = shard
    for length in range(ends[2] + 20):
        put(path, data[:length])
        if length % SAMPLE == 0:
            ask_everything(store)
        whole = sum(end <= length for end in ends)
        seen = outcome(store)
        expected = STATES[whole - 1] if whole else None
        assert seen == expected, f"{length} bytes: {seen}"


def test_writing_after_every_length(shard: tuple[Store, Path, bytes, list[int]], root: Path) -> None:
    """The next writer of a cut shard goes on from its whole records and leaves a whole journal; the tail is kept."""
    store, path, data, ends = shard
    for length in sorted({end + d for end in ends for d in (-40, -2, -1, 0, 1)} | {1, 10, 50}):
        put(path, data[:length])
        kept = len(list((root / "quarantine").iterdir()))
        whole = sum(end <= length for end in ends)
        expected = {**STATES[whole - 1], "new": length} if whole else {"new": length}
        assert store.patch(KEY, {"new": length}).data == expected
        assert disk.state(path.read_bytes()) == expected
        torn = length - (ends[whole - 1] if whole else 0) > 0 and length < ends[2]
        assert len(list((root / "quarantine").iterdir())) == kept + torn, f"{length} bytes"


def test_every_line_removed_doubled_or_swapped(shard: tuple[Store, Path, bytes, list[int]]) -> None:
    """Whole lines in the wrong order, twice, or missing are damage or an existing state, never a made-up one."""
    store, path, data, ends = shard
    one, two, three = data[: ends[0]], data[ends[0] : ends[1]], data[ends[1] : ends[2]]
    room = data[ends[2] :]
    for lines in (
        [two, three],
        [one, three],
        [one, one, two, three],
        [one, three, two],
        [two, one, three],
        [one, two, two, three],
        [three],
    ):
        put(path, b"".join(lines) + room)
        assert outcome(store) is CorruptShard, lines
        ask_everything(store)
    put(path, one + two + three + three + room)
    assert outcome(store) in (CorruptShard, STATES[2])
    put(path, one + two + room)
    assert outcome(store) == STATES[1]


def test_damage_is_never_written_over(shard: tuple[Store, Path, bytes, list[int]]) -> None:
    """Every writer refuses a damaged shard, wherever the damage is, and leaves its bytes."""
    store, path, data, ends = shard
    for place in (0, 5, 20, ends[0] - 2, ends[0], ends[1] - 2):
        flipped = bytearray(data)
        flipped[place] ^= 1
        put(path, bytes(flipped))
        for attempt in (
            lambda: store.patch(KEY, {"n": 9}),
            lambda: store.update(KEY, lambda draft: {}),
            lambda: store.create(KEY, {}),
            lambda: store.get_or_create(KEY, {}),
            lambda: store.replace(KEY, {}),
            lambda: store.delete(KEY),
        ):
            with pytest.raises(CorruptShard):
                attempt()
        assert path.read_bytes() == bytes(flipped)


def test_repair_after_every_kind_of_damage(shard: tuple[Store, Path, bytes, list[int]], root: Path) -> None:
    """verify(repair=True) leaves a readable session whose values all existed, and keeps the damaged bytes."""
    store, path, data, ends = shard
    seen_values = {repr(value) for state in STATES for value in state.values()}
    for number, place in enumerate((0, 30, ends[0] - 3, ends[0] + 30, ends[1] - 3)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        put(path, bytes(flipped))
        assert not store.verify().ok
        report = store.verify(repair=True)
        assert all(problem.repaired for problem in report.problems)
        assert store.verify().ok
        session = store.get(KEY)
        if session is not None:
            assert {repr(value) for value in session.data.values()} <= seen_values
        kept = [file.read_bytes() for file in (root / "quarantine").rglob("*") if file.is_file()]
        assert bytes(flipped) in kept, f"damage {number}"
        store.delete(KEY)
        store.create(KEY, {"again": number})
        put(path, data)


@pytest.mark.parametrize("size", [1, 511, 512, 4_095, 4_096, 70_000])
def test_zeros_noise_and_text_in_place_of_a_shard(root: Path, size: int) -> None:
    """A file that never was a journal is damage, or (no byte of it was ever acknowledged) absent; never a session."""
    with Store(root) as store:
        store.create(KEY, {"n": 1})
        path = disk.shard(root, KEY)
        for data in (
            b"\0" * size,
            os.urandom(size),
            b"x" * size,
            b'{"a":1}\n' * (size // 8 + 1),
            b'{"crc":"' * (size // 8 + 1),
        ):
            put(path, data)
            assert outcome(store) in (CorruptShard, None), data[:20]
            ask_everything(store)
        for data in (b'{"a":1}\n' * 3, b"[]\n", b"null\n", b"text\n", b'{"crc":"00000000"}\n'):
            put(path, data)
            assert outcome(store) is CorruptShard, data


def test_a_record_with_a_right_crc_and_wrong_contents(root: Path) -> None:
    """A checksum proves who wrote a line, not that it makes sense: types and combinations are checked as well."""
    at = 1_763_800_000_123
    head = {"rev": 1, "at": at, "by": "x", "durable": True, "id": "0" * 24, "key": KEY}
    good = disk.line({**head, "put": {"n": 1}})
    bad: list[dict[str, Any]] = [
        {**head, "put": []},
        {**head, "put": None},
        {**head},
        {**head, "set": {"n": 1}},
        {**head, "delete": True},
        {**head, "rev": 0, "put": {}},
        {**head, "rev": -1, "put": {}},
        {**head, "rev": "1", "put": {}},
        {**head, "rev": 1.5, "put": {}},
        {**head, "rev": True, "put": {}},
        {**head, "at": "now", "put": {}},
        {**head, "by": 5, "put": {}},
        {**head, "key": 5, "put": {}},
        {**head, "key": "another", "put": {}},
        {**head, "id": 5, "put": {}},
    ]
    with Store(root) as store:
        store.create(KEY, {"n": 0})
        path = disk.shard(root, KEY)
        put(path, good + b"\n" * 100)
        assert outcome(store) == {"n": 1}
        more = disk.line({"rev": 2, "at": at, "by": "x", "durable": True, "set": {"n": 2}})
        for record in bad:
            put(path, disk.line(record) + more + b"\n" * 100)
            assert outcome(store) is CorruptShard, record
            ask_everything(store)
        follow: list[dict[str, Any]] = [
            {"rev": 3, "at": at, "by": "x", "durable": True, "set": {"n": 9}},
            {"rev": 1, "at": at, "by": "x", "durable": True, "set": {"n": 9}},
            {"rev": 2, "at": at - 1, "by": "x", "durable": True, "set": {"n": 9}},
            {"rev": 2, "at": at, "by": "x", "durable": True, "set": {"n": 9}, "delete": True},
            {"rev": 2, "at": at, "by": "x", "durable": True, "set": 5},
            {"rev": 2, "at": at, "by": "x", "durable": True, "unset": "n"},
            {"rev": 2, "at": at, "by": "x", "durable": True, "unset": [5]},
        ]
        for record in follow:
            put(path, good + disk.line(record) + b"\n" * 100)
            assert outcome(store) in (CorruptShard, {"n": 1}), record
            put(
                path,
                good + disk.line(record) + disk.line({"rev": 3, "at": at, "by": "x", "durable": True, "set": {"n": 7}}),
            )
            assert outcome(store) is CorruptShard, record
