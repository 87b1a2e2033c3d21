"""The protocol, step by step: each rule has a schedule of processes in which only that rule saves the answer.

Every scenario runs twice: with the code as it is, where it must hold, and with one rule taken out of the code, where
it must not. A rule whose scenario holds without it is not tested.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from shardstore._files.change_file import file as changes
from shardstore._files.change_file.file import ChangeFile
from shardstore._files.change_file.tracker import ChangeTracker
from shardstore._files.direct import shards
from shardstore._files.direct.shards import ShardReader
from shardstore._files.file import JournalFile
from shardstore._files.index import catalog, lister, refresh
from shardstore._files.index.directories import Directories
from shardstore._files.index.lister import Lister
from shardstore._files.transaction import FileTransaction
from shardstore.store import Store
from tests.index import moves
from tests.index.actors import Actor, change_file, is_current, mutate, name_of, once_after, once_before, truth
from tests.support import actions
from tests.support.peer import one_peer

Patch = pytest.MonkeyPatch
Scenario = Callable[[Path, Patch], None]


def check(root: Path, *actors: Actor) -> None:
    """Every process lists what is in the shards; the one that refreshes not first."""
    expected = truth(root)
    for one in actors:
        assert one.list(refresh=False) == expected
    for one in actors:
        assert one.list() == expected


def two(root: Path) -> tuple[Actor, Actor]:
    """Return two processes and an index that is up to date."""
    writer, lister = Actor(root), Actor(root)
    writer.write("s", n=0)
    writer.write("t", n=0)
    assert len(lister.list()) == 2
    assert is_current(root)
    return writer, lister


def elsewhere(function: Callable[[], Any]) -> Any:
    """Call in another thread: a list inside an update refreshes nothing."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def rotating(patch: Patch) -> None:
    """Have the next refresh begin a new change file."""
    patch.setattr(refresh, "BYTES_MAX", 0)


# A writer against a refresher


def refreshed_since_it_was_marked(root: Path, patch: Patch) -> None:
    """A session that this process has marked as changed before the last mark is changed again."""
    writer, lister = two(root)
    writer.write("s", n=1)
    assert lister.list() == truth(root)
    writer.write("s", n=2)
    check(root, lister, writer)


def another_file_between_searching_and_marking(root: Path, patch: Patch) -> None:
    """A refresher begins a new change file; the writer appends to the old one, which nobody reads any more."""
    writer, lister = two(root)
    writer.write("t", n=1)
    rotating(patch)
    hooked = once_before(patch, ChangeFile, "write", lambda: elsewhere(lister.list))
    writer.write("s", n=1)
    assert hooked
    check(root, lister, writer)


def marked_in_the_old_file_after_it_was_read(root: Path, patch: Patch) -> None:
    """The refresher has read the old change file when a writer appends to it, and finds its name in place."""
    writer, lister = two(root)
    writer.write("t", n=1)
    rotating(patch)
    hooked = once_before(patch, refresh, "fingerprint", lambda: writer.write("s", n=1))
    lister.list()
    assert hooked
    check(root, lister, writer)


def refreshed_between_marking_and_committing(root: Path, patch: Patch) -> None:
    """The shard is marked as changed, not committed and locked when the refresher comes."""
    writer, lister = two(root)
    with writer.writing("s", n=1):
        assert elsewhere(lister.list)["s"] == {"n": 0}
        assert elsewhere(lister.list)["s"] == {"n": 0}
    check(root, lister, writer)


def marked_while_the_shards_are_read(root: Path, patch: Patch) -> None:
    """A writer marks, commits and is gone between the refresher's reading and its publication."""
    writer, lister = two(root)
    writer.write("t", n=1)
    hooked = once_after(patch, refresh, "read_locked", lambda: writer.write("s", n=1))
    lister.list()
    assert hooked
    check(root, lister, writer)


def killed_after_the_commit(root: Path, patch: Patch) -> None:
    """The writer's process ends at the second of the two steps mark and commit, whichever that is."""
    with Store(root) as store:
        store.create("s", {"n": 0})
        assert store.list()[0].fields == {"n": 0}
    assert is_current(root)

    def die() -> None:
        mine = Store(root, durability="relaxed")
        steps: list[str] = []
        pool = mine._engine.pool
        mark = pool.mark_changed

        def marking(name: str, *seen: Any, **how: Any) -> None:
            steps.append("mark")
            if len(steps) == 2:
                os._exit(0)
            mark(name, *seen, **how)

        pool.mark_changed = marking
        real = JournalFile.append

        def append(*args: Any, **kwargs: Any) -> None:
            steps.append("commit")
            if len(steps) == 2:
                os._exit(0)
            real(*args, **kwargs)

        patch.setattr(JournalFile, "append", append)
        mine.update("s", lambda draft: draft.update(n=1))

    assert actions.wait_for(actions.in_child(die)) == 0
    check(root, Actor(root))


