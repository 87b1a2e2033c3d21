"""The row of a session: which of its fields stand in it, to the byte. What is made of whole journals: index/test_rows.py."""

from __future__ import annotations

import orjson
import pytest

from shardstore import _codec as codec
from shardstore._row import CUT_ANY, Projection, fitting, lacks

ROOM = 4096  # bytes of a row's fields
VALUE = 256  # bytes of a value beside others that do not all fit
NAMES = 512  # bytes of the names of fields that are not in the row


def text(size: int) -> bytes:
    """Return a JSON text of so many bytes."""
    return b'"' + b"x" * (size - 2) + b'"'


def filled(size: int, last: str = "z") -> dict[str, bytes]:
    """Return fields with small values that are so many bytes as one JSON object."""
    entry = {f"f{n:02}": text(250) for n in range(15)}
    room = size - len(codec.join({**entry, last: b""}))
    assert 2 <= room <= VALUE
    return {**entry, last: text(room)}


def held(entry: dict[str, bytes], *indexed: str) -> tuple[bytes, bytes | None, bytes | None]:
    return Projection(indexed).held(entry, len(codec.join(entry)))


def test_an_entry_that_has_room_is_whole() -> None:
    """Its large values are hidden; one byte more, and they are not in the row."""
    small = {"a": text(VALUE + 1), "b": text(VALUE)}
    room = ROOM - len(codec.join({**small, "c": b""}))
    whole = {**small, "c": text(room)}
    assert held(whole) == (codec.join(whole), None, b'["a","c"]')
    larger = {**small, "c": text(room + 1)}
    assert held(larger) == (codec.join({"b": small["b"]}), b'["a","c"]', None)
    assert held({"a": b"1"}) == (b'{"a":1}', None, None)


@pytest.mark.parametrize("room", [ROOM - 1, ROOM, ROOM + 1, ROOM + 16])
def test_small_values_fill_the_room_to_the_byte(room: int) -> None:
    small = filled(room)
    entry = {**small, "large": text(ROOM)}
    fits = room <= ROOM
    fields, cut, hidden = held(entry, "f07")
    assert fields == codec.join(small if fits else {"f07": small["f07"], **{n: small[n] for n in small if n != "z"}})
    assert orjson.loads(cut or b"") == (["large"] if fits else ["z", "large"])
    assert hidden is None
    assert list(fitting(small)) == list(small if fits else list(small)[:-1])


def test_a_field_that_does_not_fit_leaves_its_room_to_the_next() -> None:
    small = filled(ROOM - 20, "y")
    assert list(fitting({"big": text(ROOM), **small, "b": text(30), "a": b"1"})) == [*small, "a"]


@pytest.mark.parametrize("over", [0, 1])
def test_the_names_of_what_is_left_out_have_bounds_too(over: int) -> None:
    entry = {"n" * (NAMES - 4 - len('"large",') + over): text(VALUE + 1), "large": text(ROOM)}
    _, cut, _ = held(entry)
    assert cut == (CUT_ANY if over else codec.kept(list(entry)))
    assert len(codec.kept(list(entry))) == NAMES + over
    assert all(lacks(cut, name) for name in entry)
    assert lacks(cut, "other") == bool(over)


def test_what_was_left_out_is_found_by_its_whole_name() -> None:
    assert not lacks(None, "a")
    assert [lacks(b'["abc","d"]', name) for name in ("abc", "d", "a", "bc", "b")] == [True, True, False, False, False]
    assert lacks(CUT_ANY, "any")


def test_indexed_fields_have_the_room_first() -> None:
    """In the order in which they are named, if they are small."""
    entry = {**filled(ROOM), "late": text(200), "large": text(ROOM), "last": text(100)}
    fields, cut, _ = held(entry, "last", "none", "large", "late")
    assert list(orjson.loads(fields))[:3] == ["last", "late", "f00"]
    assert cut is not None
    assert not lacks(cut, "late")
    assert lacks(cut, "large")
    assert Projection(("n", "m")).columns({"m": b"1"})[0] is None
