"""A refresh: one at a time, in one transaction, and what is busy is marked again."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from shardstore._files.change_file.file import MARK, ChangeFile
from shardstore._files.index import refresh
from shardstore._files.index.catalog import Catalog
from shardstore._files.index.directories import NOTHING, Findings
from tests.index.actors import Actor, change_file, inode, is_current, name_of, truth

Make = Callable[..., Actor]
counter = itertools.count(1000)


def test_a_change_file_does_not_grow_for_ever(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh begins a new one; writers and listers go over to it."""
    writer, lister = pair
    monkeypatch.setattr("shardstore._files.index.refresh.BYTES_MAX", 500)
    seen = set()
    for _ in range(30):
        writer.write("k1", n=next(counter))
        assert lister.list() == truth(writer.root)
        writer.write("k2", n=next(counter))
        assert lister.list(refresh=False) == truth(writer.root)
        seen.add(change_file(writer.root).name)
        assert change_file(writer.root).stat().st_size < 1500
    assert len(seen) > 5
    assert lister.lister.problem == "there is no index", "it was made once"


def refreshed(one: Actor) -> bool:
    """Refresh as a list does once it pays; return whether it was done."""
    catalog = one.place.take(write=True)
    try:
        _, file, _ = one.lister.begin(catalog)
        catalog.end()
        return refresh.refresh(one.place, catalog, file)
    finally:
        catalog.close()


def test_a_refresh_takes_in_what_is_marked(pair: tuple[Actor, Actor]) -> None:
    """Changed, new and deleted sessions; then the catalog alone answers."""
    writer, lister = pair
    writer.write("k1", n=next(counter))
    writer.write("new", n=0)
    writer.delete("k2")
    assert not is_current(writer.root)
    assert refreshed(lister)
    assert is_current(writer.root)
    assert lister.list(refresh=False) == truth(writer.root)


def refreshed_with(one: Actor, *suspects: str, file: ChangeFile | None = None) -> bool:
    """Refresh where these sessions' files look changed by hand, or with another change file than the catalog's."""
    catalog = one.place.take(write=True)
    try:
        _, own, _ = one.lister.begin(catalog)
        catalog.end()
        one.place.directories.found = Findings(frozenset(map(name_of, suspects)), {})
        return refresh.refresh(one.place, catalog, own if file is None else file)
    finally:
        catalog.close()


def test_what_was_changed_by_hand_is_marked_for_watchers(pair: tuple[Actor, Actor]) -> None:
    """With its key where the catalog knows it, and not twice where a writer has marked it."""
    writer, lister = pair
    size = change_file(writer.root).stat().st_size
    writer.write("k1", n=next(counter))
    assert refreshed_with(lister, "k1", "k2", "never there")
    front, mark, _ = change_file(writer.root).read_bytes()[size:].decode().rpartition(f" {MARK}\n")
    assert mark
    assert front.count(name_of("k1")) == 1
    assert front.count(f' {name_of("k2")} ? "k2"\n') == 1
    assert front.count(f" {name_of('never there')} ?\n") == 1
    assert lister.place.directories.found == NOTHING
    assert lister.list(refresh=False) == truth(writer.root)


def test_a_change_file_that_is_not_the_catalogs_is_not_gone_by(pair: tuple[Actor, Actor]) -> None:
    """Another one that is there, and the right one that has lost its name; either is unlocked again."""
    writer, lister = pair
    writer.write("k1", n=next(counter))
    mine = ChangeFile.open(str(writer.root / "index"), change_file(writer.root).name, write=True)
    other = ChangeFile.create(str(writer.root / "index"))
    other.unlock()
    before = other.size()
    assert not refreshed_with(lister, file=other)
    assert other.size() == before
    assert other.lock()
    other.unlock()
    catalog = lister.place.take(write=True)
    size = mine.size()
    try:
        change = writer.root / "index" / mine.filename
        change.unlink()
        assert not refresh.refresh(lister.place, catalog, mine)
    finally:
        catalog.close()
    assert mine.size() == size
    assert mine.lock()
    mine.unlock()


