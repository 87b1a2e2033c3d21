"""Entries: what JSON holds comes back exactly; what it does not hold is refused with the value's path."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import uuid
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardstore import InvalidEntry, Store
from tests.contract.backend import Backend


class Colour(str, enum.Enum):
    """A member is equal to its text, and yet not text."""

    RED = "red"


class Level(enum.IntEnum):
    """A member is equal to its number, and yet not one."""

    HIGH = 3


class Text(str):  # noqa: SLOT000 - as people write them
    """A subclass of str."""


class Number(int):
    """A subclass of int."""


class Real(float):
    """A subclass of float."""


@dataclass
class Record:
    """A dataclass, which some encoders take for an object."""

    a: int = 1


Point = namedtuple("Point", "x y")

VALID: dict[str, Any] = {
    "nothing": None,
    "booleans": [True, False],
    "integers": [0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)],
    "floats": [0.0, -0.0, 1.0, 0.1, 1e-300, 1.7976931348623157e308, 5e-324],
    "text": [
        "",
        "a",
        "é",
        "e\u0301",
        "日本語",
        "🙂",
        "\u2028\u2029",
        "\x00\x01\x1f\x7f",
        '"\\/\b\f\n\r\t',
        "\ufeff",
        "\U0010ffff",
    ],
    "containers": [[], {}, [[]], [{}], {"": {"": []}}],
    "names": {"": 1, "a b": 2, "é": 3, "🙂": 4, "\n": 5, '"': 6, "\x00": 7, "crc": 8},
}


@pytest.mark.parametrize("name", VALID)
def test_what_json_holds_comes_back_exactly(store: Store, elsewhere, name: str) -> None:
    """Every JSON value returns with its type, its last bit and its order, through every writing verb."""
    value = VALID[name]
    store.create("create", {"v": value})
    store.patch("patch", {"v": value})
    store.update("update", lambda draft: draft.update(v=value))
    store.update("mapping", lambda draft: {"v": value})
    store.replace("create", {"v": value})
    for reader in (store, elsewhere):
        for key in ("create", "patch", "update", "mapping"):
            assert repr(reader[key].data) == repr({"v": value})


@pytest.mark.parametrize(
    "name", ["", "crc", "rev", "put", "delete", "key", "a b", "\n", "é", "🙂", "\x00", '"', "\u2028", "x" * 5_000]
)
def test_any_text_names_a_field(store: Store, elsewhere, name: str) -> None:
    """A field may have any name, also one that the format itself uses."""
    store.create("k", {name: 1, "other": 1})
    store.patch("k", {name: 2})
    assert elsewhere["k"].data == {name: 2, "other": 1}
    store.patch("k", {}, unset=[name])
    assert elsewhere["k"].data == {"other": 1}


INVALID: dict[str, Any] = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
    "2**64": 2**64,
    "-2**63-1": -(2**63) - 1,
    "10**30": 10**30,
    "bytes": b"raw",
    "bytearray": bytearray(b"raw"),
    "set": {1},
    "frozenset": frozenset({1}),
    "tuple": (1, 2),
    "empty tuple": (),
    "namedtuple": Point(1, 2),
    "range": range(3),
    "generator": (n for n in ()),
    "complex": 1j,
    "Decimal": decimal.Decimal("1.5"),
    "datetime": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "date": dt.date(2026, 1, 1),
    "time": dt.time(1),
    "UUID": uuid.UUID(int=1),
    "Path": Path("x"),
    "dataclass": Record(),
    "str enum": Colour.RED,
    "int enum": Level.HIGH,
    "str subclass": Text("a"),
    "int subclass": Number(1),
    "float subclass": Real(1.0),
    "OrderedDict": OrderedDict(a=1),
    "defaultdict": defaultdict(int),
    "UserDict": UserDict(a=1),
    "function": len,
    "class": int,
    "object": object(),
    "lone surrogate": "\ud800",
    "integer name": {1: 2},
    "None name": {None: 2},
    "bool name": {True: 2},
    "enum name": {Colour.RED: 2},
    "surrogate name": {"\udfff": 2},
    "tuple name": {(1,): 2},
}


@pytest.mark.parametrize("nested", [False, True], ids=["at the top", "nested"])
@pytest.mark.parametrize("name", INVALID)
def test_what_json_cannot_hold_is_refused_by_path(store: Store, backend: Backend, name: str, nested: bool) -> None:
    """No writer converts or drops such a value: InvalidEntry names where it is, and nothing is written."""
    value, at = INVALID[name], ["v"]
    if nested:
        value, at = {"list": [0, {"deep": value}]}, ["v", "list", "1", "deep"]
    store.create("k", {"a": 1})
    before = backend.committed()
    writers = [
        lambda: store.create("new", {"v": value}),
        lambda: store.get_or_create("new", {"v": value}),
        lambda: store.get_or_create("new", lambda: {"v": value}),
        lambda: store.patch("k", {"v": value}),
        lambda: store.patch("new", {"v": value}),
        lambda: store.replace("k", {"v": value}),
        lambda: store.update("k", lambda draft: draft.update(v=value)),
        lambda: store.update("k", lambda draft: {"v": value}),
        lambda: store.update("new", lambda draft: draft.update(v=value)),
    ]
    for writer in writers:
        with pytest.raises(InvalidEntry) as caught:
            writer()
        assert all(part in str(caught.value) for part in at), caught.value
        assert isinstance(caught.value, ValueError)
        assert "new" not in store
    assert store["k"].data == {"a": 1}
    assert backend.committed() == before


@pytest.mark.parametrize("entry", [None, 1, "text", [], [1], [("a", 1)], True, b"{}", {1, 2}], ids=repr)
def test_an_entry_is_a_mapping(store: Store, entry: Any) -> None:
    """Only a mapping of fields is an entry."""
    store.create("k", {"a": 1})
    for attempt in (
        lambda: store.create("new", entry),
        lambda: store.get_or_create("new", entry),
        lambda: store.get_or_create("new", lambda: entry),
        lambda: store.patch("k", entry) if entry else store.replace("k", entry),  # patch(key, unset=...) is fine
        lambda: store.replace("k", entry),
    ):
        with pytest.raises((InvalidEntry, TypeError)):
            attempt()
    assert "new" not in store
    assert store["k"].data == {"a": 1}


@pytest.mark.parametrize("name", [1, None, True, ("a",), b"a", "\ud800"], ids=repr)
def test_a_field_name_is_text(store: Store, name: Any) -> None:
    """A field whose name is not text is refused by every writer, at any place."""
    store.create("k", {"a": 1})
    for attempt in (
        lambda: store.create("new", {name: 1}),
        lambda: store.patch("k", {name: 1}),
        lambda: store.replace("k", {name: 1}),
        lambda: store.update("k", lambda draft: draft.__setitem__(name, 1)),
        lambda: store.update("k", lambda draft: {name: 1}),
    ):
        with pytest.raises((InvalidEntry, TypeError)):
            attempt()
    assert "new" not in store
    assert store["k"].data == {"a": 1}


def test_a_value_inside_itself_is_refused(store: Store) -> None:
    """A structure that contains itself is an InvalidEntry and neither a crash nor an endless loop."""
    loop: dict[str, Any] = {}
    loop["self"] = [loop]
    with pytest.raises(InvalidEntry):
        store.patch("k", {"v": loop})
    with pytest.raises(InvalidEntry):
        store.update("k", lambda draft: draft.update(v=loop))
    assert "k" not in store


@pytest.mark.parametrize("depth", [100, 150, 199, 200, 201, 250, 253, 254, 255, 256, 1_000, 50_000])
def test_depth_is_either_stored_whole_or_refused(store: Store, elsewhere, depth: int) -> None:
    """Deep nesting comes back exactly or is an InvalidEntry; 150 levels are always possible."""
    for opening in (list, dict):
        value: Any = opening()
        for _ in range(depth - 1):
            value = [value] if opening is list else {"a": value}
        try:
            store.patch("k", {"v": value})
        except InvalidEntry:
            assert depth > 150
            assert "k" not in store
        else:
            assert elsewhere["k"].data == {"v": value}
            store.delete("k")


def test_unknown_fields_survive_everything_but_their_own_change(store: Store, store_factory, elsewhere) -> None:
    """Fields that this program never heard of pass through every verb untouched and in place."""
    entry = {f"known{n}": n for n in range(30)} | {f"x-unknown{n}": {"deep": [n, None]} for n in range(5)}
    store.create("k", entry)
    store.patch("k", {"known7": "changed"})
    store.update("k", lambda draft: draft.update(known8="changed"))
    with store_factory().edit("k") as draft:
        draft["known9"] = "changed"
    expected = entry | {f"known{n}": "changed" for n in (7, 8, 9)}
    for reader in (store, elsewhere):
        assert reader["k"].data == expected
        assert list(reader["k"].data) == list(entry)


def test_a_large_entry_comes_back(store: Store, elsewhere) -> None:
    """An entry of several megabytes is stored, patched and read back whole."""
    entry = {"small": 1, "blob": "é🙂\n" * 400_000, "list": list(range(50_000))}
    store.create("k", entry)
    store.patch("k", {"small": 2})
    assert elsewhere["k"].data == entry | {"small": 2}
