"""One journal line: made as the format says, and believed only when every byte of it is as it was written."""

from __future__ import annotations

import json
import time
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardstore import InvalidEntry
from shardstore import _codec as codec
from shardstore import _model as model
from shardstore._journal import record
from shardstore._log import NO_LOG, Item, LogChange
from shardstore._model import ABSENT, DAY_US, Change, State
from tests.inputs.strategies import entries, same
from tests.support import disk

AT = 1_763_800_000_000_789
STATE = State({"x": b"1"}, "k", 2, "0" * 24, "0" * 8, AT - 9, AT - 1, "me", 6)
CHANGE = Change({"totalTokens": b"5"}, ["x"])


@pytest.fixture(autouse=True)
def no_commit_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process begins."""
    monkeypatch.setattr(record, "newest_commit", [0])
    monkeypatch.setattr(model, "newest_commit", record.newest_commit)


def at_time(monkeypatch: pytest.MonkeyPatch, microseconds: int) -> None:
    monkeypatch.setattr(record.time, "time_ns", lambda: microseconds * 1000)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> bytes:
    at_time(monkeypatch, AT)
    return record.next_record(STATE, CHANGE, "k", "4711", durable=True)[0]


def test_a_line_is_what_the_format_says(line: bytes) -> None:
    """crc first, over every byte after it up to and including the closing brace; then rev, at, by, durable, change."""
    assert line.endswith(b"\n")
    text = line.decode()
    rest = text[len('{"crc":"00000000",') : -1]
    assert text.startswith(f'{{"crc":"{zlib.crc32(rest.encode()):08x}",')
    assert list(json.loads(text)) == ["crc", "rev", "at", "by", "durable", "set", "unset"]


def test_the_store_and_the_description_make_the_same_line(line: bytes) -> None:
    """The tests' own writer, made from the description, gives the same bytes."""
    rest: dict[str, Any] = {
        "rev": 3,
        "at": AT,
        "by": "4711",
        "durable": True,
        "set": {"totalTokens": 5},
        "unset": ["x"],
    }
    assert disk.line(rest) == line


@settings(deadline=None)
@given(entry=entries, by=st.text(st.characters(exclude_categories=["Cs"])), durable=st.booleans())
def test_a_record_comes_back(entry: dict[str, Any], by: str, durable: bool) -> None:
    """What a line was made of is what it is parsed into, for any entry and actor, always as one line."""
    change = Change(codec.encode_entry(entry), [], whole=True)
    line, after = record.next_record(ABSENT, change, "a key \n", by, durable=durable)
    assert line.count(b"\n") == 1
    parsed = record.parse(line[:-1])
    assert isinstance(parsed, dict)
    assert same(parsed.pop("put"), entry)
    assert parsed == {
        "crc": line[8:16].decode(),
        "rev": 1,
        "at": after.updated_at,
        "by": by,
        **({"durable": True} if durable else {}),
        "id": after.incarnation,
        "key": "a key \n",
    }
    assert (after.rev, after.actor, after.tag, after.key) == (1, by, parsed["crc"], "a key \n")


@settings(deadline=None)
@given(entry=entries)
def test_a_rewritten_record_carries_everything_but_the_history(entry: dict[str, Any]) -> None:
    """The one line of a rewritten journal has revision, times, actor, incarnation and tag as they were."""
    fields = codec.encode_entry(entry)
    state = STATE._replace(fields=fields, rev=77, tag="0a1b2c3d", actor="\u00e9")
    parsed = record.parse(record.whole_record(state)[:-1])
    assert isinstance(parsed, dict)
    assert same(parsed.pop("put"), entry)
    del parsed["crc"]
    assert parsed == {
        "rev": 77, "at": AT - 1, "by": "\u00e9", "durable": True, "id": "0" * 24, "key": "k", "created": AT - 9,
        "tag": "0a1b2c3d",
    }  # fmt: skip


