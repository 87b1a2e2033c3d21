"""Verify: every kind of problem and note, and that a look by itself changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from shardstore import Store
from shardstore._files.engine import FileEngine
from shardstore._files.index.upkeep import refresh_all
from shardstore._files.layout import log_name, shard_name, stamped_name, temp_name
from shardstore._files.maintenance import verify as module
from shardstore._files.maintenance.repair import Salvaged
from shardstore._files.maintenance.verify import verify
from shardstore.reports import VerifyReport
from tests.support import disk

pytestmark = pytest.mark.damages("a store in every bad state")


def run(engine: FileEngine, *, repair: bool = False, note: bool = False) -> VerifyReport:
    return verify(engine, repair=repair, note=note, progress=None)


def noise(path: Path) -> None:
    disk.edit(path, b"noise" * 1000)


def changed_byte(path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b'"n":0')
    disk.edit(path, data[:at] + b'"n":7' + data[at + 5 :])


def converted(path: Path) -> None:
    disk.edit(path, path.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n")


def swapped(path: Path) -> None:
    other = path.parent.parent.parent / "shards" / shard_name("other")
    disk.edit(path, other.read_bytes())


def open_to_all(path: Path) -> None:
    path.chmod(0o644)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


PROBLEMS: list[tuple[Callable[[Path], None], str]] = [
    (noise, "damaged"),
    (changed_byte, "damaged"),
    (converted, "line-endings"),
    (swapped, "misplaced"),
    (a_directory, "damaged"),
]


@pytest.fixture
def path(store: Store, engine: FileEngine) -> Path:
    """Return the file of session k, of three revisions, beside another session."""
    for number in range(3):
        store.patch("k", {"n": number, f"f{number}": "x" * 600})
    store.create("other", {"n": 1})
    return disk.shard(engine.root, "k")


def test_a_sound_store_has_neither_problem_nor_note(engine: FileEngine, path: Path) -> None:
    report = run(engine)
    assert report.ok
    assert (report.problems, report.notes, report.shards, report.sessions, report.records) == ((), (), 2, 2, 4)


@pytest.mark.parametrize(("break_it", "kind"), PROBLEMS, ids=lambda one: getattr(one, "__name__", one))
def test_each_problem_is_named_and_mended_once(
    store: Store, engine: FileEngine, path: Path, break_it: Callable[[Path], None], kind: str
) -> None:
    """A look leaves every file as it is; after a repair the next look finds nothing, and the original is kept."""
    break_it(path)
    before = disk.fingerprint(engine.root)
    (found,) = run(engine).problems
    assert (found.kind, found.path, found.repaired) == (kind, f"shards/{shard_name('k')}", False)
    assert disk.fingerprint(engine.root) == before
    (mended,) = run(engine, repair=True).problems
    assert mended.repaired is not mended.lost
    assert run(engine).problems == ()
    assert len(list(engine.layout.quarantine.iterdir())) == 1
    assert store["other"]["n"] == 1
    assert mended.lost or break_it in (swapped, a_directory) or store["k"]["n"] == 2


NOTES: list[tuple[Callable[[FileEngine], None], str]] = [
    (lambda engine: open_to_all(Path(engine.place("k"))), "mode"),
    (lambda engine: (engine.layout.shards / temp_name(shard_name("k"))).touch(), "temp"),
    (lambda engine: (engine.layout.shards / log_name(shard_name("k"), "0123456789abcdef")).touch(), "unused-log"),
    (lambda engine: (engine.layout.shards / "notes").touch(), "foreign"),
    (lambda engine: (engine.root / "transcripts").mkdir(), "foreign"),
]


@pytest.mark.parametrize(("make", "kind"), NOTES)
def test_each_oddity_is_a_note_and_the_store_is_well(
    engine: FileEngine, path: Path, make: Callable[[FileEngine], None], kind: str
) -> None:
    make(engine)
    report = run(engine)
    assert report.ok
    assert [note.kind for note in report.notes] == [kind]


@pytest.mark.parametrize(
    ("directory", "mode", "text"),
    [
        (0o2770, 0o660, None),
        (0o2770, 0o666, "others may open it (mode 0666); chmod o-rwx closes it"),
        (0o700, 0o660, "its group or others may open it (mode 0660); chmod 600 closes it"),
    ],
)
def test_a_group_that_shares_the_store_may_open_its_files(
    engine: FileEngine, path: Path, directory: int, mode: int, text: str | None
) -> None:
    """chmod 600 would lock the others of the group out."""
    path.parent.chmod(directory)
    path.chmod(mode)
    assert [note.detail for note in run(engine).notes] == ([] if text is None else [text])


def test_a_file_in_a_directorys_place_is_misplaced(engine: FileEngine, path: Path) -> None:
    engine.layout.quarantine.rmdir()
    engine.layout.quarantine.touch()
    (found,) = run(engine).problems
    assert (found.path, found.kind) == ("quarantine", "misplaced")


def test_a_lost_directory_is_named_until_a_repair(engine: FileEngine, path: Path) -> None:
    empty = next(one for one in engine.layout.shards.iterdir() if not any(one.iterdir()))
    empty.rmdir()
    (found,) = run(engine).problems
    assert (found.path, found.kind) == (f"shards/{empty.name}", "incomplete")
    assert run(engine, repair=True).ok
    assert run(engine).problems == ()


def test_bytes_that_went_bad_by_themselves_are_told_to_the_lists(store: Store, engine: FileEngine, path: Path) -> None:
    """Nobody marked the shard, so the lists would go on believing what they knew."""
    refresh_all(engine.index.lister)
    noise(path)
    with mock.patch("shardstore._files.index.directories.Directories.check"):  # it might look at the file in time
        assert [info.key for info in store.list(order_by="key")] == ["k", "other"]
        assert not run(engine, note=True).ok
    assert [info.key for info in store.list()] == ["other"]


def test_what_cannot_be_repaired_now_says_so(engine: FileEngine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread is in the session: its lock is not free in time."""
    monkeypatch.setattr(module, "_WAIT_S", 0.05)
    changed_byte(path)
    shard = engine.pool.unnamed(shard_name("k"))
    with engine.pool.transaction_on_file(shard, read=False):
        (found,) = run(engine, repair=True).problems
    shard.close_if_idle()
    assert not found.repaired
    assert "not repaired: " in found.detail
    assert run(engine, repair=True).ok


