"""What an operator does at three in the morning, beyond the kinds that have a file of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardstore import CorruptShard, SessionExists, Store, StoreFull, StoreIncomplete, StoreIOError, UnsupportedFormat
from shardstore.engine import doctor
from tests.scenarios import operators
from tests.scenarios.people import KEY, OTHER
from tests.support import disk

SCENARIOS = [
    operators.lists_show_what_was_put_back,
    operators.lists_of_two_threads_show_what_was_put_back,
    operators.lists_show_what_was_put_back_while_no_descriptor_was_free,
    operators.compact_finds_what_was_changed_in_place,
    operators.verify_has_the_next_list_read_what_it_found,
    operators.a_full_disk_is_no_reason_to_name_nothing,
    operators.what_a_daemon_prints_goes_into_no_file_of_the_store,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_operators(root: Path, scenario: Callable[[Path], None]) -> None:
    """Each scenario stands in tests/scenarios/operators.py, for its mutation."""
    scenario(root)


def agrees(store: Store) -> bool:
    """Return whether list says what get says."""
    return {info.key: info.version for info in store.list()} == {key: store[key].version for key in store}


def test_two_stores_merged_by_cp(root: Path) -> None:
    """Every session is that of one of them, whole, with its log; lists agree, and the next update works."""
    other = root.parent / "other"
    for place, word in ((root, "one"), (other, "two")):
        with Store(place) as store:
            for key in (KEY, OTHER, word):
                store.append(key, [{"text": word * 1000}] * 120, {"of": word})
            store.list()
    with Store(root) as store:
        subprocess.run(["cp", "-r", f"{other}/.", root], check=True)
        time.sleep(2 * disk.CHECK_S)
        assert {key: store[key]["of"] for key in (KEY, OTHER, "one", "two")} == {
            KEY: "two", OTHER: "two", "one": "one", "two": "two",
        }  # fmt: skip
        assert {item["text"][:3] for item in store.log(KEY)} == {"two"}
        assert agrees(store)
        store.compact()
        assert store.verify().ok
        assert store.patch(KEY, {"n": 1}).rev == 2


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_stashes_pops_and_merges_a_store(root: Path) -> None:
    """Stash: the older state. Pop: the newer one. A merge with conflict marks is damage, and a repair ends it."""

    def git(*words: str, check: bool = True) -> None:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run([*command, "-C", root, *words], check=check, capture_output=True)
        time.sleep(2 * disk.CHECK_S)

    with Store(root) as store:
        for key in (KEY, OTHER):
            store.create(key, {"n": 1})
        store.list()
        git("init", "-q")
        git("add", "-A", "shards", "shardstore.json")
        git("commit", "-qm", "one")
        for key in (KEY, OTHER):
            store.patch(key, {"n": 2})
        store.compact()
        git("stash")
        assert (store[KEY]["n"], store[OTHER]["n"]) == (1, 1)
        assert agrees(store)
        git("stash", "pop")
        assert (store[KEY]["n"], store[OTHER]["n"]) == (2, 2)
        assert agrees(store)
        git("commit", "-qam", "two")
        git("checkout", "-qb", "other", "HEAD~1")
        store.patch(KEY, {"n": 3})
        git("commit", "-qam", "three")
        git("merge", "main", check=False)
        with pytest.raises(CorruptShard):
            store.get(KEY)
        assert store[OTHER]["n"] == 2
        store.verify(repair=True)
        assert store[KEY]["n"] in (2, 3)
        assert store.verify(repair=True).ok or store.verify().ok
        assert agrees(store)


def test_a_sync_tool_brings_another_machines_state(root: Path) -> None:
    """By renames, conflict copies of everything that was there, the index and the marker included."""
    theirs = root.parent / "theirs"
    with Store(root) as store:
        for key in (KEY, OTHER):
            store.append(key, [{"text": "x" * 3000}] * 100, {"by": "both"})
        store.list()
        shutil.copytree(root, theirs)
        with Store(theirs) as peer:
            peer.append(KEY, ["theirs"], {"by": "them"})
            peer.delete(OTHER)
            peer.create("new", {"by": "them"})
            peer.list()
        store.append(KEY, ["ours"] * 3, {"by": "us"})
        store.list()
        for path in (one for one in theirs.rglob("*") if one.is_file()):
            mine = root / path.relative_to(theirs)
            fresh = mine.with_name(f".syncthing.{mine.name}.tmp")
            shutil.copy2(path, fresh)
            if mine.exists():
                mine.rename(mine.with_name(f"{mine.stem}.sync-conflict-20261126-120000-ABCDEFG{mine.suffix}"))
            fresh.rename(mine)
        time.sleep(2 * disk.CHECK_S)
        assert (store[KEY]["by"], store.log(KEY)[-1], OTHER in store, store["new"]["by"]) == (
            "them", "theirs", False, "them",
        )  # fmt: skip
        assert agrees(store)
        assert store.stats().sessions == 2
        assert store.append(KEY, ["next"]).log[-2:] == ["theirs", "next"]
        store.compact()
        assert store.verify(repair=True).ok or store.verify().ok
        assert agrees(store)


def test_a_session_from_the_archive_of_another_store(root: Path) -> None:
    """It is restored, or refused where one is there; without its log's file that is named, and can be repaired."""
    theirs = root.parent / "theirs"
    with Store(root) as store, Store(theirs) as peer:
        for one, word in ((store, "ours"), (peer, "theirs")):
            for key in (KEY, OTHER):
                one.append(key, [{"text": "x" * 3000}] * 100, {"of": word})
        peer.prune(max_entries=0)
        for path in (theirs / "archive").iterdir():
            if not (path.name.endswith(".log.jsonl") and path.name.startswith("agent-main-other")):
                shutil.copy2(path, root / "archive")
        with pytest.raises(SessionExists):
            store.archive.restore(KEY)
        for key in (KEY, OTHER):
            store.delete(key)
            assert store.archive.restore(key)["of"] == "theirs"
        assert len(store.log(KEY)) == 100
        with pytest.raises(CorruptShard, match="log's file is missing"):
            store.log(OTHER)
        assert agrees(store)
        assert [one.kind for one in store.verify(repair=True).problems] == ["log"]
        assert store.verify().ok


