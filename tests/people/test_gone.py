"""What was acknowledged and is gone: named, kept, and no hindrance. Nothing that was removed on purpose is named."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import Store
from tests.people.test_backups import keep_writing
from tests.scenarios import people
from tests.scenarios.people import KEY, LOSSES
from tests.support import disk
from tests.support.peer import Peers


def test_lost_revisions(root: Path) -> None:
    """verify names them until a repair, or until the file is put back."""
    people.lost_revisions_are_named(root)
    with Store(root) as store:
        store.verify(repair=True)


@pytest.mark.parametrize("lose", LOSSES)
def test_the_evidence_is_kept(root: Path, lose: Callable[[Path], int]) -> None:
    """What was found goes to quarantine/, also where a repair comes first; a repair ends the naming."""
    with Store(root) as store:
        for number in range(3):
            store.patch(KEY, {"n": number})
        store.list()
        lose(disk.shard(root, KEY))
        path = (
            root / "shards" / disk.shard(root, KEY).relative_to(root / "shards") if lose is not people.removed else None
        )
        found = b"" if path is None else path.read_bytes()
        assert [one.kind for one in store.verify(repair=True).problems if one.lost] == ["lost"]
        kept = [file.read_bytes() for file in (root / "quarantine").iterdir()]
        assert not found.rstrip(b"\n") or found.rstrip(b"\n") in kept
        assert store.verify().ok
        assert store.patch(KEY, {"again": 1})["again"] == 1


def test_a_reader_names_without_writing(root: Path) -> None:
    """A store opened read-only names what is missing, and changes no file."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        store.list()
    people.emptied(disk.shard(root, KEY))
    before = disk.fingerprint(root, without=())
    with Store(root, read_only=True) as store:
        for _ in range(2):
            assert ("lost", KEY) in [(one.kind, one.key) for one in store.verify().problems]
    assert disk.fingerprint(root, without=()) == before
    with Store(root) as store:
        assert store.verify(repair=True).ok


def test_what_the_store_removed_itself_is_not_missing(root: Path) -> None:
    """Deleting, pruning, purging, compacting, restoring and creating again are no loss."""
    with Store(root) as store:
        for number in range(4):
            store.patch(f"k{number}", {"n": number})
            store.patch(f"k{number}", {"m": number})
        store.list()
        assert store.verify().ok
        store.delete("k0")
        assert store.verify().ok
        store.compact()
        assert store.verify().ok
        store.prune(max_entries=2)
        assert store.verify().ok
        store.archive.restore("k1")
        assert store.verify().ok
        store.create("k0", {})
        store.list()
        store.prune(max_entries=0, purge=True)
        assert store.verify().ok


def test_verify_beside_writers_names_nothing(root: Path, crew: Callable[[int], Peers]) -> None:
    """Sessions come, change and go while verify compares: no revision is missing."""
    keys = [f"k{number}" for number in range(10)]
    writers = crew(2)
    for number, peer in enumerate(writers):
        peer.start(keep_writing, root, keys, number, 2.0)
    end = time.monotonic() + 1.8
    rounds = 0
    with Store(root) as store:
        while time.monotonic() < end or rounds < 2:
            store.list()
            assert "lost" not in [one.kind for one in store.verify().problems]
            rounds += 1
    for peer in writers:
        peer.result()
    assert rounds > 1


def test_a_session_cut_back_that_no_list_has_read_since(root: Path) -> None:
    """Its row says less than was acknowledged, and still more than the file holds."""
    people.a_marked_session_that_was_cut_back_is_named(root)


def test_numbers_that_were_given_to_others_are_not_back(root: Path) -> None:
    """A writer went on without the lost revisions, and gave their numbers to its own: they are still named."""
    people.lost_revisions_are_not_back_by_their_numbers(root)


def test_a_session_that_nobody_listed(root: Path) -> None:
    """It stands in no catalog: nothing can know what it held, and verify makes nothing up."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        disk.edit(disk.shard(root, KEY), b"")
        assert store.verify().ok
        assert KEY not in store


def test_purged_beside_a_mark(root: Path) -> None:
    """A session that changed since it was listed, and was then removed for good, is not missing."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        store.compact()
        store.patch(KEY, {"n": 2})
        store.prune(max_entries=0, purge=True)
        assert store.verify().ok


def test_a_changed_byte_in_the_newest_record(root: Path) -> None:
    """It is stepped over, and named."""
    people.a_changed_byte_in_the_newest_record_is_named(root)


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_any_changed_byte_of_the_newest_record(root: Path, place: int) -> None:
    """Whatever byte it was: a problem or a note, never "no problem" alone, and never deleted."""
    with Store(root) as store:
        for number in range(3):
            store.patch(KEY, {"n": number})
        path = disk.shard(root, KEY)
        data = bytearray(path.read_bytes())
        start = bytes(data).rstrip(b"\n").rindex(b"\n") + 1
        data[start + place] ^= 0x04
        disk.edit(path, bytes(data))
        report = store.verify()
        assert report.problems or any(note.kind == "torn" for note in report.notes)
        assert store.verify(repair=True).ok
        session = store.get(KEY)
        assert session is not None
        assert session["n"] in (1, 2)
        store.patch(KEY, {"n": 3})  # cuts the tail off


def test_a_partial_salvage_names_revisions_and_fields(root: Path) -> None:
    """The report of a repair says which revisions could not be read, and which fields they changed."""
    with Store(root) as store:
        for number in range(4):
            store.patch(KEY, {f"f{number}": number})
        path = disk.shard(root, KEY)
        disk.edit(path, path.read_bytes().replace(b'"f1":1', b'"f1":7'))
        report = store.verify(repair=True)
        assert [one.kind for one in report.problems] == ["damaged"]
        assert "salvaged 3 fields; revision 2 could not be read (changes of 'f1');" in report.problems[0].detail
        assert store[KEY].data == {"f0": 0, "f2": 2, "f3": 3}
