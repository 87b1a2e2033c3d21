"""The protocol, step by step: each rule has a schedule of two processes in which only that rule saves the answer.

Every scenario runs twice: with the code as it is, where it must hold, and with one rule taken out of the code, where
it must not. A rule whose scenario holds without it is not tested.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from shardstore import query as queries
from shardstore._files.index import look, noter, notes, rebuild, refresh, shards, views
from shardstore._files.index.reader import Reader
from shardstore._files.layout import shard_name
from shardstore._files.shard import Shard
from shardstore.store import Store
from tests.index.actors import Actor, is_current, mutate, name_of, once_after, once_before, place_of, truth
from tests.support import actions

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
    """Give two processes and an index that is up to date."""
    writer, lister = Actor(root), Actor(root)
    writer.write("s", n=0)
    writer.write("t", n=0)
    assert len(lister.list()) == 2
    assert is_current(root)
    return writer, lister


# A writer against a refresher


def refreshed_between_reading_the_generation_and_noting(root: Path, patch: Patch) -> None:
    """The refresher takes in, and deletes, the note files that the writer is about to append to."""
    writer, lister = two(root)
    writer.write("t", n=1)  # opens the note files of this generation
    hooked = once_before(patch, notes.NoteWriter, "append", lambda: lister.index.rows())
    writer.write("s", n=1)
    assert hooked
    check(root, lister, writer)


def refreshed_between_noting_and_committing(root: Path, patch: Patch) -> None:
    """The shard is noted, not committed and locked when the refresher comes."""
    writer, lister = two(root)
    with writer.writing("s", n=1):
        assert lister.list()["s"] == {"n": 0}
        assert lister.list()["s"] == {"n": 0}
    check(root, lister, writer)


def refreshed_by_one_who_has_the_shard_open(root: Path, patch: Patch) -> None:
    """As before; the refresher reads the shard through the descriptor that it writes with."""
    writer, lister = two(root)
    lister.write("s", n=0, m=1)
    assert lister.pool.cached(shard_name("s")) is not None
    with writer.writing("s", n=1, m=2):
        assert lister.list()["s"] == {"n": 0, "m": 1}
        assert lister.list()["s"] == {"n": 0, "m": 1}
    check(root, lister, writer)


def noted_while_the_notes_are_read(root: Path, patch: Patch) -> None:
    """A writer notes, commits and is gone between the refresher's reading of the notes and its publication."""
    writer, lister = two(root)
    writer.write("t", n=1)
    hooked = once_after(patch, refresh._Refresh, "_read", lambda: writer.write("s", n=1))
    lister.index.rows()
    assert hooked
    check(root, lister, writer)


def killed_after_the_commit(root: Path, patch: Patch) -> None:
    """The writer's process ends at the second of the two steps note and commit, whichever that is."""
    with Store(root) as store:
        store.create("s", {"n": 0})
        assert store.list()[0].fields == {"n": 0}
        assert is_current(root)

    def die() -> None:
        mine = Store(root, durability="relaxed")
        steps: list[str] = []
        note, engine = mine._engine.index.note, mine._engine

        def noting(name: str) -> None:
            steps.append("note")
            if len(steps) == 2:
                os._exit(0)
            note(name)

        engine.index.note = noting
        real = shard_module.Shard.commit

        def commit(*args: Any, **kwargs: Any) -> Any:
            steps.append("commit")
            if len(steps) == 2:
                os._exit(0)
            return real(*args, **kwargs)

        shard_module.Shard.commit = commit
        mine.update("s", lambda draft: draft.update(n=1))

    from shardstore._files import shard as shard_module

    assert actions.wait_for(actions.in_child(die)) == 0
    check(root, Actor(root))


