"""The rules of retention: a pure function from rules and a list to a plan."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from shardstore import InvalidQuery
from shardstore._retention import Retention, seconds
from shardstore._row import Candidate, Row
from shardstore.session import SessionInfo

DAY = 86_400


def info(key: str, days: float, size: int = 100) -> SessionInfo:
    """Return the line of a session that last changed so many days ago."""
    at = int((time.time() - days * DAY) * 1e6)
    return SessionInfo(Candidate(Row(key, 1, "v", at, at, size, 0, b"{}"), key), "key", None)


LISTED = [info("a:1", 40), info("a:2", 20, 500), info("b:1", 10), info("b:2", 0.5)]  # oldest change first


def rules(**given: Any) -> Retention:
    names = ("older_than", "max_entries", "max_bytes", "where", "prefix", "keep")
    return Retention.parse(**{name: given.get(name, () if name == "keep" else None) for name in names})


@pytest.mark.parametrize(
    ("given", "removed"),
    [
        ({}, []),
        ({"older_than": 15 * DAY}, ["a:1", "a:2"]),
        ({"older_than": timedelta(days=15)}, ["a:1", "a:2"]),
        ({"max_entries": 3}, ["a:1"]),
        ({"max_entries": 0}, ["a:1", "a:2", "b:1", "b:2"]),
        ({"max_entries": 4}, []),
        ({"max_bytes": 300}, ["a:1", "a:2"]),
        ({"max_bytes": 800}, []),
        ({"max_bytes": 799}, ["a:1"]),
        ({"max_entries": 2, "keep": ["a:1"]}, ["a:2", "b:1"]),
        ({"older_than": 0, "keep": ["a:*", "b:2"]}, ["b:1"]),
        ({"where": {"x": 1}}, ["a:1", "a:2", "b:1", "b:2"]),
        ({"where": {"x": 1}, "older_than": 15 * DAY}, ["a:1", "a:2"]),
        ({"prefix": "a:"}, []),
        ({"keep": ["a:1"]}, []),
    ],
)
def test_what_is_removed(given: dict[str, Any], removed: list[str]) -> None:
    """What is kept by name still counts; a prefix or a keep alone removes nothing."""
    assert [one.info.key for one in rules(**given).plan(LISTED)] == removed


def test_each_removal_says_why_and_how_old_it_is() -> None:
    plan = rules(older_than=30 * DAY, max_entries=3, max_bytes=250).plan(LISTED)
    assert [one.why for one in plan] == ["older than 30 d", "more than 250 bytes"]
    assert [round(one.age / DAY) for one in plan] == [40, 20]
    assert [one.why for one in rules(max_entries=3).plan(LISTED)] == ["more than 3 sessions"]
    assert {one.why for one in rules(where={"x": 1}).plan(LISTED)} == {"matches the filter"}


@pytest.mark.parametrize(
    ("age", "text"), [(30, "30 s"), (90, "1.5 min"), (7_200, "2 h"), (DAY, "1 d"), (1.5 * DAY, "1.5 d")]
)
def test_an_age_is_named_in_the_largest_unit(age: float, text: str) -> None:
    (removal, *_) = rules(older_than=age).plan([info("k", 400)])
    assert removal.why == f"older than {text}"


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "7d", True, timedelta(days=-1), [], 10**400])
def test_what_is_no_span_of_time_is_refused(value: object) -> None:
    """A malformed limit must never remove anything."""
    with pytest.raises(InvalidQuery):
        seconds(value)


@pytest.mark.parametrize(
    "given",
    [
        {"max_entries": -1}, {"max_entries": 1.0}, {"max_entries": True}, {"max_bytes": "9"}, {"max_bytes": -1},
        {"keep": "a:*"}, {"keep": [""]}, {"keep": [7]}, {"keep": [None]},
    ],
)  # fmt: skip
def test_a_malformed_rule_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery):
        rules(**given)
