"""What people read: sizes, ages, values, and keys that steer nobody's terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from shardstore_cli import changes, show


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (41_234, "41.2 KB"),
        (999_949, "999.9 KB"),
        (999_951, "1.0 MB"),
        (5 * 10**9, "5.0 GB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert show.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59, "59 s"),
        (59.7, "1 min"),
        (3599, "1.0 h"),
        (5400, "1.5 h"),
        (86_400, "1.0 d"),
        (41.4 * 86_400, "41 d"),
    ],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert show.duration(seconds) == text


def test_times_are_utc() -> None:
    moment = datetime(2026, 2, 3, 4, 5, 6, 789_000, timezone(timedelta(hours=2)))
    assert show.time(moment) == "2026-02-03 02:05:06 UTC"
    assert show.iso(moment) == "2026-02-03T02:05:06.789Z"
    assert show.age(moment, datetime(2026, 2, 3, 5, 5, 6, 789_000, UTC)) == "3.0 h ago"


def test_control_characters_are_escaped() -> None:
    """A key with an escape sequence could rewrite what the terminal showed before."""
    assert show.text("a\x1b[2Jb\nc\u202ed") == "a\\x1b[2Jb\\nc\\u202ed"
    assert show.text("agent:main:ä🏡") == "agent:main:ä🏡"
    assert "\x1b" not in show.value({"x": "\x1b[31m"})


def test_long_values_are_cut_for_the_eye() -> None:
    assert show.value("x" * 100, 10) == '"xxxxxxxx…'
    assert show.value([1, None, True]) == "[1,null,true]"


def test_one_and_true_are_different_values() -> None:
    """Python says 1 == True == 1.0; an import that believed it would call a changed entry unchanged."""
    assert not changes.same({"a": 1}, {"a": True})
    assert not changes.same([1], [1.0])
    assert not changes.same({"a": None}, {})
    assert changes.same({"a": [1, {"b": 2.5, "c": ""}]}, {"a": [1, {"c": "", "b": 2.5}]})


def test_changes_tell_null_from_absent() -> None:
    found = [
        change.as_json() for change in changes.between({"a": 1, "b": None, "c": 3}, {"a": None, "c": 3, "d": None})
    ]
    assert found == [
        {"field": "a", "change": "changed", "from": 1, "to": None},
        {"field": "d", "change": "added", "to": None},
        {"field": "b", "change": "removed", "from": None},
    ]
