"""Rows: the quick reading of a shard gives what the careful one gives, within the bounds of the projection."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardstore._files.index.rows import CUT_ANY, Other, Projection, Row, digest_of, row_of_bytes, row_of_state
from shardstore._files.layout import shard_name
from shardstore._journal import replay as journal
from tests.support import disk

KEY = "agent:main:main"
NAME = shard_name(KEY)

texts = st.text(max_size=300) | st.sampled_from(
    ["x" * 254, "x" * 255, '"' * 127, '"' * 128, "\x01" * 42, "\x01" * 43, "é" * 127]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
entries = st.dictionaries(st.text(max_size=12), values, max_size=40)


def record(rev: int, at: int, **rest: Any) -> bytes:
    return disk.line({"rev": rev, "at": at, "by": "me", **rest})


def first(entry: dict[str, Any], rev: int = 1, at: int = 5, **rest: Any) -> bytes:
    return record(rev, at, id="6b0c", key=rest.pop("key", KEY), **rest, put=entry)


@given(entries, st.lists(st.sampled_from("abc"), unique=True))
def test_the_quick_reading_is_the_careful_one(entry: dict[str, Any], named: list[str]) -> None:
    """One record and room, read without replaying: the same row as of the replayed state."""
    projection = Projection(named)
    data = first(entry) + b"\n" * 7
    state = journal.replay(data).state
    row = row_of_bytes(NAME, data, projection)
    assert row == row_of_state(NAME, state, projection)
    assert isinstance(row, Row)
    assert row.size == state.size == len(orjson.dumps(entry))


steps = st.one_of(
    st.tuples(st.just("set"), entries.filter(bool)),
    st.tuples(st.just("unset"), st.lists(st.text(max_size=3), min_size=1, max_size=3)),
    st.tuples(st.just("put"), entries),
    st.tuples(st.sampled_from(["delete", "torn", "gap", "back"]), st.none()),
)


@settings(max_examples=60)
@given(entries, st.lists(steps, max_size=5))
def test_the_quick_reading_of_any_journal(entry: dict[str, Any], changes: list[tuple[str, Any]]) -> None:
    """Changes, removals, deletions, tears, gaps: what the careful reading says."""
    data, rev = first(entry), 1
    for kind, value in changes:
        rev += 2 if kind == "gap" else 1
        at = 1 if kind == "back" else 5 + rev
        if kind == "torn":
            data += b'{"crc":"0123'
        elif kind == "delete":
            data += record(rev, at, delete=True)
        else:
            data += record(rev, at, **({kind: value} if value is not None else {"set": {"x": 1}}))
    found = journal.replay(data)
    row = row_of_bytes(NAME, data, Projection(None))
    if found.damage is not None:
        assert isinstance(row, Other)
        assert row.kind == "damaged"
    else:
        assert row == row_of_state(NAME, found.state, Projection(None))


@given(entries)
def test_the_bounds_of_the_projection(entry: dict[str, Any]) -> None:
    """No value above 256 bytes, not more than 4 KB together; what is not there is named as cut."""
    row = row_of_bytes(NAME, first(entry), Projection(None))
    assert isinstance(row, Row)
    fields = orjson.loads(row.fields)
    assert len(row.fields) <= 4096
    assert orjson.dumps(fields) == row.fields
    assert all(len(orjson.dumps(value)) <= 256 for value in fields.values())
    assert fields == {name: entry[name] for name in fields}
    cut = (
        []
        if row.cut is None
        else orjson.loads(row.cut)
        if row.cut != CUT_ANY
        else [n for n in entry if n not in fields]
    )
    assert set(cut) == set(entry) - set(fields)


def test_named_fields_come_first() -> None:
    """They have the room before the others, in the order named; the others follow in the entry's."""
    entry = {f"f{n:02}": "y" * 200 for n in range(30)} | {"late": 1, "last": 2}
    fields = orjson.loads(row_of_bytes(NAME, first(entry), Projection(["last", "late", "f29", "none"])).fields)  # type: ignore[union-attr]
    assert list(fields)[:4] == ["last", "late", "f29", "f00"]
    assert "f28" not in fields
    without = orjson.loads(row_of_bytes(NAME, first(entry), Projection(None)).fields)  # type: ignore[union-attr]
    assert "f29" not in without


def test_projections_differ_by_their_digest() -> None:
    """A catalogue that was made for other fields is not believed."""
    assert Projection(["a"]).digest != Projection(["b"]).digest != Projection(None).digest
    assert Projection(None).digest == Projection([]).digest
    assert Projection(["a", "b"]).digest != Projection(["ab"]).digest


def test_too_many_cut_names_are_any() -> None:
    """The list of what was cut is bounded too."""
    entry = {f"{'n' * 30}{n}": "z" * 300 for n in range(40)}
    row = row_of_bytes(NAME, first(entry), Projection(None))
    assert isinstance(row, Row)
    assert (row.fields, row.cut) == (b"{}", CUT_ANY)


MANY = first({"a": 1, "b": "x" * 300}) + record(2, 6, set={"a": 2}) + record(3, 7, unset=["b"])


@pytest.mark.parametrize(
    ("data", "rev", "updated", "fields"),
    [
        (first({"a": 1}), 1, 5, b'{"a":1}'),
        (first({}), 1, 5, b"{}"),
        (first({"a": 1}, rev=9, at=12, created=3), 9, 12, b'{"a":1}'),
        (MANY, 3, 7, b'{"a":2}'),
        (MANY + b'{"crc":"torn', 3, 7, b'{"a":2}'),
        (MANY + b"\n" * 100, 3, 7, b'{"a":2}'),
        (first({"a": 1}) + record(2, 6, delete=True) + first({"z": 0}, at=9), 1, 9, b'{"z":0}'),
        (first({"put": {"rev": 7}}), 1, 5, b'{"put":{"rev":7}}'),
    ],
)
def test_rows_of_journals(data: bytes, rev: int, updated: int, fields: bytes) -> None:
    """Whatever the journal is like."""
    row = row_of_bytes(NAME, data, Projection(None))
    assert isinstance(row, Row)
    assert (row.digest, row.key, row.rev, row.updated, row.fields) == (digest_of(NAME), KEY, rev, updated, fields)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "absent"),
        (b"\n" * 4096, "absent"),
        (first({"a": 1}) + record(2, 6, delete=True), "absent"),
        (b'{"crc":"9f1c2a3b","rev":1', "absent"),
        (first({"a": 1}, key="another"), "damaged"),
        (first({"a": 1}, key="another") + record(2, 6, set={"a": 2}), "damaged"),
        (first({"a": 1}, key="x" * 5000), "damaged"),
        (first({"a": 1}).replace(b"main", b"mAin"), "damaged"),
        (first({"a": 1}) + b"noise\n" + record(2, 6, durable=True, set={"a": 2}), "damaged"),
        (record(1, 5, set={"a": 1}), "damaged"),
        (disk.line({"rev": 1, "at": 5, "by": "me", "id": "x", "key": KEY, "put": [1]}), "damaged"),
    ],
)
def test_what_is_no_session(data: bytes, kind: str) -> None:
    """Absent and damaged are two things, and neither is a row."""
    row = row_of_bytes(NAME, data, Projection(None))
    assert isinstance(row, Other)
    assert row.kind == kind
