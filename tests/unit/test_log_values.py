"""The log as a value: records lead to the state that their writer had, and malformed ones are damage, never a crash."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardstore._files.layout import is_shard_name, log_name, log_owner, new_log_id, parse_log, parse_temp, shard_name
from shardstore._journal.log_lines import (
    BODY,
    are_intact,
    encode_lines,
    ids_in,
    items_of,
    parse_line,
    seed_of,
    values_of,
    whole_lines,
)
from shardstore._journal.record import next_record, whole_record
from shardstore._journal.replay import replay, salvage
from shardstore._log import NO_LOG, Item, LogChange, LogState, Settled, applied, misfit, moved_to
from shardstore._model import ABSENT, Change, State

FILE = "0123456789abcdef"


def line(record: dict[str, Any]) -> bytes:
    rest = json.dumps(record, separators=(",", ":")).encode()[1:]
    return b'{"crc":"%08x",' % zlib.crc32(rest) + rest + b"\n"


HEAD = {"rev": 1, "at": 1_763_800_000_000_000, "by": "me", "durable": True, "id": "a" * 24, "key": "k"}
NEXT = {"rev": 2, "at": 1_763_800_000_000_001, "by": "me", "durable": True}
LOG = {"dropped": 2, "file": FILE, "count": 10, "end": 1_000, "first": 0, "add": [1, 2], "ids": ["x", None]}


def test_a_log_of_a_put_and_the_changes_behind_it() -> None:
    """dropped, settled and pending items, then a record that changes all three parts."""
    data = line({**HEAD, "put": {}, "log": LOG}) + line(
        {**NEXT, "set": {"a": 1}, "cut": 11, "drop": 4, "rep": [[5, "five"], [10, "ten"]], "add": ["new"], "ids": ["n"]}
    )
    found = replay(data)
    assert found.damage is None
    log = found.journal.state.log
    assert (log.dropped, log.kept, log.length, log.end) == (4, 10, 8, 12)
    assert [(item.raw, item.id) for item in log.pending] == [(b'"ten"', "x"), (b'"new"', "n")]
    assert {number: item.raw for number, item in log.replaced.items()} == {5: b'"five"'}
    assert (log.find_pending("n"), log.find_pending("x"), log.find_pending("y")) == (11, 10, None)
    assert replay(whole_record(found.journal.state)).journal.state == found.journal.state


MALFORMED_LOGS = [
    [], 5, {}, {"dropped": -1}, {"dropped": "2"}, {"dropped": 2**53}, {"dropped": True},
    {**LOG, "file": "../etc"}, {**LOG, "file": 7}, {**LOG, "count": 0}, {**LOG, "end": 3}, {**LOG, "first": 3},
    {**LOG, "dropped": 11}, {**LOG, "kept": 1}, {**LOG, "kept": 11}, {**LOG, "kept": "9"}, {**LOG, "add": 3},
    {**LOG, "ids": ["x"]}, {**LOG, "ids": ["x", 3]}, {**LOG, "from": [None]}, {**LOG, "from": [None, [1]]},
    {**LOG, "from": [None, ["1", "me"]]}, {**LOG, "from": [None, [0, "me"]]}, {**LOG, "rep": [[1, "v", 1, "me"]]},
    {**LOG, "rep": [[3, "v"]]}, {**LOG, "rep": [[3, "v", 10**18, "me"]]}, {**LOG, "rep": 3}, {"dropped": 1, "kept": 2},
    {"dropped": 0, "ids": []},
]  # fmt: skip


@pytest.mark.parametrize("log", MALFORMED_LOGS, ids=map(str, range(len(MALFORMED_LOGS))))
def test_a_malformed_log_behind_a_right_checksum_is_damage(log: Any) -> None:
    """Types, bounds and combinations are checked; salvage survives it too."""
    data = line({**HEAD, "put": {"a": 1}, "log": log})
    assert replay(data).damage is not None
    assert salvage(data, "b" * 24).state is not None


MALFORMED_CHANGES: list[dict[str, Any]] = [
    {"add": 3}, {"add": [1], "ids": []}, {"ids": ["x"]}, {"from": [None]}, {"cut": -1}, {"cut": "3"}, {"cut": 13},
    {"cut": 1}, {"drop": 1}, {"drop": 13}, {"cut": 5, "drop": 6}, {"rep": [[12, 1]]}, {"rep": [[1, 1]]}, {"rep": [3]},
    {"rep": [[3]]}, {"rep": {"3": 1}}, {"cut": 2**60}, {"rep": [["3", 1]]}, {"drop": 1.5}, {"log": LOG, "set": {}},
    {"delete": True, "add": [1]},
]  # fmt: skip


@pytest.mark.parametrize("change", MALFORMED_CHANGES, ids=map(str, MALFORMED_CHANGES))
def test_a_malformed_change_behind_a_right_checksum_is_damage(change: dict[str, Any]) -> None:
    """A record that makes no sense after the ones before it is not applied."""
    data = line({**HEAD, "put": {}, "log": LOG}) + line({**NEXT, **change}) + line({**NEXT, "rev": 3, "set": {}})
    found = replay(data)
    assert found.damage is not None
    assert found.journal.records == 1
    assert salvage(data, "b" * 24).state is not None


ITEMS = st.tuples(st.integers(0, 9), st.none() | st.sampled_from("abc")).map(lambda one: Item(b"%d" % one[0], one[1]))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_records_lead_to_the_state_of_their_writer(data: st.DataObject) -> None:
    """Whatever changes a log, replaying its journal, whole or from a rewrite on, gives the same log as a list."""
    state: State = ABSENT
    journal, model = b"", list[bytes]()
    for _ in range(data.draw(st.integers(1, 8))):
        log = state.log
        cut = data.draw(st.none() | st.integers(log.dropped, log.end))
        drop = data.draw(st.none() | st.integers(log.dropped, log.end if cut is None else cut))
        low, high = log.dropped if drop is None else drop, log.end if cut is None else cut
        rep = data.draw(st.dictionaries(st.integers(low, high - 1), ITEMS, max_size=2)) if low < high else {}
        change = LogChange(cut, drop, rep or None, tuple(data.draw(st.lists(ITEMS, max_size=3))))
        assert misfit(log, change) == ""
        if change == LogChange() and state.exists:
            continue  # a commit of nothing is none
        numbered = dict(enumerate(model, log.dropped))
        kept = {n: rep[n].raw if n in rep else raw for n, raw in numbered.items() if low <= n < high}
        model = [*kept.values(), *[item.raw for item in change.add]]
        whole = Change({}, [], whole=state.fields is None, log=change)
        text, state = next_record(state, whole, "k", "me", durable=True)
        journal += text
        assert [item.raw for item in state.log.pending] == model
        if data.draw(st.booleans()):
            journal = whole_record(state)
        found = replay(journal)
        assert found.damage is None
        assert found.journal.state == state


def test_numbers_outside_of_the_log_are_brought_into_it() -> None:
    """Salvage applies records whose predecessors are lost."""
    log = applied(NO_LOG, LogChange(cut=9, drop=7, rep={5: Item(b"1")}, add=(Item(b"2"),)))
    assert (log.dropped, log.kept, log.length) == (0, 0, 1)


def test_a_log_that_moved_has_nothing_pending() -> None:
    """Settling changes where items stand, and neither numbers nor length."""
    log = applied(NO_LOG, LogChange(add=tuple(Item(b"%d" % n) for n in range(5))))
    assert moved_to(log, Settled(FILE, 5, 100, 0)) == LogState(0, 5, (), 0, Settled(FILE, 5, 100, 0))
    assert moved_to(applied(log, LogChange(drop=5)), Settled()).length == 0


def test_the_lines_of_a_log_file() -> None:
    """Each is whole for its own file alone; what is fused by a changed newline is found again."""
    items = [Item(b'{"text":",\\"item\\":"}', 'id "1"', 5, 'me, "item":'), Item(b"2", None, 6, "you")]
    lines = list(encode_lines(FILE, 7, items))
    seed = seed_of(FILE)
    assert [parse_line(text[:-1], seed) for text in lines] == [(7, items[0]), (8, items[1])]
    assert parse_line(lines[0][:-1], seed_of("f" * 16)) is None
    data = b"".join(lines)
    assert [found[1:] for found in whole_lines(data, seed)] == [(7, items[0]), (8, items[1])]
    fused = data.replace(b"\n", b"x", 1)
    assert [found[1] for found in whole_lines(fused, seed)] == [7, 8]
    assert next(whole_lines(b"x" + data[1:], seed))[1] == 8


NAMES = [
    ("3f/slug~" + "3f" + "0" * 30 + ".0123456789abcdef.log.jsonl", True),
    ("3f/slug~" + "3f" + "0" * 30 + ".jsonl", False),
    ("3f/slug~" + "3f" + "0" * 30 + ".0123456789ABCDEF.log.jsonl", False),
    ("3f/slug~" + "3f" + "0" * 30 + ".0123456789abcde.log.jsonl", False),
    ("3f/slug~" + "3f" + "0" * 30 + ".0123456789abcdef.jsonl", False),
    ("40/slug~" + "3f" + "0" * 30 + ".0123456789abcdef.log.jsonl", False),
    ("3f/.tmp-00~slug~" + "3f" + "0" * 30 + ".0123456789abcdef.log.jsonl", False),
    ("slug~" + "3f" + "0" * 30 + ".0123456789abcdef.log.jsonl", False),
    ("", False),
]


@pytest.mark.parametrize(("name", "is_log"), NAMES, ids=map(str, range(len(NAMES))))
def test_log_files_are_told_from_everything_else(name: str, is_log: bool) -> None:
    """A log file is no shard and no temp, and nothing else is a log file."""
    assert (parse_log(name) is not None) == is_log
    if is_log:
        assert not is_shard_name(name)
        assert parse_temp(name) is None


@given(
    key=st.text(min_size=1, max_size=300).filter(
        lambda key: "\0" not in key and not any("\ud800" <= c <= "\udfff" for c in key)
    )
)
def test_the_name_of_a_log_file_is_parsed_back(key: str) -> None:
    """Name and parser agree for every key; the name fits every file system."""
    shard, file_id = shard_name(key), new_log_id()
    name = log_name(shard, file_id)
    assert parse_log(name) == (shard, file_id)
    assert log_owner(name.partition("/")[2]) == shard
    assert len(name.partition("/")[2]) <= 143


SETTLED = [
    Item(b'{"n":%d,"text":"a,\\"item\\":%d"}' % (n, n), f"id{n}" if n % 2 else None, 5 + n, "me") for n in range(4)
]
SEED = seed_of(FILE)


def whole() -> list[bytes]:
    return [text[:-1] for text in encode_lines(FILE, 7, SETTLED)]


def test_whole_lines_are_read_as_items_as_values_and_as_ids() -> None:
    lines = whole()
    assert items_of(lines, 7, SEED) == SETTLED
    assert values_of(lines, 7, SEED) == [json.loads(item.raw) for item in SETTLED]
    assert ids_in(b"\n".join([*lines, b"half of a li"]), SEED) == ([("id1", 8), ("id3", 10)], None)
    assert are_intact([], SEED)


@pytest.mark.parametrize("at", range(4))
def test_no_bit_of_a_line_changes_unseen_among_others(at: int) -> None:
    """Neither in the bytes that the checksum covers, nor in those that hold it."""
    lines = whole()
    for place in [*range(BODY + 8), len(lines[at]) - 1]:
        for bit in range(8):
            changed = bytearray(lines[at])
            changed[place] ^= 1 << bit
            damaged = [*lines[:at], bytes(changed), *lines[at + 1 :]]
            assert not are_intact(damaged, SEED)
            assert values_of(damaged, 7, SEED) is None
            assert items_of(damaged, 7, SEED) is None
            if changed[place] != 10:
                assert ids_in(b"\n".join([*damaged, b""]), SEED) == ([], bytes(changed))


def test_lines_of_other_numbers_and_of_other_files_are_none_of_these() -> None:
    lines = whole()
    for wrong in (lines[:1] + lines[2:], [lines[1], lines[0], *lines[2:]], [*lines, lines[-1]]):
        assert values_of(wrong, 7, SEED) is None
        assert items_of(wrong, 7, SEED) is None
    assert values_of(lines, 6, SEED) is None
    assert values_of(lines, 7, seed_of("f" * 16)) is None


@pytest.mark.parametrize("rest", [b'"n":7}', b'"n":7,"item":', b'"item":1}'])
def test_what_no_writer_writes_is_not_read_behind_a_right_checksum(rest: bytes) -> None:
    line = b'{"crc":"%08x",%b' % (zlib.crc32(rest, SEED), rest)
    assert are_intact([line], SEED)
    assert values_of([line], 7, SEED) is None
