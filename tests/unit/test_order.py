"""The order of values as bytes is the order of values."""

from __future__ import annotations

import functools
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from shardstore._order import sort_key, type_range

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | numbers | st.text(max_size=6) | st.lists(numbers, max_size=2)
TYPES = [type(None), bool, float, str, list, dict]


def rank(value: Any) -> int:
    return TYPES.index(float if type(value) is int else type(value))


def compare(a: Any, b: Any) -> int:
    """Compare in another way than by bytes."""
    if rank(a) != rank(b):
        return rank(a) - rank(b)
    if a is None or isinstance(a, list | dict):
        a, b = (json.dumps(value, separators=(",", ":"), ensure_ascii=False) for value in (a, b))
        a, b = a.encode(), b.encode()
    return (a > b) - (a < b)


@given(numbers, numbers)
@example(2**53, 2**53 + 1)
@example(float(2**53), 2**53 + 1)
@example(2**64 - 1, float(2**64))
@example(-(2**63), -(2**63) + 1)
@example(0.0, -0.0)
@example(5, 5.0)
@example(1.7976931348623157e308, 2**64 - 1)
@example(5e-324, 0)
def test_numbers_sort_exactly(a: float, b: float) -> None:
    """Also beyond what a float holds exactly; equal ones have equal bytes."""
    x, y = sort_key(a), sort_key(b)
    assert (x > y) - (x < y) == (a > b) - (a < b)


@given(st.lists(values, max_size=8))
def test_values_sort_by_type_and_value(found: list[Any]) -> None:
    """Null, false, true, numbers, texts, arrays, objects."""
    by_value = sorted(found, key=functools.cmp_to_key(compare))
    assert [sort_key(v) for v in by_value] == sorted(map(sort_key, found))


def test_the_order_of_types() -> None:
    ordered = [None, False, True, -1, 0.5, 2, "", "1", "a", "é", "\U0001f600", [1], [], {"a": 1}, {}]
    assert list(map(sort_key, ordered)) == sorted({sort_key(value) for value in ordered})


@given(values, values)
def test_the_range_of_a_type_holds_its_values(a: Any, b: Any) -> None:
    low, high = type_range(sort_key(a))
    same = rank(a) == rank(b) and (not isinstance(a, bool) or a == b)
    assert (low <= sort_key(b) < high) == same
