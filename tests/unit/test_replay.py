"""From bytes to a state: whole records count, whatever stands behind them, read at once or one by one."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from shardstore._journal import replay as journal
from shardstore._journal.record import next_record, whole_record
from shardstore._journal.replay import EMPTY
from shardstore._model import ABSENT, DAY_US, REV_MAX, TIME_MAX_US, Change, State
from tests.support import disk
from tests.unit.journals import AT, lines, rev_or_damage

JOURNALS = 400
FIRST = Change({"n": b"0", "name": b'"x"'}, [], whole=True)


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("space", [0, 1, 500, 70_000])
def test_a_whole_journal(durable: bool, space: int) -> None:
    """Every record counts; space behind them does not."""
    made = lines(3, durable=durable)
    found = journal.replay(b"".join(made) + b"\n" * space)
    assert found.damage is None
    assert found.tail == b""
    assert (found.journal.state.rev, found.journal.state.key, found.journal.records, found.journal.end) == (
        3,
        "k",
        3,
        sum(map(len, made)),
    )
    assert found.journal.state.fields is not None
    assert found.journal.state.fields["n"] == b"3"


def test_nothing_and_room_are_absent() -> None:
    """An empty file, and one of space alone, hold no session."""
    for data in (b"", b"\n", b"\n" * 4_096):
        found = journal.replay(data)
        assert found == (EMPTY, b"", None)


def test_damage_says_where_and_why() -> None:
    """The offset is that of the line which cannot be read; the reason is text."""
    made = lines(3, durable=True)
    data = made[0] + b"X" + made[1][1:] + made[2]
    found = journal.replay(data)
    assert found.damage is not None
    assert found.damage.offset == len(made[0])
    assert found.damage.reason
    assert found.journal.state.rev == 1


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"rev": 1}, "revision 1 follows revision 2"),
        ({"at": AT}, "time goes back"),
    ],
)
def test_a_record_that_cannot_follow_is_named(more: dict[str, Any], why: str) -> None:
    """The reason is the reader's where the record itself is whole, and that of torn-write detection elsewhere."""
    data = b"".join(lines(2, durable=True))
    wrong = disk.line({"rev": 3, "at": AT + 3, "by": "x", "durable": True, "set": {}, **more})
    found = journal.replay(data + wrong)
    assert found.damage == journal.Damage(len(data), why)
    assert found.journal.state.rev == 2
    found = journal.replay(data + b"X\n" + wrong)
    assert found.damage == journal.Damage(len(data), "damage in front of a durable record")


def test_why_reading_ended() -> None:
    """A line that goes on somewhere else is told from one that is not finished."""
    [line] = lines(1, durable=True)
    assert journal.read_records(line + b"\n\n", EMPTY)[1] == ""
    assert journal.read_records(line[:-1], EMPTY)[1] == "the last line is not finished"
    for space in (b"\n", b"\n\n"):
        assert journal.read_records(space + line, EMPTY) == (EMPTY, "more follows the space at the end")


def test_what_the_quick_way_takes() -> None:
    """`apply_plain` takes each record that only sets fields, and no other, as `apply` behind all the checks would."""
    first = journal.replay(lines(1, durable=True)[0]).journal.state
    plain = {"crc": "0" * 8, "rev": 2, "at": AT, "by": "x", "set": {"n": 2}}
    last = first._replace(rev=REV_MAX - 1)
    for state, given in (
        (first, plain),
        (first, {**plain, "durable": True}),
        (first, {**plain, "at": TIME_MAX_US - 1}),
        (last, {**plain, "rev": REV_MAX}),
    ):
        quick, slow = journal._Entry(state), journal._Entry(state)
        assert quick.apply_plain(given, "12345678"), given
        slow.apply(given, "12345678")
        assert quick.state() == slow.state()
    for state, given in (
        (first, {**plain, "rev": 1}), (first, {**plain, "rev": 0}), (first, {**plain, "rev": 3}),
        (first, {**plain, "rev": 2.0}), (first, {**plain, "at": AT - 1}), (first, {**plain, "at": TIME_MAX_US}),
        (first, {**plain, "at": AT + 0.0}), (first, {**plain, "by": None}), (first, {**plain, "set": []}),
        (first, {**plain, "durable": False}), (first, {**plain, "unset": []}), (ABSENT, {**plain, "rev": 1}),
        (first._replace(rev=REV_MAX), {**plain, "rev": REV_MAX + 1}),
    ):  # fmt: skip
        entry = journal._Entry(state)
        assert not entry.apply_plain(given, "12345678"), given
        assert entry.state() == state


