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


@pytest.mark.parametrize("name", INVALID)
def test_each_value_that_json_cannot_hold_is_refused(name: str) -> None:
    """Alone, in a list and in a dict: enums too, which are equal to what would be written."""
    for value in (INVALID[name], [INVALID[name]], {"k": INVALID[name]}):
        with pytest.raises(InvalidEntry):
            codec.encode(value, "field")


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


def nested(kind: str, depth: int) -> Any:
    """Return so many containers, each the only value in another one."""
    value: Any = 1
    for number in range(depth):
        value = [value] if kind == "lists" or (kind == "both" and number % 2) else {"k": value}
    return value


@pytest.mark.parametrize("kind", ["lists", "dicts", "both"])
@pytest.mark.parametrize("width", [1, 3])
def test_containers_nest_as_deep_as_promised(kind: str, width: int) -> None:
    """200 levels, whatever stands beside them; what is deeper is refused, up to what orjson itself can write and behind."""
    assert codec.DEPTH_MAX == 200

    def beside(value: Any, more: int) -> Any:
        return [[[]], *[value] * width] if more else {"a": {"b": {}}, **{str(n): value for n in range(width)}}

    for more in (0, 1):
        whole = beside(nested(kind, 199), more)
        assert codec.loads(codec.encode(whole, "f")) == whole
        for depth in (200, 240, 300):
            with pytest.raises(InvalidEntry, match="nested more than 200 levels deep"):
                codec.encode(beside(nested(kind, depth), more), "f")


def test_a_circle_is_named() -> None:
    """The path leads to the first container that is too deep."""
    circle: list[Any] = [0]
    circle.append(circle)
    with pytest.raises(InvalidEntry, match="inside itself") as caught:
        codec.encode(circle, "f")
    assert caught.value.path == "entry['f']" + "[1]" * 200
    ring: dict[str, Any] = {}
    ring["k"] = ring
    with pytest.raises(InvalidEntry, match="inside itself") as caught:
        codec.encode(ring, "f")
    assert caught.value.path == "entry['f']" + "['k']" * 200


def test_the_bounds_are_what_the_reference_says() -> None:
    """64 MiB of JSON; whole numbers of 64 bits, signed or not."""
    assert codec.ENTRY_BYTES_MAX == 67_108_864
    least, most = -9_223_372_036_854_775_808, 18_446_744_073_709_551_615
    for value in (least, most, [least, most], {"a": [least], "b": most}):
        assert codec.loads(codec.encode(value, "f")) == value
    for bad in (least - 1, most + 1, float("inf")):
        with pytest.raises(InvalidEntry) as caught:
            codec.encode([least, most, bad], "f")
        assert caught.value.path == "entry['f'][2]", "a good number was named"


def test_an_item_of_a_log_has_a_path_of_its_own() -> None:
    with pytest.raises(InvalidEntry) as caught:
        codec.encode_item({"a": [1, {1, 2}]}, "log[7]")
    assert caught.value.path == "log[7]['a'][1]"
    assert codec.encode_item([1], "log[7]") == b"[1]"


def test_an_entry_is_encoded_field_by_field() -> None:
    """Its names are checked as well as its values, and joined they are its JSON."""
    assert codec.encode_entry({"a": 1, "b": []}) == {"a": b"1", "b": b"[]"}
    for wrong in (7, "\ud800"):
        with pytest.raises(InvalidEntry, match="field name"):
            codec.encode_entry({"a": 1, wrong: 2})
        with pytest.raises(InvalidEntry, match="field name"):
            codec.encode({"a": {wrong: 2}}, "f")
    for entry in ({}, {"a": 1}, {"a": 1, "\u00e9\n": [2]}, {"a": 1, "b": 2, "c": 3}):
        assert codec.loads(codec.join(codec.encode_entry(entry))) == entry