def change_that_cannot_be_marked(root: Path, patch: Patch) -> None:
    """The disk is full when the shard is to be marked, and has room for the commit, as preallocated space has."""
    writer, lister = two(root)
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if b"~" in data:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    patch.setattr(changes.os, "write", full)
    writer.write("s", n=1)
    patch.setattr(changes.os, "write", real)
    check(root, lister, writer)


def change_file_cut_under_a_writer(root: Path, patch: Patch) -> None:
    """Cut off at a line's end, where no line shows it: the next writer sees that it is shorter than it was."""
    writer, lister = two(root)
    size = change_file(root).stat().st_size
    writer.write("s", n=1)
    os.truncate(change_file(root), size)
    writer.write("t", n=1)
    check(root, lister, writer)


# A list against what happens to the files


def index_deleted_under_a_lister(root: Path, patch: Patch) -> None:
    """The lister has the change file open, which nobody writes to any more."""
    writer, lister = two(root)
    change_file(root).unlink()
    writer.write("s", n=1)
    assert lister.list(refresh=False) == truth(root)


def change_file_replaced_by_a_copy(root: Path, patch: Patch) -> None:
    """A copy has the name; what was marked after it was made is in the original."""
    writer, _ = two(root)
    path = change_file(root)
    shutil.copy2(path, root / "copy")
    writer.write("s", n=1)
    os.rename(root / "copy", path)
    check(root, Actor(root))


def change_with_a_wrong_byte(root: Path, patch: Patch) -> None:
    """The name of a changed shard is damaged: the line is none."""
    writer, lister = two(root)
    writer.write("s", n=1)
    path = change_file(root)
    data = path.read_bytes()
    at = data.rindex(b"~") + 1
    path.write_bytes(data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :])
    assert lister.list(refresh=False) == truth(root)


def noise_in_the_catalog(root: Path, patch: Patch) -> None:
    """A value in the catalog is overwritten by another one of the same length."""
    _, lister = two(root)
    path = root / "index" / "catalog"
    data = path.read_bytes()
    assert b'{"n":0}' in data
    path.write_bytes(data.replace(b'{"n":0}', b'{"n":7}'))
    check(root, Actor(root), lister)


def published_under_a_reader_whose_locks_fell(root: Path, patch: Patch) -> None:
    """Other code in the process opens and closes the catalog: SQLite's locks fall, and somebody publishes.

    A session moves, while rows come in the order of their times, from where they have not been to where they were.
    """
    mine = Actor(root)
    for number in range(1500):
        mine.write(f"k{number:04}", n=number, pad="x" * 200)
    mine.list()
    real = catalog.Catalog.part

    def slowly(self: Any, *args: Any) -> Any:
        for count, candidate in enumerate(real(self, *args)):
            if count == 5 and not done:
                done.append(True)
                with open(self.path, "rb"):
                    pass
                mine.write("k0000", n=-1)
                other.run(_refresh, str(root))
            yield candidate

    done: list[bool] = []
    with one_peer() as other:
        other.run(moves.listed, str(root))
        patch.setattr(catalog.Catalog, "part", slowly)
        found = mine.list(refresh=False)
    assert done
    assert found == truth(root)


def _refresh(root: str) -> None:
    """In another process: publish whatever is marked as changed."""
    lister._REREADS = 1  # type: ignore[misc]
    moves.store(root).list(limit=1)


def machine_started_again(root: Path, patch: Patch) -> None:
    """A line that was not synced is gone after a crash, at a line's end, where no line shows it."""
    writer, _ = two(root)
    size = change_file(root).stat().st_size
    writer.write("s", n=1)
    os.truncate(change_file(root), size)
    patch.setattr("shardstore._files.index.place.life_of", lambda _: "another life")
    check(root, Actor(root))


