"""list and count: which sessions, in which order, with which fields; exact, whoever changed what a moment ago."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from shardstore import InvalidQuery, SessionInfo, Store
from tests.contract import backend as peers

ENTRIES: dict[str, dict[str, Any]] = {
    "agent:main:a": {"status": "running", "tokens": 5, "model": "opus", "ok": True},
    "agent:main:b": {"status": "done", "tokens": 10, "model": "haiku", "ok": False},
    "agent:main:c": {"status": "failed", "tokens": 2.5, "model": None},
    "agent:main:d": {"status": "done", "tokens": "12", "ok": None},
    "agent:ops:a": {"status": "running", "tokens": -1, "model": "opus", "ok": True},
    "agent:ops:b": {"status": 5, "tokens": True},
    "agent:other": {},
}


@pytest.fixture
def filled(store: Store) -> Store:
    """Return a store with ENTRIES in it, made in this order."""
    for key, entry in ENTRIES.items():
        store.create(key, entry)
    return store


def keys(store: Store, **query: Any) -> list[str]:
    """List the keys, and check that count gives their number."""
    found = [info.key for info in store.list(**query)]
    if not {"limit", "offset"} & set(query):
        chosen = {name: value for name, value in query.items() if name in {"prefix", "where"}}
        assert store.count(**chosen) == len(found)
    return found


def test_list_tells_about_each_session(store: Store) -> None:
    """A SessionInfo says what the session itself says, and how large its entry is."""
    store.create("k", {"a": 1, "text": "é"})
    session = store.patch("k", {"b": [1, 2]})
    (info,) = store.list()
    assert isinstance(info, SessionInfo)
    assert (info.key, info.rev, info.version) == ("k", 2, session.version)
    assert (info.created_at, info.updated_at) == (session.created_at, session.updated_at)
    assert isinstance(info.updated_at, datetime)
    assert info.size == len(json.dumps(session.data, separators=(",", ":"), ensure_ascii=False).encode())
    assert info.fields["a"] == 1
    assert info.fields["text"] == "é"


def test_list_carries_small_fields_only(store: Store) -> None:
    """No projected value is larger than 256 bytes of JSON, and all together are at most 4 KB; the size is the whole."""
    entry: dict[str, Any] = {"small": "x" * 200, "large": "x" * 300, "edge": "x" * 254, "over": "x" * 255}
    store.create("k", entry)
    store.create("many", {f"f{n:03}": "y" * 200 for n in range(100)})
    by_key = {info.key: info for info in store.list()}
    fields = by_key["k"].fields
    assert fields["small"] == "x" * 200
    assert "large" not in fields
    assert "over" not in fields
    assert all(len(json.dumps(value).encode()) <= 256 for info in by_key.values() for value in info.fields.values())
    assert len(json.dumps(by_key["many"].fields, separators=(",", ":"))) <= 4_096
    assert by_key["k"].size > 300
    assert by_key["many"].size > 20_000


def test_the_default_order_is_newest_first(store: Store) -> None:
    """Without an order the session that was changed last comes first."""
    import time

    for key in ("a", "b", "c", "d"):
        store.create(key, {})
        time.sleep(0.003)
    store.patch("b", {"n": 1})
    assert keys(store) == ["b", "d", "c", "a"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"status": "running"}, ["agent:main:a", "agent:ops:a"]),
        ({"status": ("==", "running")}, ["agent:main:a", "agent:ops:a"]),
        ({"status": ("!=", "running")}, ["agent:main:b", "agent:main:c", "agent:main:d", "agent:ops:b", "agent:other"]),
        ({"status": ("in", ["done", "failed"])}, ["agent:main:b", "agent:main:c", "agent:main:d"]),
        ({"status": ("in", [])}, []),
        ({"status": "done", "ok": False}, ["agent:main:b"]),
        ({"tokens": (">", 2)}, ["agent:main:a", "agent:main:b", "agent:main:c"]),
        ({"tokens": (">=", 5)}, ["agent:main:a", "agent:main:b"]),
        ({"tokens": ("<", 5)}, ["agent:main:c", "agent:ops:a"]),
        ({"tokens": ("<=", 2.5)}, ["agent:main:c", "agent:ops:a"]),
        ({"tokens": (">", "1")}, ["agent:main:d"]),
        ({"tokens": 5.0}, ["agent:main:a"]),
        ({"tokens": True}, ["agent:ops:b"]),
        ({"tokens": 1}, []),
        ({"ok": True}, ["agent:main:a", "agent:ops:a"]),
        ({"ok": 1}, []),
        ({"model": None}, ["agent:main:c"]),
        ({"model": ("exists", True)}, ["agent:main:a", "agent:main:b", "agent:main:c", "agent:ops:a"]),
        ({"model": ("exists", False)}, ["agent:main:d", "agent:ops:b", "agent:other"]),
        ({"model": ("in", [None, "haiku"])}, ["agent:main:b", "agent:main:c"]),
        ({"nowhere": ("exists", False)}, list(ENTRIES)),
        ({"nowhere": "x"}, []),
        ({"status": "' OR 1=1 --"}, []),
        ({"sta\"'`;tus": "x"}, []),
        ({}, list(ENTRIES)),
        (None, list(ENTRIES)),
    ],
    ids=str,
)
def test_where_selects_by_value_and_type(filled: Store, where: Any, expected: list[str]) -> None:
    """A condition compares values of one JSON type: no number is a bool, no text a number, and absent is not null."""
    assert keys(filled, where=where, order_by="key") == expected


@pytest.mark.parametrize(
    ("prefix", "count"),
    [
        ("agent:", 7),
        ("agent:main:", 4),
        ("agent:ops:", 2),
        ("agent:main:a", 1),
        ("x", 0),
        ("", 7),
        ("AGENT:", 0),
        ("agent:%", 0),
        ("agent_", 0),
    ],
)
def test_prefix_is_taken_literally(filled: Store, prefix: str, count: int) -> None:
    """A prefix selects the keys that begin with it, letter for letter; no character in it is a wildcard."""
    expected = sorted(key for key in ENTRIES if key.startswith(prefix))
    assert len(expected) == count
    assert keys(filled, prefix=prefix, order_by="key") == expected


def test_prefix_in_any_script(store: Store) -> None:
    """Prefixes work where the next character is the last of its plane, and with any Unicode."""
    names = [
        "é",
        "éa",
        "e\u0301",
        "🙂",
        "🙂a",
        "🙂\U0010ffff",
        "\U0010ffff",
        "\U0010ffff\U0010ffff",
        "z",
        "a%b",
        "a_b",
        "axb",
        "A",
        "\x7f",
        "*",
    ]
    for name in names:
        store.create(name, {})
    for prefix in ["é", "e", "🙂", "\U0010ffff", "a%", "a_", "a", "A", "*", "\x7f"]:
        assert keys(store, prefix=prefix, order_by="key") == sorted(name for name in names if name.startswith(prefix))


@pytest.mark.parametrize(
    "order",
    ["key", "-key", "updated_at", "-updated_at", "created_at", "-created_at", "size", "-size", "tokens", "-tokens"],
)
def test_order_and_paging(filled: Store, order: str) -> None:
    """Every order sorts, its reverse sorts the other way, and pages put together give the whole, each session once."""
    whole = filled.list(order_by=order)
    assert sorted(info.key for info in whole) == sorted(ENTRIES)
    name = order.lstrip("-")
    if name == "tokens":
        values = [info.fields["tokens"] for info in whole if type(info.fields.get("tokens")) in {int, float}]
    else:
        values = [getattr(info, name) for info in whole]
    assert values == sorted(values, reverse=order.startswith("-"))
    pages = [info.key for offset in range(0, 9, 2) for info in filled.list(order_by=order, limit=2, offset=offset)]
    assert pages == [info.key for info in whole]


def test_limit_and_offset_at_their_edges(filled: Store) -> None:
    """limit 0 gives nothing, None everything, an offset past the end nothing."""
    assert keys(filled, limit=0) == []
    assert len(keys(filled, limit=None)) == 7
    assert len(keys(filled, limit=3)) == 3
    assert keys(filled, offset=7) == []
    assert keys(filled, offset=100, limit=5) == []
    assert len(keys(filled, limit=100, offset=5)) == 2


@pytest.mark.parametrize(
    "query",
    [
        {"limit": -1},
        {"limit": "5"},
        {"limit": 1.5},
        {"limit": True},
        {"offset": -1},
        {"offset": "1"},
        {"order_by": ""},
        {"order_by": "-"},
        {"order_by": 5},
        {"where": [("a", 1)]},
        {"where": "status = 'x'"},
        {"where": {"a": ("~", 1)}},
        {"where": {"a": ("in", 5)}},
        {"where": {"a": ("in", "text")}},
        {"where": {"a": ("exists", "yes")}},
        {"where": {5: 1}},
        {"where": {"a": (">", {})}},
        {"where": {"a": float("nan")}},
        {"prefix": 5},
        {"prefix": b"agent"},
    ],
    ids=str,
)
def test_a_malformed_query_is_refused(filled: Store, query: dict[str, Any]) -> None:
    """A query that means nothing raises InvalidQuery (or TypeError); it never selects everything or nothing instead."""
    with pytest.raises((InvalidQuery, TypeError)):
        filled.list(**query)
    if set(query) <= {"where", "prefix"}:
        with pytest.raises((InvalidQuery, TypeError)):
            filled.count(**query)


@pytest.mark.processes
def test_list_sees_every_change_at_once(store: Store, backend: peers.Backend, crew) -> None:
    """A list that begins after a change has returned shows it, whichever process changed and whichever lists."""
    (other,) = crew(1)
    for n in range(15):
        store.patch("mine", {"n": n})
        other.run(peers.call, backend, "patch", "theirs", {"n": n})
        for seen in (store.list(), other.run(peers.call, backend, "list")):
            assert {info.key: info.fields["n"] for info in seen} == {"mine": n, "theirs": n}
            assert {info.rev for info in seen} == {n + 1}
        assert store.count(where={"n": n}) == 2
    other.run(peers.call, backend, "delete", "mine")
    assert keys(store) == ["theirs"]
    store.create("mine", {"n": "again"})
    assert sorted(info.key for info in other.run(peers.call, backend, "list")) == ["mine", "theirs"]


def test_list_returns_the_callers_own_data(store: Store) -> None:
    """Changing what list returned changes no later answer."""
    store.create("k", {"a": [1], "b": {"c": 1}})
    (info,) = store.list()
    try:
        info.fields["a"].append(2)
        info.fields["new"] = 1  # type: ignore[index]
    except (TypeError, AttributeError, KeyError):
        pass
    assert store["k"].data == {"a": [1], "b": {"c": 1}}
    assert "new" not in store.list()[0].fields
    assert store.list()[0].fields.get("a", [1]) == [1]


def test_keys_can_be_iterated_while_the_store_changes(store: Store) -> None:
    """A loop over the keys may delete and create sessions: it neither fails nor repeats a key, nor skips one that stays."""
    for n in range(20):
        store.create(f"k{n}", {})
    seen = []
    for key in store:
        seen.append(key)
        if key.startswith("k"):
            store.delete(key)
            store.create(f"new-{key}", {})
    assert len(seen) == len(set(seen))
    assert {key for key in seen if key.startswith("k")} == {f"k{n}" for n in range(20)}
