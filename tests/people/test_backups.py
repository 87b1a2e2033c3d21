"""Backups put back, whole or in part, while the store is open or not; copies of a store that is in use."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import Conflict, CorruptShard, Store, StoreNotFound
from tests.scenarios import people
from tests.scenarios.people import KEY
from tests.support import actions, disk
from tests.support.peer import Peers, one_peer

# rsync takes a file of the same size and second for unchanged, and a journal's size includes space in reserve.
WAYS = {
    "cp": "cp -a '{b}/.' '{r}/'",
    "rsync": "rsync -a --checksum '{b}/' '{r}/'",
    "rsync-delete": "rsync -a --checksum --delete '{b}/' '{r}/'",
    "rsync-inplace": "rsync -a --checksum --inplace '{b}/' '{r}/'",
    "tar": "tar -C '{b}' -cf - . | tar -C '{r}' -xf -",
}
IN_PLACE = ("cp", "rsync-inplace")  # the files keep their inodes


def restore(how: str, backup: Path, root: Path, *, index: bool) -> None:
    """Put a backup back over the store."""
    tool = how.partition("-")[0]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    if not index:
        shutil.rmtree(backup / "index")
    subprocess.run(WAYS[how].format(b=backup, r=root), shell=True, check=True)
    time.sleep(2 * disk.CHECK_S)


def rows(store: Store) -> dict[str, tuple[str, Any]]:
    """Return what list says."""
    return {info.key: (info.version, info.fields.get("n")) for info in store.list()}


def sessions(store: Store, keys: list[str]) -> dict[str, tuple[str, Any]]:
    """Return what get says."""
    return {key: (found.version, found.get("n")) for key in keys if (found := store.get(key)) is not None}


KEYS = [KEY, "k1", "k2", "new"]


def grow(store: Store, backup: Path) -> str:
    """Create sessions, back the store up, and go on; return the newest version of KEY."""
    for key in KEYS[:3]:
        store.patch(key, {"n": 1})
    store.list()
    shutil.copytree(store.root, backup)  # type: ignore[arg-type]
    time.sleep(0.01)
    for number in range(3):
        for key in KEYS:
            store.patch(key, {"n": 10 + number})
        store.list()
    store.delete("k2")
    return store[KEY].version


@pytest.mark.parametrize("index", [True, False], ids=["with-index", "without-index"])
@pytest.mark.parametrize("how", WAYS)
def test_a_backup_put_back_over_an_open_store(root: Path, how: str, index: bool) -> None:
    """get is right at once, here and elsewhere; writers go on from it; after compact the lists are right, too."""
    backup = root.parent / "backup"
    with Store(root) as store, one_peer() as peer:
        newest = grow(store, backup)
        assert peer.run(actions.get_data, root, KEY) == {"n": 12}
        restore(how, backup, root, index=index)
        assert store[KEY]["n"] == 1
        assert peer.run(actions.get_data, root, KEY) == {"n": 1}
        with pytest.raises(Conflict):
            store.replace(KEY, {}, expect=newest)
        assert peer.run(actions.call, root, "patch", KEY, {"m": 1}).data == {"n": 1, "m": 1}
        assert store[KEY].data == {"n": 1, "m": 1}
        assert store[KEY].version != newest
        store.compact()
        store.verify(repair=True)
        assert rows(store) == sessions(store, KEYS)
        assert store.verify().ok


@pytest.mark.parametrize("heal", ["nothing", "compact", "verify"])
@pytest.mark.parametrize("how", WAYS)
def test_lists_after_a_backup_was_put_back(root: Path, how: str, heal: str) -> None:
    """Lists are right at once after tar and rename, within a second after changes in place; maintenance heals them."""
    backup = root.parent / "backup"
    with Store(root) as store:
        grow(store, backup)
        restore(how, backup, root, index=False)
        if heal == "nothing" and how in IN_PLACE:
            time.sleep(1.2)
        if heal == "compact":
            store.compact()
        elif heal == "verify":
            store.verify()
        assert rows(store) == sessions(store, KEYS)
        with Store(root, read_only=True) as other:
            assert rows(other) == sessions(other, KEYS)


def test_one_file_put_back(root: Path) -> None:
    """It is read at once, and what was remembered of it is not used again."""
    people.what_was_put_back_is_read_at_once(root)


@pytest.mark.parametrize(
    "scenario", [people.a_backup_of_equal_length_is_seen_at_once, people.a_backup_of_equal_length_is_seen_by_its_time]
)
def test_a_file_of_equal_length_put_back(root: Path, scenario: Callable[[Path], None]) -> None:
    scenario(root)


def test_a_root_renamed_and_replaced_while_it_is_open(root: Path) -> None:
    """Away: StoreNotFound. Another store at the path: that one. The old one back: the old one."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        store.list()
        away = root.parent / "away"
        root.rename(away)
        for call in (lambda: store.get(KEY), lambda: store.patch(KEY, {"n": 2}), store.list, store.count):
            with pytest.raises(StoreNotFound):
                call()
        with Store(root) as other:
            other.patch("other", {"n": 1})
        assert store.get(KEY) is None
        assert store.patch(KEY, {"new": 1}).data == {"new": 1}
        shutil.rmtree(root)
        away.rename(root)
        assert store[KEY].data == {"n": 1}
        assert store.patch(KEY, {"n": 3}).rev == 2


