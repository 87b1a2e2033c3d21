"""Reading many plain changes in one go gives exactly what reading them one by one gives, whatever stands among them."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

import pytest

from shardstore._journal import replay as journal
from shardstore._journal.replay import ABSENT, Change, State, make_record

JOURNALS = 400
FIRST = Change({"n": b"0", "name": b'"x"'}, [], whole=True)


def signed(rest: bytes) -> bytes:
    """Make a line with a right checksum of anything."""
    return b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)


def strange(rng: random.Random, state: State) -> bytes:
    """Make a line that is not plain, mostly behind a right checksum."""
    rev, at = state.rev + 1, state.updated_at
    tail = b'"rev":%d,"at":%d,"by":"x","set":{"n":1}' % (rev, at)
    return rng.choice([
        signed(tail + b"},{" + tail + b"}"),
        signed(tail + b'}, "more"'),
        signed(tail + b',"extra":1}'),
        signed(tail + b',"set":[1]}'),
        signed(tail + b',"durable":1}'),
        signed(tail + b',"durable":false}'),
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


def lines(rng: random.Random) -> Iterator[bytes]:
    """Make a journal of plain changes for the most part."""
    line, state = make_record(ABSENT, FIRST, "key", "me", 1000, durable=False)
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
        elif kind < 0.2:
            yield strange(rng, state)
        if state.fields is None:
            change = FIRST
        line, state = make_record(state, change, "key", rng.choice(["me", "you"]), None, durable=rng.random() < 0.3)
        yield line
    yield rng.choice([b"", b"\n", b"\n\n\n\n", b'{"crc":"0'])


def spoilt(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return data
    place = rng.randrange(len(data))
    return rng.choice([data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]])


@pytest.mark.parametrize("seed", range(4))
def test_one_go_is_one_by_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    together, follow = 0, journal._follow
    for _ in range(JOURNALS):
        data = spoilt(rng, b"".join(lines(rng)))
        steps = [ABSENT, *(step for step in journal.states(data) if isinstance(step, State))]
        for base in steps:
            tail = data[base.end :]
            found = journal.replay(tail, base)
            together += follow(tail, base).records > base.records + 3
            with monkeypatch.context() as patch:
                patch.setattr(journal, "_follow", lambda data, state: state)
                assert found == journal.replay(tail, base), (tail, base)
            assert found.state == steps[-1]
            assert list(found.state.fields or ()) == list(steps[-1].fields or ())
    assert together > JOURNALS // 4


def test_lines_that_are_no_values_by_themselves_are_not_joined_to_some() -> None:
    """Three lines, each behind a right checksum, that are three values only when they are read as one text."""
    _, state = make_record(ABSENT, FIRST, "key", "me", 1000, durable=False)
    at = state.updated_at
    data = (
        signed(b'"rev":2,"at":%d,"by":"x","set":{"n":[1' % at)
        + signed(b'"x":1}]}}')
        + signed(
            b'"rev":3,"at":%d,"by":"x","set":{}},{"crc":"00000000","rev":4,"at":%d,"by":"x","set":{"n":2}}' % (at, at)
        )
    )
    found = journal.replay(data, state)
    assert found.state == state
    assert found.damage is not None


def test_an_unfinished_line_is_not_finished_by_reading_many() -> None:
    """A whole record without its newline, and one byte more, is no record yet."""
    _, state = make_record(ABSENT, FIRST, "key", "me", 1000, durable=False)
    more, _ = make_record(state, Change({"n": b"1"}, []), "key", "me", None, durable=False)
    for tail in (more[:-1], more[:-1] + b"x"):
        found = journal.replay(tail, state)
        assert found.state == state
        assert journal._follow(tail, state) == state