def test_a_refresh_begins_a_new_file_behind_its_limit(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before stays for watchers; the new one has its name, its place in this process, and no lock."""
    writer, lister = pair
    writer.write("k1", n=next(counter))
    old = change_file(writer.root)
    monkeypatch.setattr(refresh, "BYTES_MAX", old.stat().st_size)
    assert refreshed(lister)
    assert change_file(writer.root) == old
    number = inode(old)
    monkeypatch.setattr(refresh, "BYTES_MAX", 0)
    assert refreshed(lister)
    new = change_file(writer.root)
    assert new != old
    assert inode(writer.root / "index" / "changes-before") == number
    assert lister.place._file is not None
    assert lister.place._file.filename == new.name
    watcher = ChangeFile.open(str(writer.root / "index"), new.name, write=False)
    assert watcher.lock()
    watcher.unlock()
    assert lister.list(refresh=False) == truth(writer.root)


def test_fields_that_were_indexed_meanwhile_end_a_refresh(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of its rows would be of these fields, some of those."""
    writer, lister = pair
    writer.write("k1", n=next(counter))
    real = refresh.read_locked

    def meanwhile(*args: Any) -> Any:
        found = real(*args)
        lister.place._set_fields(("other",))
        return found

    monkeypatch.setattr(refresh, "read_locked", meanwhile)
    assert not refreshed(lister)


def test_a_refresh_is_measured_where_somebody_asked_for_it(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, lister = pair
    writer.write("k1", n=next(counter))
    measured: list[tuple[str, float]] = []
    monkeypatch.setattr(refresh.events, "measured", lambda name, seconds: measured.append((name, seconds)))
    assert refreshed(lister)
    found = [seconds for name, seconds in measured if name == "refresh"]
    assert len(found) == 1
    assert 0.0 <= found[0] < 60.0


def test_only_one_refreshes(pair: tuple[Actor, Actor]) -> None:
    """Somebody who finds the index lock taken leaves, and writes nothing."""
    writer, lister = pair
    writer.write("k1", n=next(counter))
    holder = ChangeFile.open(str(writer.root / "index"), change_file(writer.root).name, write=False)
    assert holder.lock()
    before = change_file(writer.root).read_bytes()
    assert not refreshed(lister)
    assert change_file(writer.root).read_bytes() == before
    holder.unlock()
    assert refreshed(lister)


def test_a_busy_shard_is_marked_behind_the_mark(pair: tuple[Actor, Actor]) -> None:
    """Its row stays as it was, and every list reads the shard until another refresh finds it free."""
    writer, lister = pair
    with writer.writing("k1", n=next(counter)):
        assert refreshed(lister)
        behind = change_file(writer.root).read_text().rpartition(f" {MARK}\n")[2]
        assert behind.count(name_of("k1")) == 1
        assert not is_current(writer.root)
    assert lister.list(refresh=False) == truth(writer.root)
    assert refreshed(lister)
    assert is_current(writer.root)


@pytest.mark.parametrize("rotates", [False, True])
def test_a_refresh_that_fails_leaves_the_rows_with_the_old_mark(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch, rotates: bool
) -> None:
    """A full disk in the middle: no answer changes, and no second change file stays."""
    writer, lister = pair
    writer.write("k1", n=next(counter))
    catalog = inode(writer.root / "index" / "catalog")

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        if rotates:
            patch.setattr(refresh, "BYTES_MAX", 0)
        patch.setattr(Catalog, "publish", full)
        assert not refreshed(lister)
        assert lister.list(refresh=False) == truth(writer.root)
    assert len(list((writer.root / "index").glob("changes.*"))) == (0 if rotates else 1)
    assert lister.list() == truth(writer.root)
    assert (inode(writer.root / "index" / "catalog") == catalog) == (not rotates)