@pytest.mark.parametrize("how", ["cp", "rsync", "tar"])
def test_a_copy_of_a_store_in_use(root: Path, how: str, crew: Callable[[int], Peers]) -> None:
    """Every copy opens, verifies, and lists what get says, whatever the writers were doing.

    A file may have been caught between two of its pages. A repair mends that; the next test makes it certain.
    """
    keys = [f"k{number}" for number in range(20)]
    with Store(root, durability="relaxed") as store:
        for key in keys:
            store.patch(key, {"n": 0, "pad": "x" * 300})
        store.list()
    writers = crew(2)
    for number, peer in enumerate(writers):
        peer.start(keep_writing, root, keys, number, 1.5)
    time.sleep(0.2)
    for number in range(2):
        copy = root.parent / f"copy{number}"
        copy.mkdir(mode=0o700)
        with contextlib.suppress(subprocess.CalledProcessError):  # tar says that files changed while it read them
            restore(how, root, copy, index=True)
        with Store(copy, create=False) as opened:
            assert {(one.kind, one.repaired) for one in opened.verify(repair=True).problems} <= {("damaged", True)}
            assert rows(opened) == sessions(opened, keys)
            assert opened.verify().ok
            assert opened.patch(keys[0], {"copy": 1})["copy"] == 1
    for peer in writers:
        peer.result()


@pytest.mark.damages("a copy that is not of one moment")
def test_a_copy_that_caught_a_file_between_its_pages(root: Path) -> None:
    """A page in the middle of one commit, and the next one after more of them: it looks like lost bytes, so it is damage.

    The repair keeps all that was committed before the first of the two was copied.
    """
    copy, caught = root.parent / "copy", 0
    with Store(root, durability="relaxed") as store:
        store.create(KEY, {"text": "x" * 300})
        for number in range(150):
            store.patch(KEY, {"n": number, "more": f"{number}" + "y" * 60})
        path = disk.shard(root, KEY)
        shutil.copytree(root, copy)
    data = path.read_bytes()
    for page in range(8192, len(data.rstrip(b"\n")), 4096):
        for start in range(page - 1000, page - 100, 130):
            cut = data[:start] + b"\n" * (page - start) + data[page:]
            (copy / path.relative_to(root)).write_bytes(cut)
            with Store(copy, create=False) as opened:
                try:
                    opened.get(KEY)
                except CorruptShard:
                    caught += 1
                    found = [(one.kind, one.repaired) for one in opened.verify(repair=True).problems]
                    assert ("damaged", True) in found
                assert opened[KEY].rev >= data[:start].count(b"\n"), "each line is a commit"
                assert opened.verify(repair=True).ok
    assert caught > 5


def keep_writing(root: Path, keys: list[str], seed: int, seconds: float) -> None:
    """Update and delete for a while."""
    import random

    chance = random.Random(seed)
    end = time.monotonic() + seconds
    with Store(root, durability="relaxed") as store:
        while time.monotonic() < end:
            key = chance.choice(keys)
            if chance.random() < 0.05:
                store.delete(key)
            else:
                store.update(key, actions.add_one)


@pytest.mark.damages("a copy that is not of one moment")
def test_a_copy_that_caught_a_log_between_its_files(root: Path) -> None:
    """The log's file was copied before a commit and the journal after it: named, and whole once both are copied again."""
    copy = root.parent / "copy"
    with Store(root) as store:
        store.append(KEY, [{"n": n, "text": "x" * 1_000} for n in range(400)])
        shutil.copytree(root, copy)
        store.append(KEY, [{"n": n, "text": "x" * 1_000} for n in range(400, 800)], {"n": 800})
        shard = disk.shard(root, KEY)
        shutil.copy2(shard, copy / shard.relative_to(root))
        with Store(copy, create=False) as opened:
            assert opened[KEY]["n"] == 800
            assert [problem.kind for problem in opened.verify().problems if problem.kind != "index"] == ["log"]
            with pytest.raises(CorruptShard):
                opened.log(KEY)
        for path in shard.parent.glob(f"{shard.stem}*"):
            shutil.copy2(path, copy / path.relative_to(root))
        with Store(copy, create=False) as opened:
            assert opened.log(KEY) == store.log(KEY)
            opened.compact()
            assert opened.verify().ok
