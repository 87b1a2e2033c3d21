"""Files that a person copies in or takes away: found by the directories' mtimes, and forgotten once published."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shardstore._files.index import directories
from shardstore._files.index.directories import Directories, mtime_of
from tests.index.actors import Actor, is_current, name_of, truth

NAME = name_of("k1")


def look_now(one: Actor) -> None:
    one.place.directories._next = 0.0


def test_a_file_that_is_taken_away_and_put_back_is_found(pair: tuple[Actor, Actor], tmp_path: Path) -> None:
    """By the next look; nobody marked it as changed."""
    writer, lister = pair
    path = Path(writer.layout.shard_path(NAME))
    for there in (False, True):
        if there:
            shutil.move(tmp_path / "kept", path)
        else:
            shutil.move(path, tmp_path / "kept")
        look_now(lister)
        assert lister.list(refresh=False) == truth(writer.root)
        assert lister.list() == truth(writer.root)
        assert lister.place.directories.suspects == frozenset()
        assert is_current(writer.root)


def test_a_look_compares_a_bounded_number(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is for the next looks; `every` compares all of them at once."""
    writer, lister = pair
    for prefix in directories.PREFIXES:
        os.utime(writer.layout.shard_path(prefix))
    listed: list[str] = []
    real = lister.place.shards.list_directory
    monkeypatch.setattr(lister.place.shards, "list_directory", lambda prefix: listed.append(prefix) or real(prefix))  # type: ignore[func-returns-value]
    catalog = lister.place.take(write=False)
    meta = catalog.begin()
    found = Directories()
    for _ in range(8):
        found.compare(lister.place.shards, catalog, meta.file)
    assert listed == list(directories.PREFIXES)
    found.compare(lister.place.shards, catalog, meta.file)
    assert len(listed) == 256
    found.compare(lister.place.shards, catalog, meta.file, every=True)
    assert len(listed) == 512
    assert found.suspects == frozenset()
    catalog.close()


def test_it_is_due_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(directories.time, "monotonic", lambda: now[0])
    found = Directories()
    assert [found.due(), found.due()] == [True, False]
    now[0] += 1.0
    assert [found.due(), found.due()] == [True, False]


def test_what_was_found_while_a_refresh_published_is_kept() -> None:
    """Only what the refresh took in is forgotten."""
    found = Directories()
    found.suspects, found.compared = frozenset({"a", "b"}), {"3f": 1, "40": 2}
    found.published(frozenset({"a"}), {"3f": 1, "40": 1}, "changes.x")
    assert (found.suspects, found.compared) == (frozenset({"b"}), {"40": 2})


def test_no_directory_has_no_mtime(tmp_path: Path) -> None:
    assert mtime_of(str(tmp_path)) == tmp_path.stat().st_mtime_ns
    assert mtime_of(str(tmp_path / "none")) == 0