@pytest.mark.parametrize("split", [1, 2])
def test_reading_on_equals_reading_anew(split: int) -> None:
    """Applying what was added to a remembered state gives the state of the whole."""
    made = lines(3, durable=True)
    first = journal.replay(b"".join(made[:split])).journal
    assert journal.replay(b"".join(made[split:]), first) == journal.replay(b"".join(made))


def test_a_deleted_session_begins_again_at_one() -> None:
    """delete ends an incarnation; the next begins with its own id, key and revision 1, and time goes on."""
    made = lines(2, durable=True)
    gone = disk.line({"rev": 3, "at": AT + 9, "by": "x", "durable": True, "delete": True})
    found = journal.replay(b"".join(made) + gone)
    assert found.damage is None
    assert not found.journal.state.exists
    again = {"rev": 1, "at": AT + 10, "by": "x", "durable": True, "id": "1" * 24, "key": "k", "put": {"m": 1}}
    found = journal.replay(b"".join(made) + gone + disk.line(again))
    assert found.damage is None
    assert (found.journal.state.rev, found.journal.state.fields) == (1, {"m": b"1"})
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
    first = journal.replay(made[0]).journal
    on = journal.replay(
        disk.line({"rev": 2, "at": AT, "by": "x", "delete": True}) + disk.line({**again, "rev": 4}), first
    )
    assert on.damage is not None
    assert on.damage.reason == "a journal begins again with revision 4"
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
        assert journal.replay(data).journal.state.size == len(
            json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
        )


# Any journal, read in any steps


def signed(rest: bytes) -> bytes:
    """Return a line with a right checksum of anything."""
    return b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)


def strange(rng: random.Random, state: State) -> bytes:
    """Return a line that no writer makes, mostly behind a right checksum."""
    rev, at = state.rev + 1, state.updated_at
    tail = b'"rev":%d,"at":%d,"by":"x","set":{"n":1}' % (rev, at)
    return rng.choice([
        signed(tail + b"},{" + tail + b"}"),
        signed(tail + b'}, "more"'),
        signed(tail + b',"set":[1]}'),
        signed(tail + b',"durable":1}'),
        signed(tail),
        signed(tail.replace(b'"rev":%d' % rev, b'"rev":%d.0' % rev) + b"}"),
        signed(tail.replace(b'"rev":%d' % rev, b'"rev":true') + b"}"),
        signed(tail.replace(b'"rev":%d' % rev, b'"rev":%d' % (rev + 1)) + b"}"),
        signed(tail.replace(b'"at":%d' % at, b'"at":%d' % (at - 1)) + b"}"),
        signed(tail.replace(b'"by":"x"', b'"by":7') + b"}"),
        signed(tail.replace(b'"by":"x",', b"") + b"}"),
        signed(tail.replace(b'{"n":1}', b"7") + b"}"),
        b"\n", b"\n\n", b"{}\n", b"[1]\n", b"7\n", b"\0" * 30 + b"\n", tail[:9] + b"\n",
        (signed(tail + b"}"))[:-1], signed(tail + b"}")[:-1] + b"x",
    ])  # fmt: skip