def put_back_and_changed_to_the_same_length(root: Path, patch: Patch) -> None:
    """A shard is put back from a backup by hand, and changed: same revision, same length, another content. Then on."""
    writer, lister = two(root)
    path = root / "shards" / name_of("s")
    shutil.copy2(path, root / "backup")
    writer.write("s", n=1)
    assert lister.list(refresh=False)["s"] == {"n": 1}
    os.rename(root / "backup", path)
    writer.write("s", m=1)
    writer.write("s", x=1)
    assert lister.list(refresh=False)["s"] == {"n": 0, "m": 1, "x": 1}
    check(root, lister, writer)


def changed_in_its_middle_by_hand(root: Path, patch: Patch) -> None:
    """The end of a shard is as it was; what stands before is damaged, and verify says so."""
    writer, lister = two(root)
    writer.write("s", n=1)
    writer.write("s", n=2)
    assert lister.list(refresh=False)["s"] == {"n": 2}
    path = root / "shards" / name_of("s")
    data = path.read_bytes()
    time.sleep(0.05)  # else an older kernel may give both writes one time
    path.write_bytes(data.replace(b'"n":1', b'"n":9'))
    lister.index.mark_changed(name_of("s"))
    assert "s" not in lister.list(refresh=False)
    path.write_bytes(data)


# Rebuilding it


def listing_misses_a_file(root: Path, patch: Patch) -> None:
    """A directory is listed while a file in it is renamed over, and the file is not in the listing, as btrfs does."""
    _, lister = two(root)
    prefix, file = name_of("s").split("/")
    real = os.scandir
    missed: list[bool] = []

    class Listing(list[Any]):
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    def missing(path: str) -> Any:
        with real(path) as entries:
            found = Listing(entries)
        if str(path).endswith(f"/shards/{prefix}") and not missed:
            missed.append(True)
            return Listing(entry for entry in found if entry.name != file)
        return found

    change_file(root).unlink()
    lister.place.directories._next = float("inf")  # it would find the file a second later
    with patch.context() as listing:
        listing.setattr(shards.os, "scandir", missing)
        found = lister.list()
    assert missed
    assert found == truth(root)


def made_anew_while_a_writer_is_inside(root: Path, patch: Patch) -> None:
    """There is no index when a writer marks its shard; one is made, and read from, before the writer commits."""
    writer, lister = Actor(root), Actor(root)
    writer.write("s", n=0)
    with writer.writing("s", n=1):
        assert lister.list() == {"s": {"n": 0}}
    check(root, lister, writer)


SCENARIOS: list[Scenario] = [
    refreshed_since_it_was_marked,
    another_file_between_searching_and_marking,
    marked_in_the_old_file_after_it_was_read,
    refreshed_between_marking_and_committing,
    marked_while_the_shards_are_read,
    killed_after_the_commit,
    change_that_cannot_be_marked,
    change_file_cut_under_a_writer,
    index_deleted_under_a_lister,
    change_file_replaced_by_a_copy,
    change_with_a_wrong_byte,
    noise_in_the_catalog,
    published_under_a_reader_whose_locks_fell,
    machine_started_again,
    put_back_and_changed_to_the_same_length,
    changed_in_its_middle_by_hand,
    listing_misses_a_file,
    made_anew_while_a_writer_is_inside,
]

WITHOUT_LOCKS = [(ShardReader, "_read_locked", (("if not try_lock(fd):", "if False:"), ("unlock(fd)", "pass")))]
WITHOUT_MARKING_AGAIN = [(refresh, "read_locked", (('file.append(change(name, UNSEEN, ""))', "pass"),))]
UNLINKED_LATE = (
    ("if rotates:  # from here on", "if False:  # from here on"),
    ("changes = read_locked(", "if rotates: unlink(old.path)\n            changes = read_locked("),
)
MARKED_LATE = (
    ("mark = new.append(MARK)", "pass"),
    ("catalog.publish(", "mark = new.append(MARK)\n            catalog.publish("),
)

