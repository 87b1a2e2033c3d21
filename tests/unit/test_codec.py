"""Strict JSON: no value changes on its way in or out, at any depth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardstore import _codec as codec
from shardstore.errors import InvalidEntry
from tests.contract.test_entries import INVALID
from tests.inputs.strategies import names, same, values


@settings(deadline=None, max_examples=300)
@given(values)
def test_json_values_round_trip(value: Any) -> None:
    """What is encoded decodes to the same value: types, signs and order included."""
    assert same(codec.loads(codec.encode(value, "f")), value)


@settings(deadline=None)
@given(
    st.recursive(
        values,
        lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(names, inner, min_size=1, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(sorted(INVALID)),
    st.data(),
)
def test_one_bad_value_anywhere_is_found(value: Any, name: str, data: st.DataObject) -> None:
    """A value that JSON cannot hold is refused wherever it hides in an otherwise good one, and the path is named."""
    holder = [value]
    place = holder
    index: Any = 0
    while isinstance(place[index], (list, dict)) and place[index] and data.draw(st.booleans()):
        place = place[index]
        index = (
            data.draw(st.sampled_from(sorted(place)))
            if isinstance(place, dict)
            else data.draw(st.integers(0, len(place) - 1))
        )
    place[index] = INVALID[name]
    with pytest.raises(InvalidEntry) as caught:
        codec.encode(holder[0], "field")
    assert caught.value.path.startswith("entry['field']")


def test_the_path_names_the_value() -> None:
    """The path reads as the expression that gives the value."""
    with pytest.raises(InvalidEntry) as caught:
        codec.encode({"a": [1, {"b c": float("nan")}]}, "origin")
    assert caught.value.path == "entry['origin']['a'][1]['b c']"
    assert "nan" in str(caught.value)