def generation_file_deleted_under_a_writer(root: Path, patch: Patch) -> None:
    """The index is deleted and made anew within the time for which a writer believes its last look at the path."""
    clock = [time.monotonic()]
    patch.setattr(noter.time, "monotonic", lambda: clock[0])
    patch.setattr(rebuild.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    writer, lister = two(root)
    writer.write("s", n=1)
    lister.list()
    writer.write("s", n=2)  # noted in this generation
    for path in (root / "index").iterdir():
        path.unlink()
    lister.index.rows()
    writer.write("s", n=3)
    patch.undo()
    check(root, lister)


def note_that_cannot_be_written(root: Path, patch: Patch) -> None:
    """The disk is full when the shard is to be noted, and has room for the commit, as a shard's room lets it have."""
    writer, lister = two(root)
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if b"~" in data:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    patch.setattr(notes.os, "write", full)
    writer.write("s", n=1)
    patch.setattr(notes.os, "write", real)
    check(root, lister, writer)


# A list against a refresher


def refreshed_between_catalogue_and_notes(root: Path, patch: Patch) -> None:
    """The list has asked the catalogue; then a refresher takes in a change and deletes its note."""
    writer, lister = two(root)
    writer.write("s", n=1)
    real = views.select

    def then_refresh(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        if not done:
            done.append(True)
            assert refresh.refresh(place_of(root))
        return result

    done: list[bool] = []
    patch.setattr(views, "select", then_refresh)
    assert lister.list(refresh=False) == truth(root)
    assert done


def published_while_rows_are_read(root: Path, patch: Patch) -> None:
    """A session moves, while rows come in the order of their times, from where they have not been to where they were."""
    writer, lister = Actor(root), Actor(root)
    for number in range(1500):
        writer.write(f"k{number:04}", n=number, pad="x" * 200)
    oldest = "k0000"
    refresher = Actor(root)
    refresher.list()
    real = queries.matching

    def slowly(query: Any, rows: Any, fetch: Any) -> Any:
        for count, candidate in enumerate(real(query, rows, fetch)):
            if count == 5 and not done:
                done.append(True)
                time.sleep(0.002)
                writer.write(oldest, n=-1)
                refresher.list(limit=1)
            yield candidate

    done: list[bool] = []
    patch.setattr(queries, "matching", slowly)
    found = lister.list(refresh=False)
    assert done
    assert found == truth(root)


def note_half_written(root: Path, patch: Patch) -> None:
    """A list looks while half of a note is in the file: it waits for the rest, and neither takes it for damage nor for a name."""
    writer, lister = two(root)
    patch.setattr(notes, "_PATIENCE", (0.0, 0.0, 0.0))
    patch.setattr(Reader, "scan", lambda self, progress: pytest.fail("every shard was read", pytrace=False))
    read = notes._read_file
    missing = iter([10, 40])

    def partly(path: str) -> bytes:
        data = read(path)
        return data[: -next(missing, 0) or None] if path.endswith(".a") else data

    writer.write("s", n=1)
    patch.setattr(notes, "_read_file", partly)
    assert lister.list(refresh=False) == truth(root)


# A rebuild


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

    for path in (root / "index").iterdir():
        path.unlink()
    patch.setattr(shards.os, "scandir", missing)
    found = lister.list()
    assert missed
    assert found == truth(root)


def made_anew_while_a_writer_is_inside(root: Path, patch: Patch) -> None:
    """There is no index when a writer asks whether to note; one is made, and read from, before the writer commits."""
    writer, lister = Actor(root), Actor(root)
    writer.write("s", n=0)
    with writer.writing("s", n=1):
        assert lister.list() == {"s": {"n": 0}}
    check(root, lister, writer)


def directory_compared_while_a_file_is_missed(root: Path, patch: Patch) -> None:
    """The comparison of directories with the catalogue misses a file: it is looked for before it is called absent."""
    _, lister = two(root)
    prefix, file = name_of("s").split("/")
    real = shards.Shards.list_directory
    patch.setattr(
        shards.Shards,
        "list_directory",
        lambda self, p: {f: i for f, i in real(self, p).items() if (p, f) != (prefix, file)},
    )
    lister.index.refresh()
    assert lister.list() == truth(root)


SCENARIOS: list[Scenario] = [
    refreshed_between_reading_the_generation_and_noting,
    refreshed_between_noting_and_committing,
    refreshed_by_one_who_has_the_shard_open,
    noted_while_the_notes_are_read,
    killed_after_the_commit,
    generation_file_deleted_under_a_writer,
    note_that_cannot_be_written,
    refreshed_between_catalogue_and_notes,
    published_while_rows_are_read,
    note_half_written,
    listing_misses_a_file,
    made_anew_while_a_writer_is_inside,
    directory_compared_while_a_file_is_missed,
]

RULES: dict[str, tuple[Scenario, list[tuple[Any, str, tuple[tuple[str, str], ...]]]]] = {
    "no second look at the generation": (
        refreshed_between_reading_the_generation_and_noting,
        [(noter.Noter, "_note", (("if os.lseek(held.fd, 0, os.SEEK_END) == held.size:", "if True:"),))],
    ),
    "busy shard not carried over": (
        refreshed_between_noting_and_committing,
        [(refresh._Refresh, "_read", (("if busy and not self._carry_over(busy):", "if False:"),))],
    ),
    "noted shard read without its lock": (
        refreshed_between_noting_and_committing,
        [(shards.Shards, "_read_file", (("if not try_lock(fd):", "if False:"), ("unlock(fd)", "pass")))],
    ),
    "noted open shard read without its lock": (
        refreshed_by_one_who_has_the_shard_open,
        [
            (
                Shard,
                "read_if_free",
                (
                    ("if file is None or not file.lock.try_acquire():", "if file is None:"),
                    ("file.lock.release()", "pass"),
                ),
            ),
            (shards.Shards, "_read_file", (("if not try_lock(fd):", "if False:"), ("unlock(fd)", "pass"))),
        ],
    ),
    "generation advanced late": (
        noted_while_the_notes_are_read,
        [
            (refresh._Refresh, "_begin", (("generation.advance(self.fd, self.number)", "pass"),)),
            (
                refresh._Refresh,
                "_publish",
                (
                    (
                        "generation.break_seal(self.fd)",
                        "generation.advance(self.fd, self.number); generation.break_seal(self.fd)",
                    ),
                ),
            ),
        ],
    ),
    "note after the commit": (
        killed_after_the_commit,
        [
            (
                Store,
                "update",
                (
                    ("self._engine.index.note(shard.name)", "pass"),
                    ("at=draft.at)", "at=draft.at); self._engine.index.note(shard.name)"),
                ),
            )
        ],
    ),
    "no wait before a new generation file is believed to be seen": (
        generation_file_deleted_under_a_writer,
        [(rebuild._Rebuild, "run", (("time.sleep(GRACE_S)", "time.sleep(0)"),))],
    ),
    "the path not looked at again when the lease is over": (
        generation_file_deleted_under_a_writer,
        [(noter.Noter, "_is_named", (("(status.st_dev, status.st_ino) != held.identity", "False"),))],
    ),
    "index not deleted when it cannot be told": (
        note_that_cannot_be_written,
        [(noter.Noter, "_invalidate", (("discard(self._directory, GENERATION)", "pass"),))],
    ),
    "catalogue before notes": (
        refreshed_between_catalogue_and_notes,
        [
            (
                Reader,
                "_try",
                (
                    ("names = look.names()", "names = set()"),
                    (
                        "return answer",
                        "if Look.open(self.place).names(): raise Moved\n            return answer",
                    ),
                ),
            ),
            (Reader, "_catalogue", (("if not look.stands():", "if False:"),)),
        ],
    ),
    "no second look at the seal": (
        published_while_rows_are_read,
        [(look.Look, "stands", (("return not", "return True or not"),))],
    ),
    "notes read past the last newline": (
        note_half_written,
        [(notes, "_read_copy", (('if data.endswith(b"\\n"):', "if True:"),))],
    ),
    "absence believed from one listing": (
        listing_misses_a_file,
        [(rebuild._Rebuild, "_directory", (("after = shards.list_directory(prefix)", "after = before"),))],
    ),
    "rebuilt without the shards' locks": (
        made_anew_while_a_writer_is_inside,
        [(shards.Shards, "read_quickly", (("if not try_lock(fd):", "if False:"),))],
    ),
    "busy shard not noted by a rebuild": (
        made_anew_while_a_writer_is_inside,
        [(rebuild._Rebuild, "_carry_over", (("if self.busy:", "if False:"),))],
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_protocol_holds(root: Path, monkeypatch: Patch, scenario: Scenario) -> None:
    """With every rule in place, the answer is what is in the shards."""
    scenario(root, monkeypatch)


@pytest.mark.parametrize("deviation", RULES)
@pytest.mark.damages
def test_without_the_rule_it_does_not(root: Path, monkeypatch: Patch, deviation: str) -> None:
    """With one rule taken away, the schedule made for it gives a wrong answer."""
    scenario, changes = RULES[deviation]
    for owner, name, pieces in changes:
        mutate(monkeypatch, owner, name, *pieces)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        scenario(root, monkeypatch)


def test_every_scenario_is_needed() -> None:
    """Each schedule but the last is what some rule is for."""
    assert {rule[0] for rule in RULES.values()} == set(SCENARIOS) - {directory_compared_while_a_file_is_missed}