RULES: dict[str, tuple[Scenario, list[tuple[Any, str, tuple[tuple[str, str], ...]]]]] = {
    "marks not searched for": (
        refreshed_since_it_was_marked,
        [(ChangeTracker, "_mark_in", (("file.has_mark(size, now)", "False"),))],
    ),
    "the name not looked at after marking": (
        another_file_between_searching_and_marking,
        [(ChangeTracker, "_mark", (("if all(seen.file.name_exists() for seen in known):", "if True:"),))],
    ),
    "the old change file unlinked after it was read": (
        marked_in_the_old_file_after_it_was_read,
        [(refresh, "_refresh", UNLINKED_LATE)],
    ),
    "busy shard not marked again": (refreshed_between_marking_and_committing, WITHOUT_MARKING_AGAIN),
    "changed shard read without its lock": (refreshed_between_marking_and_committing, WITHOUT_LOCKS),
    "mark set after the changes are read": (marked_while_the_shards_are_read, [(refresh, "_refresh", MARKED_LATE)]),
    "marked after the commit": (
        killed_after_the_commit,
        [
            (
                FileTransaction,
                "commit",
                (
                    ("self._mark_changed(shard.name, shard.key, journal.state)", "pass"),
                    (
                        "file.append(line, after, durable=durable)",
                        "file.append(line, after, durable=durable); self._mark_changed(shard.name, shard.key, journal.state)",
                    ),
                ),
            )
        ],
    ),
    "index not deleted when it cannot be told": (
        change_that_cannot_be_marked,
        [
            (
                ChangeTracker,
                "_discard",
                (("disk.with_descriptor(lambda: discard(self._directory), self._free_descriptors)", "pass"),),
            )
        ],
    ),
    "a shorter change file taken for whole": (
        change_file_cut_under_a_writer,
        [(ChangeTracker, "_mark_in", (("if now < size:", "if False:"),))],
    ),
    "the change file's name not looked at after the query": (
        index_deleted_under_a_lister,
        [(Lister, "_from_catalog", (("or not file.is_named()", ""),))],
    ),
    "a copy of the change file believed": (
        change_file_replaced_by_a_copy,
        [(ChangeFile, "_begin", (("{self.identity[0]}", "0"),))],
    ),
    "a damaged change believed": (
        change_with_a_wrong_byte,
        [(ChangeFile, "lines", (("if any(", "if False and any("),))],
    ),
    "the catalog not compared with its seal": (
        noise_in_the_catalog,
        [
            (
                Lister,
                "_from_catalog",
                (
                    ("if not is_sealed(place, meta, pending):  #", "if False:  #"),
                    ("if not is_sealed(place, meta, pending) or", "if False or"),
                ),
            )
        ],
    ),
    "the catalog not compared after the query": (
        published_under_a_reader_whose_locks_fell,
        [(Lister, "_from_catalog", (("if not is_sealed(place, meta, pending) or not", "if not"),))],
    ),
    "another life of the machine believed": (
        machine_started_again,
        [(Lister, "begin", (("if meta.life != self.place.life():", "if False:"),))],
    ),
    "a kept journal known by its length": (
        put_back_and_changed_to_the_same_length,
        [(shards, "_added", (("!= kept.journal.crc", "== b''"),))],
    ),
    "a kept journal believed though its file changed": (
        changed_in_its_middle_by_hand,
        [(shards, "_added", (("status.st_mtime_ns == kept.mtime", "True"),))],
    ),
    "absence believed from one listing": (
        listing_misses_a_file,
        [("rebuild", "_batches", (("after = place.shards.list_directory(prefix, before)", "after = before"),))],
    ),
    "made anew without the shards' locks": (made_anew_while_a_writer_is_inside, WITHOUT_LOCKS),
    "busy shard not marked again when made anew": (made_anew_while_a_writer_is_inside, WITHOUT_MARKING_AGAIN),
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_protocol_holds(root: Path, monkeypatch: Patch, scenario: Scenario) -> None:
    """With every rule in place, the answer is what is in the shards."""
    scenario(root, monkeypatch)


@pytest.mark.parametrize("deviation", RULES)
@pytest.mark.damages
def test_without_the_rule_it_does_not(root: Path, monkeypatch: Patch, deviation: str) -> None:
    """With one rule taken away, the schedule made for it gives a wrong answer."""
    from shardstore._files.index import rebuild

    monkeypatch.setattr(Directories, "check", lambda *_: None)  # it may find a change that nobody marked
    scenario, deviations = RULES[deviation]
    for owner, name, pieces in deviations:
        mutate(monkeypatch, rebuild if owner == "rebuild" else owner, name, *pieces)
    if deviation.startswith("busy shard not marked again when made"):
        monkeypatch.setattr(rebuild, "read_locked", refresh.read_locked)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        scenario(root, monkeypatch)


def test_every_scenario_is_needed() -> None:
    """Each schedule is what some rule is for."""
    assert {rule[0] for rule in RULES.values()} == set(SCENARIOS)
