"""Files that a person copies in or takes away: found by the directories' ctimes and the files' fingerprints, and forgotten once published."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shardstore._files.direct import rows
from shardstore._files.file import CHECK_S
from shardstore._files.index import directories, rebuild, refresh, upkeep
from shardstore._files.index.directories import NOTHING, Directories, Findings, ctime_of, is_settled
from shardstore._files.index.upkeep import refresh_all
from shardstore._files.layout import PREFIXES
from shardstore.errors import StoreIOError
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
        assert not lister.place.directories.found.suspects  # a later look may have compared a directory again
        assert is_current(writer.root)


@pytest.mark.parametrize("how", ["replaced", "replaced, the times set back", "in place"])
def test_a_file_of_the_same_name_is_found(pair: tuple[Actor, Actor], tmp_path: Path, how: str) -> None:
    """An older journal in the place of the newer one, by rename or in the same file."""
    writer, lister = pair
    path = Path(writer.layout.shard_path(NAME))
    older = path.read_bytes()
    writer.write("k1", n=-1)
    refresh_all(lister.lister)
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
    every = {name_of(key) for key in truth(writer.root)}
    catalog = lister.place.take(write=False)
    meta = catalog.begin()
    found = Directories()
    for _ in range(10 * len(every)):
        found._turn = found._next = 0.0
        before = len(looked_at)
        found.check(lister.place.shards, catalog, meta)
        assert len(looked_at) <= before + 4, "three, and one that was begun with"
    assert set(looked_at) == every
    looked_at.clear()
    found.compare_all(lister.place.shards, catalog, meta)
    assert set(looked_at) == every
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
        found.check(lister.place.shards, catalog, meta)
        counts.append(len(asked))
    assert counts == [256, 0, 0, 256]
    catalog.close()


def test_what_was_found_while_a_refresh_published_is_kept() -> None:
    """A shard that was taken in may have been changed by hand once more: so all of it is kept."""
    differences = Directories()
    taken = differences.found = Findings(frozenset({"a", "b"}), {"3f": 1})
    differences._add("", {"a"}, {"40": 2})
    assert taken == (frozenset({"a", "b"}), {"3f": 1})
    differences._edition = "changes.x", 6
    differences.published(taken, ("changes.x", 7))
    assert differences.found == (frozenset({"a", "b"}), {"3f": 1, "40": 2})
    assert differences._edition is None, "what was compared meanwhile was compared with the catalog of before"
    differences.published(differences.found, ("changes.x", 7))
    assert (differences.found, differences._edition) == (NOTHING, ("changes.x", 7))


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

    interruptions = [True]

    class Interrupted(frozenset[str]):
        def __iter__(self) -> Iterator[str]:
            if interruptions and interruptions.pop():
                with differences._mutex:
                    differences._add("", {"handler"}, {"40": 2})
            return frozenset.__iter__(self)

    differences.found = Findings(Interrupted({"a"}), {"3f": 1})
    with differences._mutex:
        differences._add("", {"b"}, {"41": 3})
    assert differences.found == (frozenset({"a", "b", "handler"}), {"3f": 1, "40": 2, "41": 3})


def test_a_ctime_is_one_that_sqlite_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a directory that is not there, and of one whose clock was set beyond the year 2262."""
    assert ctime_of(str(tmp_path)) == tmp_path.stat().st_ctime_ns
    assert ctime_of(str(tmp_path / "none")) == 0
    for nanoseconds, given in (((1 << 63) - 1, (1 << 63) - 1), (1 << 63, 0), ((1 << 63) + 7, 7)):
        monkeypatch.setattr(directories.os, "stat", lambda _, ns=nanoseconds: mock.Mock(st_ctime_ns=ns))
        assert ctime_of("far") == given


@pytest.mark.parametrize(
    ("ctime", "settles"),
    [(5_000_000_001, 20_000_000), (5_000_000_000, 1_020_000_000)],
    ids=["nanoseconds", "whole seconds"],
)
def test_a_ctime_is_believed_once_another_change_would_move_it(
    monkeypatch: pytest.MonkeyPatch, ctime: int, settles: int
) -> None:
    """After a tick of the kernel's clock; after a second more where the file system may keep whole seconds."""
    for passed, settled in ((0, False), (settles, False), (settles + 1, True), (-settles, False), (-settles - 1, True)):
        monkeypatch.setattr(directories.time, "time_ns", lambda now=ctime + passed: now)
        assert is_settled(ctime) == settled, passed


# Found by review, each once missed until compact