def test_the_bytes_of_an_entry_are_those_of_its_members() -> None:
    """After each kind of change the running size is the sum of what the fields take."""
    state = ABSENT
    for change in (
        Change({"a": b"1", "b": b'"xy"'}, [], whole=True),
        Change({"a": b"12345"}, []),
        Change({"c": b"[]"}, []),
        Change({"b": b"7"}, ["a"]),
        Change({}, ["b", "c"]),
        Change({"z": b"1"}, [], whole=True),
    ):
        _, state = record.next_record(state, change, "k", "me", durable=False)
        assert state.fields is not None
        assert state.entry_bytes == sum(record.field_size(name, raw) for name, raw in state.fields.items())
    _, state = record.next_record(state, Change({}, [], delete=True), "k", "me", durable=False)
    assert (state.fields, state.entry_bytes, state.exists) == (None, 0, False)


def test_a_time_given_by_an_importer_is_never_later_than_now_nor_before_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_time(monkeypatch, AT + 100)
    for given_at, written in ((AT + 50, AT + 50), (AT + 900, AT + 100), (5, AT - 1)):
        monkeypatch.setattr(record, "newest_commit", [0])
        _, after = record.next_record(STATE, CHANGE, "k", "me", durable=False, at=given_at)
        assert after.updated_at == written


@pytest.mark.parametrize("step", [0, -1, -DAY_US // 40])
def test_times_of_one_process_rise_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Of one session and of different ones, though the clock stands still or steps back."""
    seen, now = [AT], AT + 1
    for session in range(20):
        at_time(monkeypatch, now)
        _, after = record.next_record(STATE if session % 2 else ABSENT, CHANGE, "k", "me", durable=False)
        seen.append(after.updated_at)
        now += step
    assert seen == sorted(set(seen))


def test_a_time_more_than_a_day_ahead_is_stepped_back_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was wrong once does not hold a session's times in the future."""
    at_time(monkeypatch, AT)
    near, far = STATE._replace(updated_at=AT + DAY_US), STATE._replace(updated_at=AT + DAY_US + 9)
    assert record.next_record(near, CHANGE, "k", "me", durable=False)[1].updated_at == AT + DAY_US + 1
    assert record.next_record(far, CHANGE, "k", "me", durable=False)[1].updated_at == AT + 1


def test_no_changed_bit_is_believed(line: bytes) -> None:
    """Of all single-bit changes of a line, none is taken for a whole line."""
    text = line[:-1]
    assert record.is_intact(text)
    for place in range(len(text)):
        for bit in range(8):
            changed = bytearray(text)
            changed[place] ^= 1 << bit
            assert not record.is_intact(bytes(changed)), f"byte {place}, bit {bit}"


def test_no_part_of_a_line_is_believed(line: bytes) -> None:
    """No prefix, suffix or extension of a line is a whole line."""
    text = line[:-1]
    for length in range(len(text)):
        assert not record.is_intact(text[:length])
        assert not record.is_intact(text[length + 1 :])
    assert not record.is_intact(text + b" ")
    assert not record.is_intact(b" " + text)
    assert not record.is_intact(text + b"\r")


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
        b'"id":"i","key":"k","tag":"0123456","put":{}',
        b'"id":"i","key":"k","tag":"0123456G","put":{}',
        b'"id":"i","key":"k","tag":12345678,"put":{}',
        b'"id":"i","key":"k","created":-1,"put":{}',
        b'"tag":"01234567","put":{}',
        b'"durable":1,"set":{}',
        b'"put":{}}{',
    ],
)
def test_a_right_checksum_does_not_make_a_record(body: bytes) -> None:
    """A line that its writer meant, but that is no record, is described and not returned."""
    rest = b'"rev":1,"at":1,"by":"x",%b}' % body
    text = b'{"crc":"%08x",%b' % (zlib.crc32(rest), rest)
    assert record.is_intact(text)
    assert isinstance(record.parse(text), str)


def test_the_clock_is_read_in_microseconds() -> None:
    before = time.time_ns() // 1000
    _, after = record.next_record(ABSENT, CHANGE._replace(removed=[], whole=True), "k", "me", durable=False)
    assert before <= after.updated_at <= time.time_ns() // 1000 + 1