def journal_of_any_kind(rng: random.Random) -> Iterator[bytes]:
    """Yield a journal of plain changes for the most part."""
    line, state = next_record(ABSENT, FIRST, "key", "me", durable=False)
    yield line
    for _ in range(rng.randrange(12)):
        change = Change({rng.choice("abn"): b"%d" % rng.randrange(999) for _ in range(rng.randrange(1, 4))}, [])
        kind = rng.random()
        if kind < 0.05:
            change = Change({}, [next(iter(state.fields or ["n"]))])
        elif kind < 0.1:
            change = Change({"z": b"[1,{}]"}, [], whole=True)
        elif kind < 0.13:
            change = Change({}, [], delete=True)
        elif kind < 0.17:
            yield strange(rng, state)
        if state.fields is None:
            change = FIRST
        line, state = next_record(state, change, "key", rng.choice(["me", "you"]), durable=rng.random() < 0.3)
        yield line
    yield rng.choice([b"", b"\n", b"\n\n\n\n", b'{"crc":"0'])


def spoilt(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return data
    place = rng.randrange(len(data))
    return rng.choice([data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]])


@pytest.mark.parametrize("seed", range(4))
def test_reading_on_from_anywhere_gives_what_reading_everything_gives(seed: int) -> None:
    """Whoever takes over, the index and history read the same state, in steps of one record or from any of them on."""
    rng = random.Random(seed)
    steps_seen = 0
    for _ in range(JOURNALS):
        data = spoilt(rng, b"".join(journal_of_any_kind(rng)))
        whole = journal.replay(data)
        states = list(journal.history(data))
        steps, before = [EMPTY], None
        while steps[-1] is not before:
            before = steps[-1]
            steps.append(journal.read_records(data, before, place=before.end, most=1)[0])
        steps.pop()
        steps_seen += len(steps)
        assert [step.state for step in steps[1:]] == states
        assert steps[-1] == whole.journal
        for base in steps[1:]:
            on = journal.replay(data[base.end :], base)
            assert on == whole, (data, base.end)
            assert list(on.journal.state.fields or ()) == list(whole.journal.state.fields or ())
    assert steps_seen > 4 * JOURNALS


def test_what_is_written_is_what_is_read() -> None:
    """The state that next_record gives is the one that its lines lead to, member by member and in the fields' order."""
    rng = random.Random(5)
    for _ in range(300):
        state, data = ABSENT, b""
        for _ in range(rng.randrange(1, 9)):
            fields = {rng.choice("abcd"): rng.choice([b"1", b'"x"', b"[]"]) for _ in range(rng.randrange(1, 4))}
            change = Change(fields, [], whole=state.fields is None)
            if state.fields and rng.random() < 0.4:
                gone = [name for name in state.fields if rng.random() < 0.5 and name not in fields]
                change = rng.choice([Change({}, [], delete=True), Change(fields, gone), Change(fields, [], whole=True)])
            line, state = next_record(state, change, "key", "me", durable=rng.random() < 0.5)
            data += line
            read = journal.replay(data).journal.state
            assert read == state
            assert list(read.fields or ()) == list(state.fields or ())
        if state.fields is not None:
            rewritten = journal.replay(whole_record(state)).journal
            assert rewritten.state == state
            assert rewritten.state.version == state.version


@pytest.mark.parametrize("depth", [200, 240, 254, 255, 300, 500])
@pytest.mark.parametrize("durable", [False, True])
def test_what_is_nested_too_deeply_to_be_written_is_damage(depth: int, durable: bool) -> None:
    """Another program wrote it, behind a right checksum. Salvage leaves that record out."""
    deep: Any = 1
    for _ in range(depth):
        deep = [deep]
    flag = {"durable": True} if durable else {}
    data = lines(1, durable=durable)[0] + disk.line(
        {"rev": 2, "at": AT + 1_000_000, "by": "me", **flag, "set": {"d": deep}}
    )
    found = journal.replay(data)
    assert (found.damage is None) == (found.journal.state.rev == 2)
    assert depth > 240 or found.damage is None
    assert depth <= 254 or found.damage is not None
    saved = journal.salvage(data, "6b0d").state
    assert saved is not None
    assert (saved.fields or {}).keys() == {"n", "pad", *(() if depth > 240 else ("d",))} or depth == 254