def test_shards_on_another_disk_behind_a_link(root: Path) -> None:
    """Everything works, and verify says what to do instead."""
    with Store(root) as store:
        store.create(KEY, {"n": 1})
        (root / "shards").rename(root.parent / "elsewhere")
        (root / "shards").symlink_to(root.parent / "elsewhere")
        assert store.patch(KEY, {"n": 2})["n"] == 2
        assert store.create(OTHER, {}).rev == 1
        assert agrees(store)
        (problem,) = store.verify(repair=True).problems
        assert (problem.path, problem.repaired) == ("shards", False)
        assert "mount" in problem.detail
        (root / "shards").unlink()
        (root.parent / "elsewhere").rename(root / "shards")
        assert store.verify().ok


def test_a_working_directory_that_is_gone(root: Path) -> None:
    """A relative path leads nowhere: a typed error. An absolute one works."""
    code = """
import os, sys
from shardstore import Store, StoreIOError
os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])
try:
    Store("x")
except StoreIOError as error:
    print("working directory" in str(error))
print(Store(sys.argv[2]).create("k", {}).rev)
"""
    done = subprocess.run([sys.executable, "-c", code, root.parent / "gone", root], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["True", "1"], "")


def test_a_loop_of_links(tmp_path: Path) -> None:
    """It is no store, and no marker that is a link."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for create in (True, False):
        with pytest.raises(StoreIOError, match="symbolic links"):
            Store(tmp_path / "a", create=create)
    (tmp_path / "c").mkdir(mode=0o700)
    (tmp_path / "c" / "shardstore.json").symlink_to(tmp_path / "a")
    with pytest.raises(UnsupportedFormat):
        Store(tmp_path / "c", create=False)


# What only root can set up


def _run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


@pytest.fixture
def mounted() -> Iterator[Callable[..., Path]]:
    """Return a way to mount a small file system in memory; what was mounted is taken away at the end."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("needs root, and mounts as Linux has them")
    base = Path(tempfile.mkdtemp(prefix="operators-"))
    points: list[Path] = []

    def mount(point: Path, size: str = "2m") -> Path:
        point.mkdir(exist_ok=True)
        try:
            _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", point)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"cannot mount here: {error}")
        points.append(point)
        return point

    mount.base = base  # type: ignore[attr-defined]
    try:
        yield mount
    finally:
        for point in reversed(points):
            _run("umount", "-l", point)
        shutil.rmtree(base)


