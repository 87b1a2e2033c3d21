"""Rows: what the catalog holds of a shard, within bounds."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardstore._files.direct.rows import NoSession, SessionRow, ShardProjection
from shardstore._files.layout import shard_name
from shardstore._journal import replay as journal
from shardstore._order import sort_key
from shardstore._row import CUT_ANY, Candidate
from shardstore.session import SessionInfo
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


def found(data: bytes, *indexed: str) -> SessionRow | NoSession:
    """Return what the index makes of a journal."""
    return ShardProjection(indexed).of_journal(NAME, journal.replay(data).journal)


@given(entries)
def test_the_bounds_of_the_projection(entry: dict[str, Any]) -> None:
    """A small entry whole, else small values, not more than 4 KB together; what is not there is named as cut."""
    one = found(first(entry))
    assert isinstance(one, SessionRow)
    row = one.row
    assert row.size == len(orjson.dumps(entry))
    shown = SessionInfo(Candidate(row, KEY), "key", None).fields
    assert len(row.fields) <= 4096
    assert len(orjson.dumps(shown)) <= 4096
    assert all(len(orjson.dumps(value)) <= 256 for value in shown.values())
    fields = orjson.loads(row.fields)
    assert orjson.dumps(fields) == row.fields
    assert fields == entry if row.size <= 4096 else fields == shown
    assert shown == {name: value for name, value in fields.items() if len(orjson.dumps(value)) <= 256}
    assert fields == {name: entry[name] for name in fields}
    cut = (
        []
        if row.cut is None
        else orjson.loads(row.cut)
        if row.cut != CUT_ANY
        else [n for n in entry if n not in fields]
    )
    assert set(cut) == set(entry) - set(fields)


def test_indexed_fields_come_first() -> None:
    """They have the room before the others, in the order named; the others follow in the entry's."""
    entry = {f"f{n:02}": "y" * 200 for n in range(30)} | {"late": 1, "last": 2}
    fields = orjson.loads(found(first(entry), "last", "late", "f29", "none").row.fields)  # type: ignore[union-attr]
    assert list(fields)[:4] == ["last", "late", "f29", "f00"]
    assert "f28" not in fields
    without = orjson.loads(found(first(entry)).row.fields)  # type: ignore[union-attr]
    assert "f29" not in without


def test_projections_differ_by_their_settings() -> None:
    """A catalog that was made for other fields is not believed."""
    assert len({ShardProjection(fields).settings for fields in (["a"], ["b"], None, ["a", "b"], ["ab"])}) == 5
    assert ShardProjection(None).settings == ShardProjection([]).settings


def test_indexed_fields_have_columns_whatever_their_size() -> None:
    """The sort key of the whole value; None where there is no such field."""
    one = found(first({"a": "x" * 5000, "b": None}), "a", "b", "c")
    assert isinstance(one, SessionRow)
    assert one.columns == (sort_key("x" * 5000), sort_key(None), None)
    assert one.row.fields == b'{"b":null}'


def test_too_many_cut_names_are_any() -> None:
    """The list of what was cut is bounded too."""
    entry = {f"{'n' * 30}{n}": "z" * 300 for n in range(40)}
    one = found(first(entry))
    assert isinstance(one, SessionRow)
    assert (one.row.fields, one.row.cut) == (b"{}", CUT_ANY)


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
    one = found(data)
    assert isinstance(one, SessionRow)
    assert (one.name, one.row.key, one.row.rev, one.row.updated, one.row.fields) == (NAME, KEY, rev, updated, fields)


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
    ],
)
def test_what_is_no_session(data: bytes, kind: str) -> None:
    """Absent and damaged are two things, and neither is a row."""
    one = found(data)
    assert isinstance(one, NoSession)
    assert one.kind == kind