def test_an_unfinished_line_is_not_finished_by_what_follows() -> None:
    """A whole record without its newline, and one byte more, is no record yet."""
    line, state = next_record(ABSENT, FIRST, "key", "me", durable=False)
    more, _ = next_record(state, Change({"n": b"1"}, []), "key", "me", durable=False)
    base = journal.replay(line).journal
    for tail in (more[:-1], more[:-1] + b"x"):
        found = journal.replay(tail, base)
        assert (found.journal, found.damage) == (base, None)
        assert found.tail == tail


def test_three_lines_are_not_read_as_one_text() -> None:
    """Three lines, each behind a right checksum, that are values only when they are joined, are damage."""
    line, state = next_record(ABSENT, FIRST, "key", "me", durable=False)
    at = state.updated_at
    data = (
        signed(b'"rev":2,"at":%d,"by":"x","set":{"n":[1' % at)
        + signed(b'"x":1}]}}')
        + signed(b'"rev":3,"at":%d,"by":"x","set":{}},{"rev":4,"at":%d,"by":"x","set":{"n":2}}' % (at, at))
    )
    found = journal.replay(data, journal.replay(line).journal)
    assert found.journal.state == state
    assert found.damage is not None


# Lines that somebody's tool converted


def test_lines_that_end_in_cr_lf_are_read_and_told() -> None:
    """A converted file is whole; a record that ends in CR by itself is not taken for one."""
    made = lines(3, durable=True)
    plain = journal.replay(b"".join(made)).journal
    for converted in ([0], [1], [0, 1, 2]):
        data = b"".join(one.replace(b"\n", b"\r\n") if n in converted else one for n, one in enumerate(made))
        found = journal.replay(data)
        assert found.damage is None
        assert found.journal == plain._replace(end=len(data), crlf=True)
        for space in (b"\r\n" * 9 + b"\n", b"\r\r\n" * 9, b"\r\n" * 70_000):
            assert journal.replay(data + space) == found
    assert not plain.crlf


# Times and bounds


def changes(*pairs: tuple[int, int]) -> bytes:
    """Return a journal of records with these revisions and times."""
    first, *more = pairs
    head = {"rev": first[0], "at": first[1], "by": "x", "id": "0" * 24, "key": "k", "put": {"n": 1}}
    return disk.line(head) + b"".join(disk.line({"rev": r, "at": at, "by": "x", "set": {"n": r}}) for r, at in more)


@pytest.mark.parametrize(
    ("back", "whole"), [(0, True), (1, False), (DAY_US, False), (DAY_US + 1, True), (AT - 1, True)]
)
def test_time_steps_back_by_more_than_a_day_or_not_at_all(back: int, whole: bool) -> None:
    found = journal.replay(changes((1, AT), (2, AT - back)))
    assert (found.damage is None) is whole
    if whole:
        assert found.journal.state.updated_at == AT - back
        assert found.journal.state.created_at == AT


@pytest.mark.parametrize(
    ("rev", "at", "whole"),
    [
        (REV_MAX, AT, True),
        (REV_MAX + 1, AT, False),
        (0, AT, False),
        (-1, AT, False),
        (5, 0, True),
        (5, TIME_MAX_US - 1, True),
        (5, TIME_MAX_US, False),
        (5, -1, False),
    ],
)
def test_numbers_outside_their_bounds_are_damage(rev: int, at: int, whole: bool) -> None:
    """A right checksum does not make a number that no date, or no other program, can hold."""
    assert (journal.replay(changes((rev, at))).damage is None) is whole