def fill_up(point: Path) -> Path:
    """Take all the space there is."""
    path = point / "fill"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 16, 512):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


def test_a_repair_on_a_full_disk(mounted: Callable[..., Path]) -> None:
    """What it could not repair is named and untouched; with space again a repair ends it."""
    point = mounted(mounted.base / "full")  # type: ignore[attr-defined]
    with Store(point / "store") as store:
        for number in range(8):
            store.create(f"k{number}", {"n": number, "text": "x" * 3000})
        store.list()
        for number in range(4):
            path = disk.shard(point / "store", f"k{number}")
            data = path.read_bytes()
            path.write_bytes(data.replace(b"\n", b"\r\n") if number % 2 else b"{}\n" + data)
        path = disk.shard(point / "store", "k4")
        path.write_bytes(path.read_bytes()[:100])
        filler = fill_up(point)
        problems = store.verify(repair=True).problems
        assert {one.kind for one in problems} >= {"damaged", "line-endings", "lost"}
        assert not [one for one in problems if one.repaired and one.kind != "lost"]
        with pytest.raises(StoreFull):
            store.patch("k7", {"text": "y" * 100_000})
        assert store.delete("k6") is True
        filler.unlink()
        store.verify(repair=True)
        assert store.verify().ok
        assert [store[f"k{number}"]["n"] for number in range(4)] == [0, 1, 2, 3]
        assert agrees(store)


def test_the_archive_on_another_file_system(mounted: Callable[..., Path], root: Path) -> None:
    """Nothing is archived, each session says why, and nothing is lost."""
    with Store(root) as store:
        store.create(KEY, {"n": 1})
        mounted(root / "archive")
        report = store.prune(max_entries=0)
        assert report.actions == ()
        assert "one file system" in report.skipped[0].why
        assert store[KEY]["n"] == 1


def test_a_file_system_that_became_read_only(mounted: Callable[..., Path]) -> None:
    """Reads and lists go on, writes raise, verify names what it found, doctor says so; later all goes on."""
    point = mounted(mounted.base / "point")  # type: ignore[attr-defined]
    with Store(point / "store") as store:
        for key in (KEY, OTHER, "lost"):
            store.create(key, {"n": 1})
        store.list()
        disk.edit(disk.shard(point / "store", "lost"), b"")
    try:
        _run("mount", "-o", "remount,ro", point)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot remount here: {error.stderr}")
    try:
        with Store(point / "store") as store:
            assert store[KEY]["n"] == 1
            assert agrees(store)
            for write in (
                lambda: store.patch(KEY, {"n": 2}), lambda: store.create("new", {}), lambda: store.append(KEY, [1]),
                lambda: store.delete(KEY), lambda: store.rename(KEY, "x"), lambda: store.create_many({"y": {}}),
                lambda: store.reindex(["n"]),
            ):  # fmt: skip
                with pytest.raises(StoreIOError, match="Read-only"):
                    write()
            for repair in (False, True):
                assert "lost" in [one.kind for one in store.verify(repair=repair).problems]
            store.compact()
            assert "fail" in [check.status for check in doctor(point / "store").checks]
            _run("mount", "-o", "remount,rw", point)
            assert store.patch(KEY, {"n": 3})["n"] == 3
            assert agrees(store)
            store.verify(repair=True)
            assert store.verify().ok
    finally:
        _run("mount", "-o", "remount,rw", point)


def test_a_directory_that_is_moved_away_under_a_writer(root: Path) -> None:
    """Its sessions are not answered as absent; it comes back, and nothing was made meanwhile by reading."""
    with Store(root) as store:
        store.create(KEY, {"n": 1})
        directory = disk.shard(root, KEY).parent
        directory.rename(root.parent / "away")
        with pytest.raises(StoreIncomplete):
            store.get(KEY)
        (root.parent / "away").rename(directory)
        assert store.patch(KEY, {"n": 2}).rev == 2
        assert store.verify().ok
