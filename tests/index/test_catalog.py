"""The catalog: rows in, rows out, found by SQL indexes; and a time of its own that every later write shows."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shardstore import Store
from shardstore._files import forking
from shardstore._files.change_file.file import Unusable
from shardstore._files.direct.rows import NO_FILE, NoSession, SessionRow, ShardProjection, digest_of
from shardstore._files.index import catalog
from shardstore._files.index.catalog import Catalog, Meta, fingerprint, stamp
from shardstore._files.layout import shard_name
from shardstore._journal.replay import replay
from tests.index.test_indexed import fill
from tests.support import disk
from tests.support.actions import in_background

META = Meta("settings", "life", "changes.0123456789abcdef", 7)


def session(key: str, **fields: Any) -> SessionRow:
    """Return what the index makes of a session with these fields, `n` being indexed."""
    line = disk.line({"rev": 1, "at": 5, "by": "me", "id": "6b0c", "key": key, "put": fields})
    found = ShardProjection(["n"]).of_journal(shard_name(key), replay(line).journal)
    assert isinstance(found, SessionRow)
    return found


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Catalog]:
    """Yield a catalog of three sessions, a damaged shard and a deleted one, open to be written."""
    path = str(tmp_path / "catalog")
    fresh = Catalog.create(path, ["n"])
    batch = [session("a", n=1), session("b", n=2), session("c")]
    others = [NoSession(shard_name("d"), "damaged", "byte 0"), NoSession(shard_name("e"), "absent", "deleted")]
    fresh.fill([[*batch, *others]], {"3f": 9}, META)
    fresh.close()
    opened = Catalog(path, ["n"], write=True)
    yield opened
    opened.close()


def test_a_thread_may_go_on_with_the_connection_of_another(made: Catalog) -> None:
    """One at a time: a store's threads share them."""
    assert in_background(made.begin)() == META
    in_background(made.end)()


def test_how_a_connection_keeps_and_writes_pages(made: Catalog) -> None:
    """Nothing is synced, and no journal is left behind; no page is mapped, for a file that is cut off kills who maps it."""
    reader = Catalog(made.path, ["n"], write=False)
    asked = ("cache_size", "mmap_size", "journal_mode", "synchronous", "temp_store", "cache_spill")
    found = [[one._db.execute(f"PRAGMA {what}").fetchone()[0] for what in asked] for one in (made, reader)]
    assert found[0] == [-4000, 0, "memory", 0, 2, 0]
    assert found[1][:2] == [-4000, 0]
    reader.close()


