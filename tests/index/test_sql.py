"""From a query to SQL: what it decides, it decides rightly; what it cannot, it leaves open."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardstore._conditions import filter_of, parts_of
from shardstore._files.index.sql import SQLITE, where
from tests.index.actors import asked

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
edges = st.text(st.sampled_from("a\ud7ff\ue000\uffff\U00010000\U0010ffff"), max_size=3)


@given(texts | edges, st.lists(texts | edges, max_size=8))
def test_a_prefix_is_a_range_of_keys(prefix: str, keys: list[str]) -> None:
    """Whatever the characters, the highest code points and the gap of the surrogates among them."""
    clause, values = where(SQLITE.prefixed(prefix))
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE session(key TEXT)")
    db.executemany("INSERT INTO session VALUES(?)", [(key,) for key in [*keys, prefix + "x"]])
    found = db.execute(f"SELECT key FROM session{clause}", values)
    assert sorted(key for (key,) in found) == sorted(key for key in [*keys, prefix + "x"] if key.startswith(prefix))
    db.close()


@pytest.mark.parametrize(
    ("conditions", "exact"),
    [
        ({}, True),
        ({"n": 1}, True),
        ({"n": (">", 1)}, True),
        ({"n": ("in", [1, 2])}, True),
        ({"n": ("in", list(range(501)))}, False),
        ({"n": [1]}, False),
        ({"n": ("in", [1, {}])}, False),
        ({"n": ("exists", True)}, True),
        ({"other": 1}, False),
        ({"n": 1, "other": "x"}, False),
    ],
)
def test_what_sql_decides(conditions: dict[str, Any], exact: bool) -> None:
    """Indexed fields, but for arrays and objects."""
    assert filter_of(SQLITE, asked(where=conditions), ["n"]).exact is exact


@pytest.mark.parametrize(
    ("value", "needles"),
    [
        ("x", 1),
        (True, 1),
        (None, 1),
        (1, 0),
        (1.5, 0),
        (("in", ["x", "y"]), 1),
        (("in", ["x", 1]), 0),
        (("!=", "x"), 0),
    ],
)
def test_only_values_of_one_spelling_are_searched_for(value: Any, needles: int) -> None:
    """A number may stand in a row as 1 or as 1.0."""
    assert len(filter_of(SQLITE, asked(where={"other": value}), ["n"]).terms) == needles


@pytest.mark.parametrize(
    ("order_by", "parts"),
    [("key", 1), ("-updated_at", 1), ("n", 2), ("-n", 2), ("other", None)],
)
def test_an_order_is_one_walk_of_an_index_for_each_part(order_by: str, parts: int | None) -> None:
    """Absent fields come last, so they are a second part; an order without a column has none."""
    found = parts_of(SQLITE, asked(order_by=order_by), ["n"])
    assert (None if found is None else len(found)) == parts


def test_a_condition_that_absent_fields_fail_needs_no_second_part() -> None:
    found = parts_of(SQLITE, asked(order_by="n", where={"n": (">", 1)}), ["n"])
    assert found is not None
    assert len(found) == 1
