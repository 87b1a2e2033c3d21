"""Lists: rows of the catalog, changed shards over it and a scan of everything give the same, which is the right answer."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardstore._files import forking
from shardstore._files.index.catalog import IN_MEMORY, Catalog
from shardstore._files.index.views import View
from shardstore.errors import InvalidQuery
from shardstore.log import ticks
from shardstore.session import SessionInfo
from tests.index.actors import Actor, asked, index_files

NAMES = ["a", "b", 'q"', "é"]
values = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        1.0,
        -1,
        2.5,
        2**63,
        "",
        "a",
        "b",
        "1",
        'q"',
        "é",
        "x" * 5000,
        "y" * 5000,
        [],
        [1],
        [True],
        {},
        {"a": 1},
        {"a": "a"},
    ]
)
entries = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
small = values.filter(lambda v: not isinstance(v, str) or len(v) < 100)
ordered = st.sampled_from([0, 1, 1.5, -3, 2**63, "", "a", "b", "x" * 4999])
conditions = (
    values
    | st.tuples(st.sampled_from(["==", "!="]), values)
    | st.tuples(st.sampled_from(["<", "<=", ">", ">="]), ordered)
    | st.tuples(st.just("in"), st.lists(values, max_size=3))
    | st.tuples(st.just("exists"), st.booleans())
)
orders = st.sampled_from(["key", "updated_at", "created_at", "size", "rev", *NAMES, "none"]).flatmap(
    lambda n: st.sampled_from([n, f"-{n}"])
)
queries = st.fixed_dictionaries(
    {
        "prefix": st.sampled_from([None, "", "k", "k1", "zz", "\U0010ffff"]),
        "where": st.none() | st.dictionaries(st.sampled_from([*NAMES, "none"]), conditions, max_size=2),
        "order_by": orders,
        "limit": st.none() | st.integers(0, 12),
        "offset": st.integers(0, 6),
        "bounds": st.fixed_dictionaries({"larger_than": st.none() | st.integers(0, 400)}),
    }
)
KINDS: dict[type, str] = {
    type(None): "0null",
    bool: "1bool",
    int: "2number",
    float: "2number",
    str: "3text",
    list: "4array",
    dict: "5object",
}


def kind(value: Any) -> str:
    return KINDS[type(value)]


def same(a: Any, b: Any) -> bool:
    """Compare as JSON, said in another way than the product does: by type at each depth."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return sorted(a) == sorted(b) and all(same(a[name], b[name]) for name in a)
    return kind(a) == kind(b) and a == b


def holds(entry: dict[str, Any], field: str, condition: Any) -> bool:
    operator, operand = condition if isinstance(condition, tuple) else ("==", condition)
    if operator == "exists":
        return (field in entry) is operand
    if field not in entry:
        return operator == "!="
    value = entry[field]
    if operator in ("==", "!="):
        return same(value, operand) is (operator == "==")
    if operator == "in":
        return any(same(value, one) for one in operand)
    if kind(value) != kind(operand):
        return False
    return {"<": value < operand, "<=": value <= operand, ">": value > operand, ">=": value >= operand}[operator]


def compare(a: Any, b: Any) -> int:
    if kind(a) != kind(b):
        return -1 if kind(a) < kind(b) else 1
    if a is None or isinstance(a, (list, dict)):
        a, b = (json.dumps(value, separators=(",", ":")) for value in (a, b))  # arrays and objects: by their text
    return (a > b) - (a < b)


def expected(sessions: dict[str, tuple[Any, dict[str, Any]]], query: dict[str, Any]) -> list[str]:
    """Answer a query the plain way."""
    name, descending = query["order_by"].removeprefix("-"), query["order_by"].startswith("-")
    found = [
        key
        for key, (info, entry) in sorted(sessions.items())
        if key.startswith(query["prefix"] or "")
        and (query["bounds"]["larger_than"] is None or info.size > query["bounds"]["larger_than"])
        and all(holds(entry, field, condition) for field, condition in (query["where"] or {}).items())
    ]

    def value(key: str) -> Any:
        info, entry = sessions[key]
        columns = {
            "key": key,
            "updated_at": ticks(info.updated_at),
            "created_at": ticks(info.created_at),
            "size": info.size,
            "rev": info.rev,
        }
        return columns[name] if name in columns else entry.get(name, missing)

    missing = object()
    there = [key for key in found if value(key) is not missing]
    order = functools.cmp_to_key(lambda a, b: compare(value(a), value(b)))
    there.sort(key=order, reverse=descending)
    if descending:  # equal ones stay in the order of their keys
        there = sorted(there, key=functools.cmp_to_key(lambda a, b: compare(value(b), value(a)) or (a > b) - (a < b)))
    found = there + [key for key in found if value(key) is missing]
    return found[query["offset"] :][: query["limit"]]