@pytest.mark.parametrize(
    ("salvaged", "repaired", "text"),
    [
        (Salvaged(1, ()), True, "salvaged 1 field; the original is quarantine/x"),
        (Salvaged(3, (4,)), True, "salvaged 3 fields; revision 4 could not be read; "),
        (
            Salvaged(3, (4, 5, 6, 9), touched=("a", "b")),
            True,
            "revisions 4 to 6, 9 could not be read (changes of 'a', 'b')",
        ),
        (Salvaged(3, tuple(range(1, 40, 2))), True, "revisions 1, 3, 5, 7, 9, 11, 13, 15 and more could not be read"),
        (Salvaged(None, ()), False, "LOST: no record of it is whole"),
        (Salvaged(None, (1,), deleted=True), True, "says that the session was deleted"),
    ],
)
def test_the_outcome_of_a_repair_in_words(salvaged: Salvaged, repaired: bool, text: str) -> None:
    done, words = module._outcome(salvaged, "/store/quarantine/x")
    assert done is repaired
    assert text in words


def test_a_lost_session_is_named_by_its_remains(engine: FileEngine, path: Path) -> None:
    """The file's name proves the key that stands in the noise."""
    disk.edit(path, b'garbage"key":"k","put":{"n' * 50)
    (found,) = run(engine, repair=True).problems
    assert (found.key, found.lost) == ("k", True)
    assert stamped_name(shard_name("k"))[:10] in os.listdir(engine.layout.quarantine)[0]
