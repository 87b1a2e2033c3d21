"""Queries: which values meet a condition, what comes first, and what a cursor may say."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from shardstore import InvalidQuery
from shardstore._journal.record import next_record
from shardstore._model import ABSENT, Change
from shardstore._row import Candidate, Row
from shardstore.query import Bounds, parse
from shardstore.session import SessionInfo


def holds(wanted: Any, *value: Any) -> bool:
    """Return whether a value meets a condition; without one, whether an entry without the field does."""
    (condition,) = parse(where={"f": wanted}).conditions
    return condition.holds({"f": value[0]} if value else {})


MET: list[tuple[Any, list[Any], list[Any]]] = [
    (5, [5, 5.0], [True, "5", [5], 6]),
    (True, [True], [1, 1.0, "true"]),
    (None, [None], [0, False, ""]),
    ([1, {"a": True}], [[1, {"a": True}]], [[1, {"a": 1}], [1], [1, {"a": True}, 2]]),
    (("!=", 5), [6, "5", True], [5, 5.0]),
    (("<", 5), [4, 4.5, -1], [5, "4", True, None]),
    (("<=", 5), [5, 5.0, 4], [6, "5", False]),
    ((">", "b"), ["c", "ba", "é"], ["b", "a", 99]),
    ((">=", "b"), ["b", "c"], ["a", None]),
    (("in", [1, "x", None]), [1, 1.0, "x", None], [True, "1", []]),
    (("in", []), [], [1, None]),
    (("exists", True), [None, 0], []),
    (("exists", False), [], [None, 0]),
]


@pytest.mark.parametrize(("wanted", "met", "unmet"), MET, ids=[str(one[0]) for one in MET])
def test_values_compare_as_json(wanted: Any, met: list[Any], unmet: list[Any]) -> None:
    """A bool is no number, 5 and 5.0 are equal, and another type does not match."""
    assert [value for value in met if not holds(wanted, value)] == []
    assert [value for value in unmet if holds(wanted, value)] == []


def test_an_absent_field_meets_two_conditions_alone() -> None:
    met = [wanted for wanted, _, _ in MET if holds(wanted)]
    assert met == [("!=", 5), ("exists", False)]


def row(key: str, **changes: Any) -> Row:
    return Row(key, 1, "v", 10, 20, 30, 0, b"{}")._replace(**changes)


def test_bounds_include_since_and_exclude_before() -> None:
    bounds = Bounds(updated_since=20, updated_before=30, larger_than=5)
    admitted = [(20, 6), (29, 6), (19, 6), (30, 6), (20, 5)]
    assert [bounds.admit(row("k", updated=at, size=size)) for at, size in admitted] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("f", ["c", "a", "b", "d"]),
        ("-f", ["a", "b", "c", "d"]),
        ("size", ["a", "b", "c", "d"]),
        ("-key", ["d", "c", "b", "a"]),
    ],
)
def test_rows_without_the_field_come_last_and_equal_ones_by_key(order_by: str, expected: list[str]) -> None:
    values = {"a": {"f": 2}, "b": {"f": 2}, "c": {"f": 1}, "d": {}}
    query = parse(order_by=order_by)
    found = [query.candidate(row(key), entry) for key, entry in values.items()]
    ranked = sorted((one for one in found if one is not None), key=query.rank)
    assert [one.row.key for one in ranked] == expected


def test_after_begins_behind_its_row() -> None:
    """Also where the row itself is gone, or has another value by now."""
    for order_by, left in (("key", ["c"]), ("-key", ["a"]), ("-f", ["c"])):
        query = parse(order_by=order_by)
        values = {"a": {"f": 1}, "b": {"f": 1}, "c": {"f": 1}}
        last = query.info(query.candidate(row("b"), values["b"]))  # type: ignore[arg-type]
        following = parse(order_by=order_by, after=last.cursor)
        assert [key for key, entry in values.items() if following.candidate(row(key), entry)] == left


def test_large_values_are_hidden_and_count_for_the_query() -> None:
    """More than 256 bytes, and what would make all of them more than 4 KB."""
    fields = {"big": b'"%b"' % (b"x" * 300), **{f"f{n:02}": b'"%b"' % (b"y" * 250) for n in range(20)}}
    state = next_record(ABSENT, Change(fields, [], whole=True), "k", "me", durable=False)[1]
    query = parse(where={"big": "x" * 300})
    candidate = query.candidate_of(state)
    assert candidate is not None
    shown = query.info(candidate).fields
    assert "big" not in shown
    assert 10 < len(shown) < 17
    assert sum(len(json.dumps({name: value})) for name, value in shown.items()) <= 4_200
    assert parse(where={"big": "x"}).candidate_of(state) is None
    chosen = parse(fields=["big"])
    assert chosen.info(chosen.candidate_of(state)).fields == {"big": "x" * 300}  # type: ignore[arg-type]


def cursor(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


@pytest.mark.parametrize(
    "after",
    [
        "", "!", "AAAA", 7, b"x", cursor(), cursor("key", "column", "k"), cursor("key", "nothing", "k", "k"),
        cursor("key", "column", 7, "k"), cursor("key", "field", "00", "k"), cursor("key", "column", "k", 7),
        cursor(7, "column", "k", "k"), cursor("size", "column", 3, "k"), cursor("key", "absent", None, "k"),
        cursor("f", "field", "zz", "k"), cursor("f", "column", 3, "k"), cursor("size", "column", True, "k"),
    ],
)  # fmt: skip
def test_what_is_no_cursor_of_this_list_is_refused(after: Any) -> None:
    """A cursor may come from anywhere."""
    with pytest.raises(InvalidQuery):
        parse(order_by="key", after=after)


@pytest.mark.parametrize(
    "given",
    [
        {"prefix": 7}, {"order_by": ""}, {"order_by": "-"}, {"order_by": None}, {"limit": -1}, {"limit": True},
        {"offset": -1}, {"offset": 1.0}, {"bounds": Bounds(updated_since=1.5)}, {"fields": "name"}, {"fields": [7]},
        {"offset": 1, "after": SessionInfo(Candidate(Row("k", 1, "v", 1, 1, 1, 0, b"{}"), "k"), "key", None)},
        {"where": [("f", 1)]}, {"where": {7: 1}}, {"where": {"f": ("~", 1)}}, {"where": {"f": ("<",)}},
        {"where": {"f": ("<", None)}}, {"where": {"f": ("<", True)}}, {"where": {"f": ("in", "abc")}},
        {"where": {"f": ("exists", 1)}}, {"where": {"f": float("nan")}}, {"where": {"f": {1: 2}}},
    ],
    ids=str,
)  # fmt: skip
def test_what_means_nothing_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery):
        parse(**given)
