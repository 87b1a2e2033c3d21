"""jsonable converts on purpose and refuses the rest by name; keys made of parts are taken apart again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardstore import InvalidEntry, InvalidKey, Store, join_key, jsonable, split_key


class Status(str, Enum):
    DONE = "done"


class Plain(Enum):
    DONE = "done"


class Level(IntEnum):
    HIGH = 3


class Pair(Enum):
    BOTH = (1, 2)


@dataclass
class Inner:
    tags: set[str]


@dataclass
class Outer:
    inner: Inner
    path: Path
    extra: dict[Status, Any] = field(default_factory=dict)


class Model:
    """Has what a pydantic model has."""

    def model_dump(self, *, mode: str) -> dict[str, object]:
        return {"mode": mode, "at": (1, 2)}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Status.DONE, "done"),
        (Level.HIGH, 3),
        (Pair.BOTH, [1, 2]),
        ((1, ("a", None)), [1, ["a", None]]),
        ({"x": {3, 1, 2}, "y": frozenset()}, {"x": [1, 2, 3], "y": []}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (Path("/a/b"), "/a/b"),
        (
            Outer(Inner({"b", "a"}), Path("p"), {Status.DONE: True}),
            {"inner": {"tags": ["a", "b"]}, "path": "p", "extra": {"done": True}},
        ),
        ([Model()], [{"mode": "json", "at": [1, 2]}]),
    ],
)
def test_jsonable_converts(value: object, expected: object) -> None:
    assert jsonable(value) == expected
    assert type(jsonable(value)) is type(expected)
    with Store.memory() as store:
        assert store.create("k", {"v": jsonable(value)})["v"] == expected


def test_sets_of_several_kinds_have_one_order() -> None:
    assert jsonable({"a", 1, None}) == jsonable({None, "a", 1})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, b"x"]}, "value['a'][1]"),
        ({"a": math.nan}, "value['a']"),
        ({1: 2}, "value"),
        ([2**64], "value[0]"),
        ({"k": "\ud800"}, "value['k']"),
        (Inner, "value"),
        ({"f": print}, "value['f']"),
        ({Plain.DONE: 1, "done": 2}, "value"),
    ],
)
def test_jsonable_refuses_the_rest_by_name(value: object, path: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        jsonable(value)
    assert caught.value.path == path


def test_jsonable_refuses_what_is_inside_itself() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidEntry):
        jsonable(loop)


@given(st.lists(st.text(st.characters()) | st.sampled_from(["", ":", "%", "%3A", "\0", "\ud800", "a:b"]), min_size=1))
def test_keys_are_taken_apart_again(parts: list[str]) -> None:
    key = join_key(*parts)
    assert split_key(key) == tuple(parts)
    key.encode()
    assert "\0" not in key


@given(st.lists(st.text(), min_size=1), st.integers(0), st.integers(0))
def test_a_prefix_of_the_parts_is_a_prefix_of_the_key(parts: list[str], count: int, cut: int) -> None:
    count = count % len(parts) + 1
    shorter = [*parts[: count - 1], parts[count - 1][: cut % (len(parts[count - 1]) + 1)]]
    assert join_key(*parts).startswith(join_key(*shorter))


def test_an_empty_last_part_begins_the_keys_of_the_others_alone() -> None:
    assert join_key("agent", "") == "agent:"
    assert not join_key("agent:x", "1").startswith(join_key("agent", ""))


def test_what_is_no_key_of_parts_is_refused() -> None:
    for key in ("100%", "%3a", "a:%u0041"):
        with pytest.raises(InvalidKey):
            split_key(key)
    with pytest.raises(ValueError, match="at least one"):
        join_key()
    with pytest.raises(TypeError):
        join_key("a", 1)  # type: ignore[arg-type]