def test_a_directory_that_cannot_be_listed_now_is_compared_later(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is free, or the disk fails for a moment: that says nothing of what is in it."""
    writer, lister = pair
    kept = Path(writer.layout.shard_path(NAME)).read_bytes()
    Path(writer.layout.shard_path(NAME)).unlink()
    look_now(lister)
    lister.list()
    time.sleep(2 * directories._TICK_NS / 1e9)
    look_now(lister)
    lister.list()
    Path(writer.layout.shard_path(NAME)).write_bytes(kept)
    time.sleep(2 * directories._TICK_NS / 1e9)
    real, full = os.scandir, OSError(errno.EMFILE, "Too many open files")

    def no_descriptor(path: str) -> Any:
        if path.endswith(f"/{NAME[:2]}"):
            raise full
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr("shardstore._files.direct.shards.os.scandir", no_descriptor)
        look_now(lister)
        lister.list()
    look_now(lister)
    assert lister.list() == truth(writer.root)


def test_every_directory_has_its_turn(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories in which sessions are made all the time do not keep the others from being compared."""
    _, lister = pair
    monkeypatch.setattr(directories, "_FILES_MOST", 8)
    now = [0]
    monkeypatch.setattr(directories, "ctime_of", lambda _: now[0])
    catalog = lister.place.take(write=False)
    meta = catalog.begin()
    found, compared = Directories(), set[str]()
    real = lister.place.shards.fingerprints
    monkeypatch.setattr(lister.place.shards, "fingerprints", lambda prefix: compared.add(prefix) or real(prefix))  # type: ignore[func-returns-value]
    walked: list[int] = []
    monkeypatch.setattr(catalog, "known", lambda _, until=b"", most=-1: walked.append(most) or [])  # type: ignore[func-returns-value]
    for _ in range(256):
        now[0] += 1  # every directory has changed
        found._turn = found._next = 0.0
        found.check(lister.place.shards, catalog, meta)
    assert compared == set(PREFIXES)
    assert set(walked) - {-1} == {2}, "and files that were changed in place have theirs"
    catalog.close()


@pytest.mark.parametrize(("files", "looks"), [(0, 1), (1, 2), (None, 1)], ids=["empty", "a file", "unreadable"])
def test_a_turn_takes_a_second_and_the_next_goes_on_behind_it(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch, files: int | None, looks: int
) -> None:
    """Each directory and each file in it is a look; a turn ends with the look that uses up its last one."""
    _, lister = pair
    monkeypatch.setattr(directories, "_FILES_MOST", 8)
    now, changes = [100.0], [0]
    monkeypatch.setattr(directories.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(directories, "ctime_of", lambda _: changes[0])
    compared: list[str] = []

    def fingerprints(prefix: str) -> dict[str, int]:
        compared.append(prefix)
        if files is None:
            raise StoreIOError(errno.EIO, os.strerror(errno.EIO))
        return dict.fromkeys((f"{prefix}/{n}" for n in range(files)), 7)

    monkeypatch.setattr(lister.place.shards, "fingerprints", fingerprints)
    catalog = lister.place.take(write=False)
    meta = catalog.begin()
    found = Directories()
    turns = []
    for _ in range(3):
        for _ in range(90):  # looks of one turn
            changes[0] += 1  # every directory has changed
            found.check(lister.place.shards, catalog, meta)
            now[0] += CHECK_S
        turns.append(compared[:])
        compared.clear()
        now[0] += 0.2
    assert [len(turn) for turn in turns] == [8 // looks] * 3
    assert tuple(prefix for turn in turns for prefix in turn) == PREFIXES[: 3 * 8 // looks]
    catalog.close()


def test_a_walk_goes_on_behind_the_last_file_and_begins_anew_at_the_end(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So every file has its turn, for a change in place moves no directory's ctime."""
    writer, lister = pair
    for n in range(7):
        writer.write(f"walked{n}", n=n)
    refresh_all(lister.lister)
    every = sorted(map(name_of, truth(writer.root)), key=lambda name: name.rpartition("~")[2])
    catalog = lister.place.take(write=False)
    catalog.begin()
    looked_at: list[str] = []
    real = lister.place.shards.fingerprint
    monkeypatch.setattr(lister.place.shards, "fingerprint", lambda name: looked_at.append(name) or real(name))  # type: ignore[func-returns-value]
    found = Directories()
    for _ in range(2):
        looked_at.clear()
        for _ in range(len(every) // 3 + 1):
            found._walk(lister.place.shards, catalog, 3)
        assert looked_at == every
    assert found.found == NOTHING
    unread = [(b"", "3f/a~b.jsonl", 0)]  # without a fingerprint, for there was nothing to look at; there still is not
    monkeypatch.setattr(catalog, "known", lambda _, most: unread)
    found._walk(lister.place.shards, catalog, 3)
    assert found.found == NOTHING
    catalog.close()


def test_a_directory_that_changed_this_moment_is_compared_again(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one tick of the kernel's clock a second change moves no ctime: neither a list nor a rebuild believes it."""
    writer, lister = pair
    path = Path(writer.layout.shard_path(NAME))
    ctime = ctime_of(str(path.parent)) + 1000  # of both changes
    monkeypatch.setattr(directories, "ctime_of", lambda one: ctime if one == str(path.parent) else ctime_of(one))
    monkeypatch.setattr(rebuild, "ctime_of", lambda one: ctime if one == str(path.parent) else ctime_of(one))
    monkeypatch.setattr(directories.time, "time_ns", lambda: ctime + 1)
    for rebuilt in (False, True):
        kept = path.read_bytes()
        path.unlink()
        look_now(lister)
        if rebuilt:
            lister.lister.rebuild(None)
        assert lister.list() == truth(writer.root)
        path.write_bytes(kept)
        look_now(lister)
        assert lister.list() == truth(writer.root)
    assert not is_settled(ctime)
    monkeypatch.setattr(directories.time, "time_ns", lambda: ctime + directories._TICK_NS + 1)
    assert is_settled(ctime)


def test_what_another_process_publishes_is_compared_again(root: Path) -> None:
    """It has read a file as gone that is back by now: no difference to the catalog before, one to the catalog after."""
    writer, other, lister = (Actor(root) for _ in range(3))
    writer.write("k1", n=1)
    path = Path(writer.layout.shard_path(NAME))
    for one in (other, lister):
        look_now(one)
        one.list()
    time.sleep(2 * directories._TICK_NS / 1e9)
    kept = path.read_bytes()
    path.unlink()
    real = refresh.read_locked

    def read_and_put_back(*args: Any) -> Any:
        found = real(*args)
        path.write_bytes(kept)
        time.sleep(2 * directories._TICK_NS / 1e9)
        look_now(lister)
        lister.list(refresh=False)  # compares with the catalog before
        return found

    with mock.patch.object(refresh, "read_locked", read_and_put_back):
        look_now(other)
        refresh_all(other.lister)
    look_now(lister)
    assert lister.list() == truth(root)


def test_a_reader_forgets_what_others_have_published(root: Path) -> None:
    """Else each of its lists would read these shards again, for ever: it publishes nothing itself."""
    writer, reader = Actor(root), Actor(root)
    writer.write("k1", n=1)
    writer.list()
    reader.list(refresh=False)
    Path(writer.layout.shard_path(NAME)).unlink()
    time.sleep(2 * directories._TICK_NS / 1e9)
    look_now(reader)
    assert reader.list(refresh=False) == {}
    assert reader.place.directories.found.suspects == {NAME}
    refresh_all(writer.lister)
    look_now(reader)
    assert reader.list(refresh=False) == {}
    assert reader.place.directories.found.suspects == set()


def test_nothing_is_published_into_another_catalog(pair: tuple[Actor, Actor]) -> None:
    """What was found beside a catalog that was replaced meanwhile may be wrong of the new one."""
    _, lister = pair
    catalog = lister.place.take(write=False)
    meta = catalog.begin()
    differences = Directories()
    differences.compare_all(lister.place.shards, catalog, meta)
    assert differences.to_publish(meta) is differences.found
    assert differences.to_publish(meta._replace(mark=meta.mark + 1)) is NOTHING
    assert differences.to_publish(meta._replace(file="changes.x")) is NOTHING
    catalog.close()


def test_a_file_that_comes_during_the_look_is_found(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The ctime was young when it was looked at, though not any more when the files have been compared."""
    _, lister = pair
    now = [time.time_ns()]
    monkeypatch.setattr(directories.time, "time_ns", lambda: now[0])
    catalog = lister.place.take(write=False)
    meta = catalog.begin()
    differences = Directories()
    differences._follow(catalog, meta)
    real = lister.place.shards.fingerprints

    def slow(prefix: str) -> dict[str, int]:
        now[0] += 10 * directories._TICK_NS
        return real(prefix)

    monkeypatch.setattr(lister.place.shards, "fingerprints", slow)
    differences._compare(lister.place.shards, catalog, "3f", now[0] - 1)
    assert differences._known.get("3f") != now[0] - 10 * directories._TICK_NS - 1
    assert differences.found.compared == {}
    catalog.close()


def test_a_directory_that_cannot_be_listed_for_long_costs_nothing(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions are not read again at each look; what was suspected before stays so."""
    _, lister = pair
    catalog = lister.place.take(write=False)
    meta = catalog.begin()
    differences = Directories()
    differences._follow(catalog, meta)
    differences._add(NAME[:2], {NAME}, {NAME[:2]: 7})
    refused = StoreIOError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr(lister.place.shards, "fingerprints", mock.Mock(side_effect=refused))
    for _ in range(3):
        differences._next = differences._turn = 0.0
        differences.compare_all(lister.place.shards, catalog, meta)
    assert differences.found.suspects == {NAME}
    assert NAME[:2] not in differences._known
    catalog.close()


def test_compact_waits_for_whoever_refreshes(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """It promises to find everything: so it looks again when the other one is done."""
    monkeypatch.setattr(upkeep, "_WAIT_S", 30.0)
    writer, lister = pair
    lister.list()
    path = Path(writer.layout.shard_path(NAME))
    path.unlink()
    catalog = writer.place.take(write=False)
    _, file, _ = writer.lister.begin(catalog)
    catalog.end()
    assert file.lock()
    threading.Timer(0.05, file.unlock).start()
    refresh_all(lister.lister)
    writer.place.give_back(catalog)
    assert not lister.place.directories.found.suspects
    assert is_current(writer.root)
