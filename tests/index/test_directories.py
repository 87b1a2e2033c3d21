"""Files that a person copies in or takes away: found by the directories' ctimes and the files' fingerprints, and forgotten once published."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shardstore._files.file import CHECK_S
from shardstore._files.index import directories, rows
from shardstore._files.index.directories import NOTHING, Directories, Found, ctime_of
from tests.index.actors import Actor, is_current, name_of, truth

NAME = name_of("k1")


def look_now(one: Actor) -> None:
    one.place.directories._next = one.place.directories._turn = 0.0


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
        assert lister.place.directories.found == NOTHING
        assert is_current(writer.root)


@pytest.mark.parametrize("how", ["replaced", "replaced, the times set back", "in place"])
def test_a_file_of_the_same_name_is_found(pair: tuple[Actor, Actor], tmp_path: Path, how: str) -> None:
    """An older journal in the place of the newer one, by rename or in the same file."""
    writer, lister = pair
    path = Path(writer.layout.shard_path(NAME))
    older = path.read_bytes()
    writer.write("k1", n=-1)
    lister.lister.refresh_all(None)
    assert lister.list() == truth(writer.root)
    assert is_current(writer.root)
    times = path.parent.stat()
    if how == "in place":
        path.write_bytes(older)
    else:
        (tmp_path / "older").write_bytes(older)
        shutil.move(tmp_path / "older", path)
    if "times" in how:
        os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
    look_now(lister)
    assert lister.list(refresh=False) == truth(writer.root)
    assert lister.list() == truth(writer.root)
    assert is_current(writer.root)


def test_times_that_sqlite_cannot_hold(pair: tuple[Actor, Actor]) -> None:
    """Somebody set the times of files and directories to a year far ahead."""
    writer, lister = pair
    far = (1 << 64) + 7
    for path in (Path(writer.layout.shard_path(NAME)), Path(writer.layout.shard_path(NAME)).parent):
        with contextlib.suppress(OverflowError, OSError):  # not every system can
            os.utime(path, ns=(far, far))
    look_now(lister)
    assert lister.list() == truth(writer.root)
    shutil.rmtree(writer.root / "index")
    assert lister.list() == truth(writer.root)
    assert rows.fingerprint_of(mock.Mock(st_ino=1 << 63, st_mtime_ns=far)) < 1 << 63


def test_a_turn_compares_a_bounded_number(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is for the next turns; `compare_all` compares every file at once."""
    writer, lister = pair
    looked_at: list[str] = []
    real = lister.place.shards.fingerprint
    monkeypatch.setattr(lister.place.shards, "fingerprint", lambda name: looked_at.append(name) or real(name))  # type: ignore[func-returns-value]
    monkeypatch.setattr(directories, "_FILES_MOST", 3)
    total = len(truth(writer.root))
    catalog = lister.place.take(write=False)
    meta = catalog.begin()
    found = Directories()
    for _ in range(-(-total // 3)):
        found._turn = found._next = 0.0
        before = len(looked_at)
        found.check(lister.place.shards, catalog, meta.file)
        assert len(looked_at) <= before + 3
    assert set(looked_at) == {name_of(key) for key in truth(writer.root)}
    looked_at.clear()
    found.compare_all(lister.place.shards, catalog, meta.file)
    assert set(looked_at) == {name_of(key) for key in truth(writer.root)}
    assert found.found.suspects == frozenset()
    catalog.close()


def test_it_looks_at_most_every_few_milliseconds(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    _, lister = pair
    now = [100.0]
    monkeypatch.setattr(directories.time, "monotonic", lambda: now[0])
    asked: list[str] = []
    monkeypatch.setattr(directories, "ctime_of", lambda path: asked.append(path) or 0)  # type: ignore[func-returns-value]
    catalog = lister.place.take(write=False)
    meta = catalog.begin()
    found = Directories()
    counts = []
    for pause in (0.0, 0.0, 0.5 * CHECK_S, CHECK_S):
        now[0] += pause
        asked.clear()
        found.check(lister.place.shards, catalog, meta.file)
        counts.append(len(asked))
    assert counts == [256, 0, 0, 256]
    catalog.close()


def test_what_was_found_while_a_refresh_published_is_kept() -> None:
    """A shard that was taken in may have been changed by hand once more: so all of it is kept."""
    differences = Directories()
    taken = differences.found = Found(frozenset({"a", "b"}), {"3f": 1})
    differences._add({"a"}, {"40": 2})
    assert taken == (frozenset({"a", "b"}), {"3f": 1})
    differences.published(taken, "changes.x")
    assert differences.found == (frozenset({"a", "b"}), {"3f": 1, "40": 2})
    differences.published(differences.found, "changes.x")
    assert differences.found == NOTHING


def test_two_threads_that_compare_lose_nothing(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one waits, and sees what the first one found; a refresh may publish meanwhile."""
    writer, lister = pair
    Path(writer.layout.shard_path(NAME)).unlink()
    look_now(lister)
    inside, go_on = threading.Event(), threading.Event()
    real = lister.place.shards.fingerprints

    def slow(prefix: str) -> dict[str, int]:
        if prefix == NAME[:2] and not inside.is_set():
            inside.set()
            assert go_on.wait(30)
        return real(prefix)

    monkeypatch.setattr(lister.place.shards, "fingerprints", slow)
    lists = []
    threads = [threading.Thread(target=lambda: lists.append(lister.list(refresh=False))) for _ in range(2)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    threads[1].join(0.1)
    assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert lists == [truth(writer.root)] * 2
    assert NAME in lister.place.directories.found.suspects
    lister.list()


def test_a_signal_handler_that_lists_meanwhile_loses_nothing() -> None:
    """It neither waits for its own thread, nor is what it found written over."""
    differences = Directories()

    class Interrupted(frozenset[str]):
        def __or__(self, others: Any) -> frozenset[str]:
            if interruptions.pop():
                with differences._mutex:
                    differences._add({"handler"}, {"40": 2})
            return frozenset.__or__(self, others)

    interruptions = [False, False, True]
    differences.found = Found(Interrupted({"a"}), {"3f": 1})
    with differences._mutex:
        differences._add({"b"}, {"41": 3})
    assert differences.found == (frozenset({"a", "b", "handler"}), {"3f": 1, "40": 2, "41": 3})


def test_no_directory_has_no_ctime(tmp_path: Path) -> None:
    assert ctime_of(str(tmp_path)) == tmp_path.stat().st_ctime_ns
    assert ctime_of(str(tmp_path / "none")) == 0