@pytest.fixture(scope="module")
def module_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("queries") / "sessions"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_way_gives_the_right_answer(module_root: Path, data: st.DataObject) -> None:
    """Catalog, catalog with changes over it, and scan; all conditions, orders, limits and pages; indexed fields or not."""
    one = Actor(module_root)
    fields = data.draw(st.sampled_from([(), ("a",), ("a", "é", "none")]))
    if fields != one.place.indexed:
        one.lister.reindex(fields)
    with_changes = data.draw(st.booleans())
    one.list()
    for key, entry in data.draw(
        st.dictionaries(st.sampled_from([f"k{n}" for n in range(14)]), entries, max_size=8)
    ).items():
        one.replace(key, entry)
    if not with_changes:
        one.list()
    sessions = {info.key: (info, one.entry(info.key)) for info in one.infos(refresh=False)}
    for _ in range(8):
        query = data.draw(queries)
        right = expected(sessions, query)
        assert [info.key for info in one.infos(**query, refresh=False)] == right
        assert [info.key for info in one.scan(**query)] == right
        unlimited = {name: query[name] for name in ("prefix", "where", "bounds")}
        everything = {**query, "limit": None, "offset": 0}
        assert one.count(**unlimited, refresh=False) == len(expected(sessions, everything))
        shown = data.draw(st.none() | st.lists(st.sampled_from([*NAMES, "none"]), max_size=2))
        paged = pages(one, {**unlimited, "order_by": query["order_by"], "fields": shown}, data.draw(st.integers(1, 4)))
        assert [info.key for info in paged] == expected(sessions, everything)
        if shown is not None:
            for info in paged:
                whole = sessions[info.key][1]
                assert info.fields == {name: whole[name] for name in shown if name in whole}
    one.close()


def pages(one: Actor, query: dict[str, Any], size: int) -> list[SessionInfo]:
    """List page by page, by the row and by its cursor in turn."""
    found: list[SessionInfo] = []
    while page := one.infos(
        **query,
        limit=size,
        after=None if not found else found[-1] if len(found) % 2 else found[-1].cursor,
        refresh=False,
    ):
        found += page
    return found


def test_cut_fields_are_read_from_the_shard(actor: Callable[..., Actor]) -> None:
    """A condition or an order on a value that is too large for the index is as exact as any other."""
    one = actor()
    for n in range(8):
        one.write(f"k{n}", blob="x" * 5000 + str(n), n=n)
    one.write("small", blob="x")
    one.write("none", n=1)
    one.infos()
    assert list(one.list(where={"blob": "x" * 5000 + "3"})) == ["k3"]
    assert list(one.list(where={"blob": ("exists", False)})) == ["none"]
    assert list(one.list(where={"blob": (">=", "x" * 5000 + "6")}, order_by="-blob")) == ["k7", "k6"]
    assert list(one.list(order_by="-blob"))[-2:] == ["small", "none"]
    assert one.count(where={"blob": ("!=", "x")}) == 9


def test_values_that_were_read_for_a_list_are_not_kept(actor: Callable[..., Actor]) -> None:
    """Else a condition on a large field would bring the whole store into memory."""
    one = actor()
    for n in range(8):
        one.write(f"k{n}", blob="x" * 5000)
    one.infos()
    for path in index_files(one.root):
        path.unlink()
    reader = one.place.shards
    reader._kept.clear()
    views: list[View] = []
    query = asked(where={"blob": "x" * 5000}, fields=["blob"])
    found = one.lister.answer(lambda view: views.append(view) or view.select(query), refresh=False, progress=None)  # type: ignore[func-returns-value]
    assert len(found) == 8
    assert not views[0]._fetched
    assert not reader._kept


@pytest.mark.parametrize("indexed", [True, False])
def test_a_query_that_is_too_long_for_sql_is_answered(actor: Callable[..., Actor], indexed: bool) -> None:
    """With an index, which is not rebuilt for it, and without one."""
    one = actor()
    one.write("k", n=1)
    one.infos()
    before = index_files(one.root)
    if not indexed:
        for path in before:
            path.unlink()
    many = {f"f{n}": ("!=", n) for n in range(1500)} | {"log_length": ("in", list(range(300_000)))}
    for query in (many, {**many, "n": 1}, {f"f{n}": ("in", ["x", "y"]) for n in range(1500)}):
        right = [] if "log_length" not in query else ["k"]
        assert list(one.list(where=query, refresh=False)) == right
        assert one.count(where=query, refresh=False) == len(right)
    assert list(one.list(where={f"f{n}": ("!=", n) for n in range(1500)})) == ["k"]
    assert one.pending()[1] is None or not indexed


