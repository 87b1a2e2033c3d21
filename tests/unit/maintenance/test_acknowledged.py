"""Acknowledged revisions that are gone: found by what the lists knew, recorded, and forgotten when they are back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardstore import Store
from shardstore._files.engine import FileEngine
from shardstore._files.index.upkeep import refresh_all
from shardstore._files.layout import shard_name, short_name
from shardstore._files.maintenance.acknowledged import (
    Short,
    find_short,
    forget,
    is_back,
    keep_evidence,
    recorded,
    sentence,
)
from tests.support import disk

NAME = shard_name("k")
pytestmark = pytest.mark.damages("a shard is cut back")


@pytest.fixture
def path(store: Store, engine: FileEngine) -> Path:
    """Return the file of a session whose four revisions the lists know."""
    for number in range(4):
        store.patch("k", {"n": number})
    refresh_all(engine.index.lister)
    assert list(find_short(engine)) == []
    return disk.shard(engine.root, "k")


def cut_back(path: Path, revisions: int) -> bytes:
    """Leave so many records of a journal; return what it held."""
    whole = path.read_bytes()
    disk.edit(path, b"".join(whole.splitlines(keepends=True)[:revisions]))
    return whole


def test_a_journal_that_was_cut_back_is_short(store: Store, engine: FileEngine, path: Path) -> None:
    version = store["k"].version
    cut_back(path, 2)
    assert list(find_short(engine)) == [Short(NAME, "k", version, known=4, found=2)]


@pytest.mark.parametrize("gone", ["emptied", "removed"])
def test_a_file_that_is_gone_is_short_of_everything(engine: FileEngine, path: Path, gone: str) -> None:
    path.write_bytes(b"") if gone == "emptied" else path.unlink()
    ((name, _, _, known, found),) = find_short(engine)
    assert (name, known, found) == (NAME, 4, 0)


def test_a_marked_change_is_short_of_what_the_lists_knew_before(store: Store, engine: FileEngine, path: Path) -> None:
    """Written since the lists looked: how far it came nobody knows, but it never went back. Gone, it may be purged."""
    version = store["k"].version
    store.patch("k", {"n": 9})
    whole = cut_back(path, 2)
    assert list(find_short(engine)) == [Short(NAME, "k", version, known=4, found=2)]
    disk.edit(path, b"\n".join(whole.split(b"\n")[:4]) + b"\n")
    assert list(find_short(engine)) == []
    disk.edit(path, b"")
    assert list(find_short(engine)) == []
    path.parent.rename(engine.root.with_name("away"))
    assert list(find_short(engine)) == [Short(NAME, "k", version, known=4, found=0)], "no purge removes a directory"
    engine.root.with_name("away").rename(path.parent)
    disk.edit(path, whole)


def test_another_incarnation_is_not_short(store: Store, engine: FileEngine, path: Path) -> None:
    """Deleted and created again: the shard decides."""
    store.delete("k")
    store.create("k", {})
    refresh_all(engine.index.lister)
    other = Store(engine.root.with_name("other"))
    other.create("k", {})
    disk.edit(path, disk.shard(other.root, "k").read_bytes())
    other.close()
    assert list(find_short(engine)) == []


def test_a_record_stays_until_the_file_is_back(store: Store, engine: FileEngine, path: Path) -> None:
    """The next list forgets what it knew; the record does not, and the file's bytes are kept beside it."""
    whole = cut_back(path, 2)
    (short,) = find_short(engine)
    keep_evidence(engine, short, record=True)
    assert [one.rev for one in store.list()] == [2]
    refresh_all(engine.index.lister)
    assert list(find_short(engine)) == []
    ((name, kept),) = recorded(engine.layout)
    assert (kept, is_back(engine.layout, kept)) == (short, False)
    copies = [one for one in engine.layout.quarantine.iterdir() if one.name != name]
    assert [one.read_bytes() for one in copies] == [path.read_bytes().rstrip(b"\n")]
    disk.edit(path, whole)
    assert is_back(engine.layout, kept)
    forget(engine.layout, [name])
    assert list(recorded(engine.layout)) == []
    assert all(one.exists() for one in copies)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"shard":7}',
        '{"shard":"%s","key":"k","version":"v.1-0","known":true,"found":0}' % NAME,
        '{"shard":"%s","key":"other","version":"v.1-0","known":4,"found":0}' % NAME,
        '{"shard":"%s","key":"k","version":7,"known":4,"found":0}' % NAME,
        '{"shard":"../../x","key":"k","version":"v.1-0","known":4,"found":0}',
    ],
)  # fmt: skip
def test_what_is_no_record_of_ours_is_passed_over(engine: FileEngine, path: Path, text: str) -> None:
    """Anybody may put a file there."""
    quarantine = engine.layout.quarantine
    os.makedirs(quarantine, exist_ok=True)
    (quarantine / short_name(NAME)).write_text(text)
    (quarantine / "notes").write_text("mine")
    assert list(recorded(engine.layout)) == []


@pytest.mark.parametrize(
    ("known", "found", "text"),
    [
        (4, 3, "revision 4 is missing: the lists knew revision 4, and its file ends at revision 3"),
        (4, 1, "revisions 2 to 4 are missing"),
        (1, 0, "revision 1 is missing: the lists knew revision 1, and its file holds none, or is gone"),
    ],
)
def test_the_sentence_names_the_revisions(known: int, found: int, text: str) -> None:
    assert sentence(Short(NAME, "k", "v", known, found)).startswith(text)