def test_a_fork_waits_while_sqlite_is_called(made: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From opening a connection to closing it, but while a rebuild reads shards, which takes long."""
    seen: list[tuple[str, bool]] = []

    def note(what: str) -> None:
        seen.append((what, id(fresh) in forking._users))

    def batches() -> Iterator[list[SessionRow | NoSession]]:
        for key in "ab":
            note("read")
            yield [session(key, n=1)]

    fresh = Catalog.create(str(tmp_path / "fresh"), ["n"])
    note("opened")
    real = catalog._record
    monkeypatch.setattr(catalog, "_record", lambda one: (note("insert"), real(one))[1])
    fresh.fill(batches(), {}, META)
    note("filled")
    forking.end_use(fresh)
    close = fresh._db.close
    fresh._db = mock.Mock(close=lambda: note("close"))
    fresh.close()
    note("closed")
    close()
    assert seen == [
        ("opened", True), ("read", False), ("insert", True), ("read", False), ("insert", True), ("filled", True),
        ("close", True), ("closed", False),
    ]  # fmt: skip


def test_one_that_cannot_be_used_is_closed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is dropped open is a warning from Python 3.13 on."""
    connections: list[Any] = []
    real = catalog.sqlite3.connect

    def connect(*args: Any, **kwargs: Any) -> Any:
        connections.append(real(*args, **kwargs))
        return connections[-1]

    monkeypatch.setattr(catalog.sqlite3, "connect", connect)
    path = tmp_path / "catalog"
    path.write_bytes(b"no database" * 1000)
    for write in (True, False):
        with pytest.raises(sqlite3.DatabaseError):
            Catalog(str(path), [], write=write).meta()
    monkeypatch.setattr(catalog, "_TABLES", "no statement")
    with pytest.raises(sqlite3.OperationalError):
        Catalog.create(str(tmp_path / "other"), [])
    for connection in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_one_that_is_dropped_is_closed_also_in_a_cycle(made: Catalog) -> None:
    """The finalizers of a cycle run in any order, and a connection that is finalized open is a warning."""
    for tied in (False, True):
        dropped = Catalog(made.path, ["n"], write=False)
        connection, cycle = dropped._db, [dropped]
        if tied:
            cycle.append(cycle)  # type: ignore[arg-type]
        del dropped, cycle
        gc.collect()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_an_indexed_field_is_searched_by_its_index(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a condition or an order costs does not grow with the store: SQLite's plan says so."""
    with Store(root, indexed=["status", "n"]) as store:
        fill(store)
        store.list()
        plans: list[str] = []
        real = catalog.sqlite3.connect

        def explained(*args: Any, **kwargs: Any) -> Any:
            return _Explaining(real(*args, **kwargs), plans)

        store._engine.index.lister.place.close_idle()
        monkeypatch.setattr(catalog.sqlite3, "connect", explained)
        for query in (
            {"where": {"status": "idle"}, "limit": 5},
            {"where": {"n": (">", 3)}, "order_by": "n", "limit": 5},
            {"order_by": "-status", "limit": 5},
            {"order_by": "n", "limit": 5, "after": store.list(order_by="n", limit=1)[0]},
            {"order_by": "n", "limit": 5, "after": store.list(order_by="n")[-1]},
            {"limit": 5},
            {"limit": 5, "after": store.list(limit=1)[0].cursor},
            {"prefix": "k1", "order_by": "key"},
        ):
            store.list(**query)
        store.count(where={"status": ("in", ["idle", "running"])})
        assert plans
        for plan in plans:
            assert "SCAN session" not in plan or "USING" in plan, plan
            assert "USE TEMP B-TREE FOR ORDER BY" not in plan, plan


class _Explaining:
    """A connection that keeps the plans of queries for sessions."""

    def __init__(self, db: Any, plans: list[str]) -> None:
        self._db, self._plans = db, plans

    def execute(self, sql: str, values: Any = ()) -> Any:
        if sql.startswith("SELECT") and "FROM session" in sql:
            self._plans.append("\n".join(row[3] for row in self._db.execute(f"EXPLAIN QUERY PLAN {sql}", values)))
        return self._db.execute(sql, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def test_what_is_filled_is_found(made: Catalog) -> None:
    """Rows, sums, keys, names, damaged shards, directories, and what the catalog says of itself."""
    assert made.begin() == META
    assert made.keys("", 2) == ["a", "b"]
    assert made.keys("b", 2) == ["c"]
    sums = 'count(*),total(live),total("end")'
    assert made.sums(sums, (), ()) == [3, *(sum(s) for s in zip(*[(s.row.size, s.end) for s in _three()], strict=True))]
    assert made.sums("count(*)", (), ["a", "b"]) == [1]
    assert made.damaged() == [shard_name("d")]
    assert made.directories() == {"3f": 9}
    one = session("a", n=1)
    assert made.row(one.name) == one.row
    assert made.holds(one)
    assert not made.holds(session("a", n=2))
    assert made.row(shard_name("d")) is None
    assert (made.key_of(shard_name("a")), made.key_of(shard_name("d"))) == ("a", None)
    for key in ("a", "d", "e"):
        assert made.fingerprints(shard_name(key)[:2]) == {shard_name(key): 0}
    walked = [made.known(b"", most=3)]
    walked.append(made.known(walked[0][-1][0]))
    assert [name for part in walked for _, name, _ in part] == sorted(map(shard_name, "abcde"), key=digest_of)
    made.end()


def _three() -> list[SessionRow]:
    return [session("a", n=1), session("b", n=2), session("c")]


def test_what_is_published_replaces_what_was_there(made: Catalog) -> None:
    """A changed session, one that is gone without a file, and a damaged one that is whole again."""
    changed = [session("a", n=3, more=1), NoSession(shard_name("b"), "absent", NO_FILE), session("d")]
    with made.writing(exclusive=False):
        made.publish(changed, {"3f": 10}, META._replace(mark=8))
    assert made.begin().mark == 8
    assert made.keys("", 9) == ["a", "c", "d"]
    assert made.holds(changed[0])  # type: ignore[arg-type]
    assert made.damaged() == []
    assert shard_name("b") not in made.fingerprints(shard_name("b")[:2])
    assert made.directories() == {"3f": 10}


def test_a_publication_that_fails_changes_nothing(made: Catalog) -> None:
    with pytest.raises(KeyboardInterrupt), made.writing(exclusive=True):
        made.publish([session("a", n=3)], {}, META)
        raise KeyboardInterrupt
    one = session("a", n=1)
    assert made.holds(one)


def test_another_format_is_not_believed(made: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "FORMAT", 9)
    with pytest.raises(Unusable):
        made.meta()


def test_one_that_is_open_to_be_read_cannot_be_written(made: Catalog) -> None:
    reader = Catalog(made.path, ["n"], write=False)
    with pytest.raises(sqlite3.OperationalError), reader.writing(exclusive=False):
        reader.publish([], {}, META)
    reader.close()


def test_a_stamp_is_never_the_same_and_every_write_shows(tmp_path: Path) -> None:
    """Also a write within the same tick of the file system's clock, of the same length."""
    path = tmp_path / "catalog"
    path.write_bytes(b"one")
    seen = {stamp(str(path)) for _ in range(50)}
    assert len(seen) == 50
    assert os.stat(path).st_mtime < 1_104_537_600  # 2005
    for _ in range(50):
        sealed = stamp(str(path))
        path.write_bytes(b"two")
        assert fingerprint(str(path)) != sealed


@pytest.mark.parametrize("name", ["a b", "50%", "q?mode=rw#x", "ä", "\udcff"])
def test_a_root_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "catalog"
    path.parent.mkdir()
    Catalog.create(str(path), []).close()
    assert sorted(os.listdir(tmp_path)) == [name]
    assert os.listdir(path.parent) == ["catalog"]