@pytest.mark.parametrize("refresh", [False, True])
def test_a_fork_does_not_wait_while_every_shard_is_read(actor: Callable[..., Actor], refresh: bool) -> None:
    """The catalog that is filled is not in use then: one in memory, or the one of an index that is rebuilt."""
    one = actor()
    one.write("k", n=1)
    inside: list[str] = []

    def look(*_: object) -> None:
        used = [connection() for connection, _ in forking._users.values()]
        inside.extend(one.path for one in used if isinstance(one, Catalog))

    found = one.lister.select(asked(), refresh=refresh, progress=look)
    assert [info.key for info in found] == ["k"]
    assert not [path for path in inside if path == IN_MEMORY or path.startswith(str(one.root))]


def test_prefix_orders_and_pages_of_many(actor: Callable[..., Actor]) -> None:
    """Beyond the number of keys where another way is taken through the catalog."""
    one = actor()
    from shardstore._files.index import catalog

    for n in range(60):
        one.write(f"a{n % 7}:{n:02}", n=n % 5)
    one.infos()
    by_many = {
        limit: [i.key for i in one.infos(prefix="a", order_by=order, limit=limit)]
        for limit in (1, 10, None)
        for order in ("-updated_at",)
    }
    few, catalog._FEW = catalog._FEW, 5  # type: ignore[misc]
    try:
        for limit, keys in by_many.items():
            assert [i.key for i in one.infos(prefix="a", order_by="-updated_at", limit=limit)] == keys
        assert [i.key for i in one.infos(prefix="a3", order_by="-key")] == sorted(
            (f"a3:{n:02}" for n in range(60) if n % 7 == 3), reverse=True
        )
        assert len(one.infos(prefix="a3", order_by="size", limit=3)) == 3
    finally:
        catalog._FEW = few  # type: ignore[misc]


def test_times_and_sizes_bound_a_list(actor: Callable[..., Actor]) -> None:
    """From a time on, before a time, and larger than a size; with changes over the catalog and without."""
    one = actor()
    for n in range(6):
        one.write(f"k{n}", pad="x" * 10 * n)
    infos = {info.key: info for info in one.infos(order_by="key")}
    middle = ticks(infos["k3"].updated_at)
    for _ in range(2):
        assert {i.key for i in one.infos(bounds={"updated_since": middle})} == {
            k for k, i in infos.items() if ticks(i.updated_at) >= middle
        }
        assert {i.key for i in one.infos(bounds={"updated_before": middle})} == {
            k for k, i in infos.items() if ticks(i.updated_at) < middle
        }
        assert {i.key for i in one.infos(bounds={"larger_than": infos["k2"].size})} == {"k3", "k4", "k5"}
        assert one.count(bounds={"larger_than": infos["k2"].size, "updated_since": 0}) == 3
        assert one.count(bounds={"updated_before": 2**70}) == 6
        one.index.mark_changed(next(iter(one.pool._shards.values())).name)
    with pytest.raises(InvalidQuery):
        one.infos(bounds={"larger_than": 1.5})


def test_keys_come_in_order_and_once(actor: Callable[..., Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """In portions, with changes over the catalog, and from a scan."""
    from shardstore._files.index import views

    monkeypatch.setattr(views, "_KEYS_AT_ONCE", 7)
    one, other = actor(), actor()
    for n in range(40):
        one.write(f"k{n:02}", n=n)
    everything = [f"k{n:02}" for n in range(40)]
    assert list(one.lister.keys()) == everything
    one.write("k05", n=-1)
    one.write("k06", n=-1)  # the last one of a portion
    one.write("k13x", n=-1)
    everything.insert(14, "k13x")
    assert list(one.lister.keys(refresh=False)) == everything
    keys = one.lister.keys(refresh=False)
    first = [next(keys) for _ in range(9)]
    other.delete("k20")
    other.write("k00x", n=1)
    other.write("k39x", n=1)
    assert first + list(keys) == [k for k in everything if k != "k20"] + ["k39x"]
    for path in index_files(one.root):
        path.unlink()
    assert list(one.lister.keys(refresh=False)) == sorted({*everything, "k00x", "k39x"} - {"k20"})
    besides, problem = one.pending()
    assert (besides, problem is None) == (0, False), "every shard is read, and none besides"


def test_totals_add_up(actor: Callable[..., Actor]) -> None:
    """The same sums with and without an index, with and without changes over it."""
    one = actor()
    for n in range(9):
        one.write(f"k{n}", n="x" * n)
    scanned = one.totals()
    assert scanned[0] == 9
    assert one.totals(refresh=True) == scanned
    one.write("k3", m=1)
    one.delete("k4")
    one.write("new", m=1)
    over = one.totals()
    assert over[0] == 9
    assert one.totals(refresh=True) == over
    assert over[1] == sum(info.size for info in one.infos())
