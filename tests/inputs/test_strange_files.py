"""What else may lie about in a store, or stand in the place of a shard."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import CorruptShard, Store
from tests.scenarios.disks import WRITERS, write_with
from tests.support import disk
from tests.support.actions import in_background

KEY = "agent:main:main"


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket is limited to 107 bytes
        try:
            server.bind(path.name[:90])
            Path(path.name[:90]).rename(path)
        finally:
            os.chdir(here)


IMPOSTORS: dict[str, Callable[[Path], object]] = {
    "FIFO": lambda path: os.mkfifo(path, 0o600),
    "directory": lambda path: path.mkdir(),
    "full directory": lambda path: (path.mkdir(), (path / "x").write_text("x")),
    "link to a file": lambda path: path.symlink_to("/etc/hostname"),
    "link to nothing": lambda path: path.symlink_to("/nowhere/at/all"),
    "link to itself": lambda path: path.symlink_to(path),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "socket": _socket,
}


@pytest.mark.parametrize("kind", IMPOSTORS)
@pytest.mark.damages("something else in a shard's place")
def test_what_is_no_file_is_refused_at_once(root: Path, kind: str) -> None:
    """Anything but a plain file in a shard's place is CorruptShard without waiting, is not followed and stays."""
    with Store(root) as store:
        store.create(KEY, {"a": 1})
        store.create("other", {"a": 1})
        path = disk.shard(root, KEY)
        path.unlink()
        IMPOSTORS[kind](path)
        before = path.lstat()
        readers = [lambda: store.get(KEY), lambda: KEY in store, lambda: store.history(KEY)]
        writers = [lambda v=verb: write_with(store, v, KEY) for verb in WRITERS]
        for attempt in (*readers, *writers):
            with pytest.raises(CorruptShard):
                in_background(attempt)(5.0)
        assert path.lstat().st_ino == before.st_ino
        assert store.patch("other", {"a": 2}).rev == 2
        assert not in_background(store.verify)(10.0).ok
        in_background(lambda: store.prune(older_than=3_600))(10.0)
        assert path.lstat().st_ino == before.st_ino


@pytest.mark.parametrize("kind", ["FIFO", "directory", "link to a file"])
@pytest.mark.damages("something else in a shard's place")
def test_it_is_refused_where_no_session_was_before_too(root: Path, kind: str) -> None:
    """A thing that waits at the name of a session still to be made is not written into."""
    with Store(root) as store:
        store.create(KEY, {})
        path = disk.shard(root, KEY)
        path.unlink()
    IMPOSTORS[kind](path)
    with Store(root) as store:
        for attempt in (lambda: store.create(KEY, {"a": 1}), lambda: store.get(KEY)):
            with pytest.raises(CorruptShard):
                in_background(attempt)(5.0)


def test_foreign_files_are_left_alone(root: Path) -> None:
    """Files that are not the store's change no answer, are no damage, and survive every kind of maintenance."""
    with Store(root) as store:
        for n in range(3):
            store.create(f"k{n}", {"n": n})
        shard = disk.shard(root, "k0")
        prefix = shard.parent
        strangers = [
            root / "README.txt",
            root / ".DS_Store",
            root / "transcript.jsonl",
            root / "shards" / "notes.txt",
            root / "shards" / "zz",
            prefix / ".DS_Store",
            prefix / "Thumbs.db",
            prefix / f"{shard.name}~",
            prefix / f"{shard.name}.bak",
            prefix / f".{shard.name}.swp",
            prefix / f"copy of {shard.name}",
            prefix / "noise.jsonl",
            prefix / "short~abc.jsonl",
            prefix / ".tmp-mine",
            root / "archive" / "mine.txt",
            root / "quarantine" / "mine.txt",
        ]
        for path in strangers:
            path.write_bytes(shard.read_bytes())
        (prefix / "directory.jsonl").mkdir()
        (root / "shards" / "not-a-prefix").mkdir()
        (root / "shards" / "not-a-prefix" / shard.name).write_bytes(shard.read_bytes())
        contents = {path: path.read_bytes() for path in strangers}
        assert sorted(store) == ["k0", "k1", "k2"]
        assert len(store) == 3
        assert {info.key for info in store.list()} == {"k0", "k1", "k2"}
        assert store.verify().ok
        store.verify(repair=True)
        shutil.rmtree(root / "index")
        assert sorted(store) == ["k0", "k1", "k2"]
        for path in strangers:
            os.utime(path, (0, 0))
        store.prune(older_than=0)
        assert list(store) == []
        assert {path: path.read_bytes() for path in strangers} == contents
        assert (prefix / "directory.jsonl").is_dir()


