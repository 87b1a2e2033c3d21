"""Incidents in which damage was taken for emptiness, or made worse (#77783, #90503), and what a power cut leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import CorruptShard, Store
from tests.scenarios import disks
from tests.support import disk

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="traces system calls by /proc")


@pytest.mark.damages("a changed byte")
def test_a_changed_byte_is_never_read_as_a_value(root: Path) -> None:
    """Every line is checked before it is believed."""
    disks.a_changed_byte_is_refused(root)


@pytest.mark.damages("noise in front of the journals")
def test_77783_what_cannot_be_parsed_is_not_an_empty_store(root: Path) -> None:
    """7,806 sessions were wiped because a parse error meant "none yet": here it is refused and kept."""
    disks.noise_is_not_an_empty_session(root)


@pytest.mark.damages("one shard of five")
def test_77783_damage_of_one_session_is_damage_of_one_session(root: Path) -> None:
    """The error names file, offset and repair; the others are untouched; verify finds exactly this one; repair heals."""
    with Store(root) as store:
        for n in range(5):
            store.create(f"k{n}", {"n": n})
            store.patch(f"k{n}", {"m": n})
        path = disk.shard(root, "k2")
        data = path.read_bytes()
        disk.edit(path, b"X" + data[1:])
        with pytest.raises(CorruptShard) as caught:
            store["k2"]
        error = caught.value
        assert str(path) == str(error.path)
        assert error.offset == 0
        assert error.reason
        for part in (str(path), "0", "verify", "repair"):
            assert part in str(error)
        for n in (0, 1, 3, 4):
            assert store.patch(f"k{n}", {"m": f"new {n}"}).rev == 3
        report = store.verify()
        assert not report.ok
        assert [problem.path for problem in report.problems] == [str(path.relative_to(root))]
        assert not any(problem.repaired for problem in report.problems)
        assert path.read_bytes() == b"X" + data[1:], "verify wrote"
        repaired = store.verify(repair=True)
        assert [problem.repaired for problem in repaired.problems] == [True]
        assert store.verify().ok
        kept = [file.read_bytes() for file in (root / "quarantine").rglob("*") if file.is_file()]
        assert b"X" + data[1:] in kept, "the damaged original was not kept"
        assert sorted(key for key in ("k0", "k1", "k3", "k4") if key in store) == ["k0", "k1", "k3", "k4"]


@pytest.mark.damages("a hole before a whole record")
def test_77783_repair_salvages_every_line_whose_crc_holds(root: Path) -> None:
    """A damaged line in the middle costs that line: what the last whole record says of its fields is back."""
    with Store(root) as store:
        store.create("k", {"a": 0, "b": 0})
        store.patch("k", {"a": 1})
        store.patch("k", {"b": 2})
        path = disk.shard(root, "k")
        data = path.read_bytes()
        disk.edit(path, data.replace(b'"a":1', b'"a":7'))
        with pytest.raises(CorruptShard):
            store["k"]
        assert [problem.repaired for problem in store.verify(repair=True).problems] == [True]
        session = store["k"]
        assert session["a"] in {0, 1}
        assert session["b"] in {0, 2}
        assert 7 not in session.data.values()
        assert store.patch("k", {"a": 3})["a"] == 3
        assert store.verify().ok


def test_a_torn_commit_never_happened(root: Path) -> None:
    """Readers step over it, the next writer keeps a copy of it and writes on."""
    disks.a_torn_tail_is_stepped_over(root)


@pytest.mark.damages("links in place of shards")
def test_a_symbolic_link_is_not_followed(root: Path) -> None:
    """A link in a shard's place is damage, wherever it leads."""
    disks.a_symlinked_shard_is_refused(root)


@LINUX
def test_a_failed_sync_is_reported_and_never_retried(root: Path) -> None:
    """After a failed fsync the next one lies: the call raises CommitUncertain."""
    disks.a_failed_sync_is_uncertain_and_never_retried(root)


@LINUX
@pytest.mark.parametrize(
    "scenario",
    [
        disks.a_batch_is_synced_before_it_is_counted,
        disks.a_failed_sync_of_a_batch_is_uncertain,
        disks.many_directories_are_synced_by_one_call,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_what_a_bulk_verb_counted_was_synced(root: Path, scenario: Callable[[Path], None]) -> None:
    """A batch shares its syncs, and acknowledges nothing before them."""
    scenario(root)


@LINUX
def test_a_durable_commit_is_synced_before_it_returns(root: Path) -> None:
    """Written, synced, then acknowledged; the directory too where a name was made."""
    disks.a_durable_commit_is_synced_before_it_returns(root)


@LINUX
def test_a_rewrite_is_synced_before_it_is_renamed(root: Path) -> None:
    """fsync(temp), rename, fsync(directory), in relaxed mode too: history that was safe stays safe."""
    disks.a_rewrite_is_synced_before_it_is_renamed(root)


def test_a_full_disk_changes_nothing(root: Path) -> None:
    """A short write is taken back: StoreFull, the old state, and success once there is room."""
    disks.a_full_disk_changes_nothing(root)


def test_the_clock_may_be_set_back(root: Path) -> None:
    """No change is ever recorded before an earlier one."""
    disks.time_never_goes_back(root)


def test_a_killed_writer_leaves_a_whole_store(root: Path) -> None:
    """Killed at any moment: every acknowledged change is there."""
    disks.a_killed_writer_leaves_a_whole_store(root)


def test_an_empty_file_is_an_absent_session(root: Path) -> None:
    """A creator that died before its first record leaves an empty file: that is no damage and no session."""
    with Store(root) as store:
        store.create("k", {"a": 1})
        path = disk.shard(root, "k")
        store.delete("k")
    path.write_bytes(b"")
    with Store(root) as store:
        assert store.get("k") is None
        assert "k" not in store
        assert store.verify().ok
        assert store.create("k", {"a": 2}).rev == 1


@LINUX
def test_a_durable_record_follows_synced_bytes(root: Path) -> None:
    """What stands before a durable record is on the medium before it."""
    disks.a_durable_record_follows_synced_bytes(root)


@pytest.mark.damages("a directory that was lost")
def test_a_lost_directory_is_named_until_it_is_repaired(root: Path) -> None:
    """A directory that a writer made again does not hide that sessions were in the old one."""
    disks.a_lost_directory_is_named_until_it_is_repaired(root)