ITEM = LogChange(add=(Item(b'"said"', "id"),))


@pytest.mark.parametrize(
    ("change", "members"),
    [
        (Change({"a": b"1"}, [], log=ITEM), ["set", "add", "ids"]),
        (Change({}, [], log=ITEM), ["add", "ids"]),
        (Change({}, ["x"], log=ITEM), ["unset", "add", "ids"]),
        (Change({"a": b"1"}, [], whole=True, log=ITEM), ["put", "add", "ids"]),
        (Change({"a": b"1"}, []), ["set"]),
    ],
)
def test_a_record_changes_fields_and_log_in_one(change: Change, members: list[str]) -> None:
    """What it says is what it leads to; a change of the fields alone leaves the log."""
    before = record.next_record(STATE, Change({}, [], log=ITEM), "k", "me", durable=False)[1]
    line, after = record.next_record(before, change, "k", "me", durable=False)
    assert list(json.loads(line))[4:] == members
    assert isinstance(record.parse(line[:-1]), dict)
    assert [item.raw for item in after.log.pending] == [b'"said"'] * (1 + ("add" in members))


def test_a_log_ends_with_its_session() -> None:
    before = record.next_record(STATE, Change({}, [], log=ITEM), "k", "me", durable=False)[1]
    gone = record.next_record(before, Change({}, [], delete=True), "k", "me", durable=False)[1]
    assert (gone.fields, gone.log) == (None, NO_LOG)
    again = record.next_record(gone._replace(log=before.log), Change({}, [], whole=True), "k", "me", durable=False)[1]
    assert (again.fields, again.log) == ({}, NO_LOG)


def test_the_last_revision_can_be_written() -> None:
    last = STATE._replace(rev=model.REV_MAX - 1)
    line, after = record.next_record(last, CHANGE, "k", "me", durable=False)
    assert after.rev == model.REV_MAX
    assert isinstance(record.parse(line[:-1]), dict)
    with pytest.raises(InvalidEntry, match="revisions"):
        record.next_record(after, CHANGE, "k", "me", durable=False)


def test_a_record_gets_another_key_and_keeps_its_tag() -> None:
    """A renamed session has the version that it had: the tag of its record as first committed."""
    line, state = record.next_record(ABSENT, Change({"a": b"1"}, [], whole=True), "k", "me", durable=True)
    moved = json.loads(record.with_key(line[:-1], "other"))
    given = json.loads(line)
    assert moved == {**given, "key": "other", "tag": given["crc"], "crc": moved["crc"]}
    assert isinstance(record.parse(record.with_key(line[:-1], "other")), dict)
    whole = record.whole_record(state)[:-1]
    assert json.loads(record.with_key(whole, "other"))["tag"] == state.tag
    assert list(json.loads(record.with_key(whole, "other")))[:4] == ["crc", "rev", "at", "by"]


@pytest.mark.parametrize(
    "given",
    [
        {"rev": 1, "at": 1, "by": "x", "delete": True, "put": {}},
        {"rev": 1, "at": 1, "by": "x", "put": {}, "add": [1], "set": {}},
        {"rev": 1, "at": 1, "by": "x", "delete": False},
        {"rev": 1, "at": 1, "by": "x", "durable": 1, "set": {}},
        {"rev": 2, "at": 1, "by": "x", "set": {}, "log": {"dropped": 0}},
        {"rev": 2, "at": 1, "by": "x", "put": {}, "log": {"dropped": 0}},
        {"rev": 2, "at": 1, "by": "x", "add": 3},
        {"rev": 2, "at": 1, "by": "x", "set": {}, "ids": ["x"]},
    ],
    ids=str,
)
def test_members_that_do_not_go_together_are_no_record(given: dict[str, Any]) -> None:
    """A right checksum shows who wrote a line, not that it makes sense."""
    assert isinstance(record.parse(disk.line(given)[:-1]), str)