@pytest.mark.damages("a shard under a wrong name")
def test_a_whole_shard_in_a_wrong_place_is_reported(root: Path) -> None:
    """A copy under the name of another key, or in another directory, is no second session; verify names it."""
    with Store(root) as store:
        store.create("a", {"n": 1})
        store.create("b", {"n": 2})
        b = disk.shard(root, "b")
        b.write_bytes(disk.shard(root, "a").read_bytes())
        report = store.verify()
        assert [problem.path for problem in report.problems] == [str(b.relative_to(root))]
        repaired = store.verify(repair=True)
        assert all(problem.repaired for problem in repaired.problems)
        assert store.verify().ok
        assert store.get("b") is None
        assert store["a"].data == {"n": 1}
        kept = [path.read_bytes() for path in (root / "quarantine").iterdir()]
        assert disk.shard(root, "a").read_bytes() in kept


def test_a_hard_linked_backup_is_not_written_through(root: Path) -> None:
    """cp -l makes a backup that shares the file: an update changes the session, and not the backup."""
    for durability in ("commit", "relaxed"):
        key = f"k-{durability}"
        with Store(root, durability=durability) as store:  # type: ignore[arg-type]
            store.create(key, {"n": 1})
            path, backup = disk.shard(root, key), root.parent / f"backup-{durability}"
            os.link(path, backup)
            before = backup.read_bytes()
            for n in range(2, 6):
                assert store.patch(key, {"n": n}).rev == n
            assert backup.read_bytes() == before
            assert disk.state(path.read_bytes()) == {"n": 5}
            assert path.stat().st_nlink == 1
            assert [session["n"] for session in store.history(key)][-1] == 5


def test_a_copied_store_is_a_store(root: Path) -> None:
    """cp -r of a quiet store gives a second, independent one with the same sessions."""
    with Store(root) as store:
        for n in range(5):
            store.create(f"k{n}", {"n": n})
        store.list()
    shutil.copytree(root, root.parent / "copy")
    with Store(root.parent / "copy") as copy, Store(root) as store:
        assert {info.key: info.fields["n"] for info in copy.list()} == {f"k{n}": n for n in range(5)}
        copy.patch("k0", {"n": "copy"})
        copy.create("new", {})
        assert store["k0"]["n"] == 0
        assert "new" not in store
        assert copy.verify().ok


def test_a_shard_copied_in_by_hand_is_read_at_once_and_listed_after_compact(root: Path) -> None:
    """get needs no index; list knows a file that a person copied in after compact or verify at the latest."""
    with Store(root) as store, Store(root.parent / "second") as second:
        store.create("mine", {"n": 1})
        second.create("theirs", {"n": 2})
        store.list()
        source = disk.shard(root.parent / "second", "theirs")
        target = root / source.relative_to(root.parent / "second")
        shutil.copy(source, target)
        assert store["theirs"]["n"] == 2
        store.compact()
        assert {info.key for info in store.list()} == {"mine", "theirs"}
        target.unlink()
        assert store.get("theirs") is None
        store.compact()
        assert [info.key for info in store.list()] == ["mine"]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(root: Path, mask: int) -> None:
    """Directories are 0700 and files 0600 whatever the umask."""
    before = os.umask(mask)
    try:
        with Store(root) as store:
            store.create("k", {})
            store.list()
    finally:
        os.umask(before)
    for directory, _, files in os.walk(root):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        assert all(stat.S_IMODE(os.stat(Path(directory, name)).st_mode) == 0o600 for name in files)


@pytest.mark.damages("a marker that is no file")
def test_a_marker_that_is_no_file(root: Path) -> None:
    """A store whose marker is a FIFO or a directory is refused, without waiting."""
    from shardstore import ShardStoreError

    for make in (lambda path: os.mkfifo(path), lambda path: path.mkdir()):
        root.mkdir(mode=0o700, exist_ok=True)
        marker = root / "shardstore.json"
        make(marker)
        with pytest.raises((ShardStoreError, OSError)):
            in_background(lambda: Store(root))(5.0)
        marker.unlink() if marker.is_fifo() else marker.rmdir()
