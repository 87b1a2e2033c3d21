"""Snapshots: a Session and a line of a list, without a store."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from shardstore._journal.record import next_record
from shardstore._model import ABSENT, Change, State
from shardstore._row import Candidate, PackedRow, Position, Row, pack
from shardstore.query import parse
from shardstore.session import Session, SessionInfo


def state(before: State = ABSENT, **fields: bytes) -> State:
    """Commit some fields; return what they lead to."""
    return next_record(before, Change(dict(fields), [], whole=True), "k", "me", durable=False)[1]


def test_a_session_is_a_mapping_of_fresh_copies() -> None:
    session = Session("k", state(a=b"[1]", b=b'"x"'))
    assert (dict(session), list(session), len(session), "a" in session, "c" in session) == (
        {"a": [1], "b": "x"}, ["a", "b"], 2, True, False,
    )  # fmt: skip
    session["a"].append(2)
    assert session["a"] == [1]
    session.data["a"].append(2)
    assert (session["a"], session.data["a"]) == ([1], [1, 2]), "data is the caller's own"
    with pytest.raises(KeyError):
        session["c"]


def test_an_empty_session_is_one_and_a_deleted_one_is_none() -> None:
    empty = Session("k", state())
    assert (bool(empty), empty.exists, empty.data, empty.rev) == (True, True, {}, 1)
    gone = Session("k", next_record(state(a=b"1"), Change({}, [], delete=True), "k", "you", durable=False)[1])
    assert (bool(gone), gone.exists, gone.data, gone.rev, gone.actor) == (False, False, {}, 2, "you")
    never = Session("k", ABSENT)
    assert (never.rev, never.version, "absent" in repr(never)) == (0, "absent", True)


def test_equal_are_those_of_one_key_and_version() -> None:
    one = state(a=b"1")
    assert Session("k", one) == Session("k", one)
    assert hash(Session("k", one)) == hash(Session("k", one))
    assert Session("k", one) != Session("other", one)
    assert Session("k", one) != Session("k", state(one, a=b"1"))
    assert Session("k", one) != {"a": 1}


def test_a_session_can_be_pickled() -> None:
    one = Session("k", state(a=b"[1]"))
    other = pickle.loads(pickle.dumps(one))
    assert (other, other.data, other.updated_at) == (one, one.data, one.updated_at)


ROW = Row("k", 3, "i.3-t", 1_000_000, 2_500_000, 7, 2, b'{"a":1,"b":2,"c":3}', hidden=b'["b"]')


def shown(
    row: Row, order_by: str = "key", position: Position = None, only: tuple[str, ...] | None = None
) -> SessionInfo:
    """Return the line of a list that shows this row."""
    return SessionInfo(Candidate(row, position), order_by, only)


def test_a_line_shows_what_is_not_hidden_or_what_was_asked_for() -> None:
    assert shown(ROW).fields == {"a": 1, "c": 3}
    assert shown(ROW, only=("c", "b", "x")).fields == {"c": 3, "b": 2}
    assert shown(ROW._replace(hidden=None)).fields == {"a": 1, "b": 2, "c": 3}
    one = shown(ROW)
    assert one.created_at == datetime.fromtimestamp(1, UTC)
    assert one.updated_at == datetime.fromtimestamp(2.5, UTC)
    assert (one.key, one.rev, one.version, one.size, one.log_length) == ("k", 3, "i.3-t", 7, 2)


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        ROW._replace(hidden=None),
        ROW._replace(fields=b"{}", cut=b'["a","b"]', hidden=None),
        ROW._replace(
            key="\U0010ffff", fields='{"\\n":"\u2028"}'.encode(), cut=b"*", hidden=None, rev=2**53 - 1, size=2**40
        ),
    ],
)
def test_a_packed_row_says_the_same(row: Row) -> None:
    """Whichever fields it has, and also after it went to another process."""
    packed = PackedRow(row.key, 7, pack(row))
    assert packed.row == row
    one = SessionInfo(packed, "size", None)
    assert (one, hash(one), one.cursor) == (
        shown(row),
        hash(shown(row)),
        shown(row, "size", 7).cursor,
    )
    assert (one.key, one.fields, one.version) == (row.key, shown(row).fields, row.version)
    other = pickle.loads(pickle.dumps(SessionInfo(packed, "size", None)))
    assert (other, other.updated_at, other.cursor) == (one, one.updated_at, one.cursor)


def test_lines_are_equal_when_they_show_the_same() -> None:
    assert shown(ROW) == shown(ROW, "-updated_at", 2_500_000)
    assert hash(shown(ROW)) == hash(shown(ROW, "-updated_at", 2_500_000))
    assert shown(ROW) != shown(ROW, only=("b",))
    assert shown(ROW) != shown(ROW._replace(rev=4))
    assert shown(ROW) != "k"


@pytest.mark.parametrize(
    ("order_by", "position"),
    [("key", "k"), ("-updated_at", 2_500_000), ("size", 7), ("a", b"\x01\x02"), ("-a", None)],
)
def test_a_cursor_is_understood_as_the_place_that_it_was_made_at(order_by: str, position: Any) -> None:
    """Also that of a line that went through another process."""
    one = pickle.loads(pickle.dumps(shown(ROW, order_by, position)))
    for given in (one, one.cursor):
        after = parse(order_by=order_by, after=given).after
        assert after is not None
        assert (after.position, after.key) == (position, "k")