def test_salvage_takes_every_whole_record() -> None:
    """What is left of a damaged journal is one state of a new incarnation, and says which revisions are missing."""
    made = lines(6, durable=True)
    made[2] = b"X" + made[2][1:]
    made[4] = made[4][:-9] + b"!" + made[4][-8:]
    found = journal.salvage(b"".join(made), "f" * 24)
    assert found.missing == (3, 5)
    assert found.state is not None
    assert (found.state.rev, found.state.incarnation, found.state.created_at) == (7, "f" * 24, AT)
    assert found.state.fields is not None
    assert found.state.fields["n"] == b"6"
    assert journal.salvage(b"noise", "f" * 24) == (None, ())
    assert found.state.key == "k"
    assert found.state.updated_at == AT + 6
    assert found.state.tag == made[5][8:16].decode()


def test_salvage_of_converted_lines_of_changes_alone_and_of_times_that_went_back() -> None:
    """What is whole counts wherever it stands; of times and revisions the latest, of creations the first."""
    made = lines(3, durable=True)
    whole = journal.salvage(b"".join(made), "f" * 24)
    assert journal.salvage(b"".join(one.replace(b"\n", b"\r\n") for one in made), "f" * 24) == whole
    back = journal.salvage(b"".join([made[0], made[2], made[1]]), "f" * 24)
    assert back.state is not None
    assert (back.state.rev, back.state.updated_at, back.state.created_at) == (4, AT + 3, AT)
    changes_alone = journal.salvage(made[1] + made[2], "f" * 24)
    assert changes_alone.state is not None
    assert (changes_alone.state.key, changes_alone.state.created_at, changes_alone.missing) == (None, AT + 2, ())
    assert changes_alone.state.fields == {"n": b"3", "pad": b'"%b"' % (b"3" * 20)}


def test_salvage_names_no_revision_below_the_first_and_not_too_many() -> None:
    """A journal that was rewritten begins with a later one; a planted number may be the largest there is."""
    head = {"rev": 5, "at": AT, "by": "x", "id": "0" * 24, "key": "k", "created": AT - 7, "put": {"n": 1}}
    for rev, missing in (
        (6, range(0)),
        (8, range(6, 8)),
        (100_005, range(6, 100_005)),
        (100_007, range(7, 100_007)),
        (REV_MAX, range(REV_MAX - 100_000, REV_MAX)),
    ):
        found = journal.salvage(
            disk.line(head) + disk.line({"rev": rev, "at": AT, "by": "x", "set": {"n": 2}}), "f" * 24
        )
        assert found.missing == tuple(missing)
        assert found.state is not None
        assert (found.state.rev, found.state.created_at) == (min(rev + 1, REV_MAX), AT - 7)
    for rev in (1, 2):
        found = journal.salvage(disk.line({**head, "rev": rev}), "f" * 24)
        assert found.missing == ()


# The same session under another key


@pytest.mark.parametrize("converted", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_journal_under_another_key(count: int, converted: bool) -> None:
    """The present incarnation, with its times and versions; lines that a tool converted are as they were written."""
    gone = disk.line({"rev": 3, "at": AT + 9, "by": "x", "durable": True, "delete": True})
    again = {"rev": 1, "at": AT + 10, "by": "x", "durable": True, "id": "1" * 24, "key": "k", "put": {"m": 1}}
    more = [disk.line({"rev": n, "at": AT + 10 + n, "by": "x", "set": {"m": n}}) for n in (2, 3)]
    present = [disk.line(again), *more][:count]
    data = b"".join([*lines(2, durable=True), gone, *present])
    if converted:
        data = data.replace(b"\n", b"\r\n")
    text, found = journal.with_key(data, "other")
    assert disk.records(text)[0] == {**disk.records(present[0])[0], "crc": text[8:16].decode(), "key": "other",
                                     "tag": present[0][8:16].decode()}  # fmt: skip
    assert text.split(b"\n")[1:-1] == [line[:-1] for line in present[1:]]
    assert journal.replay(text) == (found, b"", None)
    assert found.state == journal.replay(data).journal.state._replace(key="other")
