"""Strict JSON: no value changes on its way in or out, at any depth."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardstore import Store
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


def test_what_is_kept_takes_little_more_than_its_bytes() -> None:
    """What orjson returns holds 4 KB for a number: a session of 100 fields would hold 400 KB for 2."""
    count, value = 1_000, {"n": 1}
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = [
            (codec.encode(number, "n"), codec.kept(value), codec.encode_item(value, "items[0]"))
            for number in range(count)
        ]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(held) == count
    assert after - before < 400 * count


def test_sessions_in_memory_take_little_more_than_their_bytes(root: Path) -> None:
    """Those that were read, with their logs, and those that were written."""
    entry = {f"field{number}": number for number in range(100)}
    keys = [f"k{number}" for number in range(20)]
    with Store(root, durability="relaxed") as store:
        store.create_many((key, entry) for key in keys)
        for key in keys:
            store.append(key, [{"n": number} for number in range(50)])
    with Store(root, durability="relaxed") as store:
        store.get("nobody")
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for key in keys:
                store.get(key)
                store.patch(key, {"field1": 2})
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < len(keys) * 150 * 400
