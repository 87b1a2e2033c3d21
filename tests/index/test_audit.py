"""Comparing the index with the shards: what a list would wrongly believe is named, and nothing else is."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from shardstore._files.index.refresh import write_seal
from shardstore._files.index.upkeep import audit, believed, refresh_all
from tests.index.actors import Actor, name_of

pytestmark = pytest.mark.damages("the catalog is made to lie")


def lie(one: Actor, statement: str) -> None:
    """Change a row of the catalog, and seal that."""
    path = one.place.catalog_path
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()
    catalog = one.place.take(write=False)
    meta, file, _ = one.lister.begin(catalog)
    catalog.close()
    write_seal(one.place, file, meta.mark)


def test_a_right_index_has_no_problem(pair: tuple[Actor, Actor]) -> None:
    """Also while sessions are changed that nobody has refreshed."""
    writer, lister = pair
    assert audit(lister.lister) == []
    writer.write("k1", n=-1)
    writer.write("new", n=-1)
    writer.delete("k2")
    assert audit(lister.lister) == []


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("UPDATE session SET rev=9 WHERE key='k1'", "'k1' is listed with other values than its shard has"),
        (
            "UPDATE session SET packed=CAST('[9'||substr(packed,3) AS BLOB) WHERE key='k1'",
            "'k1' is listed as of revision 9; its shard is at revision 1",
        ),
        ("DELETE FROM session WHERE key='k1'", "'k1' is not listed; its shard is at revision 1"),
    ],
)
def test_a_row_that_lies_is_named(pair: tuple[Actor, Actor], statement: str, wrong: str) -> None:
    _, lister = pair
    lie(lister, statement)
    assert audit(lister.lister) == [(name_of("k1"), wrong)]


def test_a_row_without_a_session_is_named(pair: tuple[Actor, Actor]) -> None:
    """Its file was taken away by hand."""
    writer, lister = pair
    Path(writer.layout.shard_path(name_of("k1"))).unlink()
    assert audit(lister.lister) == [(name_of("k1"), "'k1' is listed at revision 1; its shard is absent")]


@pytest.mark.parametrize("refreshed", [False, True])
def test_a_copy_beside_a_shard_is_not_taken_for_it(pair: tuple[Actor, Actor], refreshed: bool) -> None:
    """It has the digest of the session's key in its name, and is no session's file."""
    writer, lister = pair
    path = Path(writer.layout.shard_path(name_of("k1")))
    (path.parent / f"other~{path.name.partition('~')[2]}").write_bytes(path.read_bytes())
    if refreshed:
        refresh_all(lister.lister)
    assert audit(lister.lister) == []
    assert set(believed(lister.lister)) == set(map(name_of, lister.list()))


def test_an_index_that_is_not_believed_is_no_problem(pair: tuple[Actor, Actor]) -> None:
    """It is made anew by the next list; so is one that is not there."""
    writer, lister = pair
    lie(lister, "UPDATE session SET rev=9 WHERE key='k1'")
    Path(lister.place.catalog_path).write_bytes(b"noise")
    lister.place.close_idle()
    assert audit(lister.lister) == []
    shutil.rmtree(writer.root / "index")
    assert audit(lister.lister) == []
