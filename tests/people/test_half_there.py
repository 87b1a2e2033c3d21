"""Stores of which a part did not come along: tools that keep files only, trees that are not mounted or half restored."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import Store, StoreIncomplete
from shardstore.engine import doctor
from tests.scenarios import people
from tests.scenarios.people import KEY, OTHER, directory_of, kinds
from tests.support import actions
from tests.support.peer import Peers

OLD = [f"agent:old:{number}" for number in range(5)]


def fill(root: Path) -> None:
    """Create a store with a few sessions."""
    with Store(root) as store:
        for key in OLD:
            store.create(key, {"key": key})


def by_git(source: Path, target: Path) -> None:
    """Clone it: git keeps no empty directory."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(source)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    subprocess.run(["git", "clone", "-q", source, target], check=True, capture_output=True)


def by_zip(source: Path, target: Path) -> None:
    """Pack and unpack without entries for directories, as object storage does too."""
    packed = target.with_suffix(".zip")
    subprocess.run(["zip", "-qrD", packed, "."], cwd=source, check=True)
    shutil.unpack_archive(packed, target)


def by_find(source: Path, target: Path) -> None:
    """Tidy up empty directories."""
    shutil.copytree(source, target)
    subprocess.run(["find", target, "-type", "d", "-empty", "-delete"], check=True)


@pytest.mark.parametrize("copy", [by_git, by_zip, by_find])
def test_a_copy_without_empty_directories(root: Path, copy: Callable[[Path, Path], None]) -> None:
    """Old sessions are read, new ones are made by every creating call, and verify names it until a repair."""
    tool = {by_git: "git", by_zip: "zip", by_find: "find"}[copy]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    fill(root)
    clone = root.parent / "clone"
    copy(root, clone)
    clone.chmod(0o700)
    with Store(clone) as store:
        assert [store[key].data for key in OLD] == [{"key": key} for key in OLD]
        for number in range(30):
            store.update(f"update:{number}", lambda draft: draft.update(n=1))
            store.create(f"create:{number}", {"n": 1})
            store.get_or_create(f"either:{number}", {"n": 1})
            store.replace(f"replace:{number}", {"n": 1})
            store.patch(f"patch:{number}", {"n": 1})
            with store.edit(f"edit:{number}") as draft:
                draft["n"] = 1
        assert len(store.list()) == store.count() == 5 + 6 * 30
        assert {kind for kind, _ in kinds(store)} == {"incomplete"}
        assert len(kinds(store)) > 200
        assert store.verify(repair=True).ok
        assert store.verify().ok
        assert len(store.list()) == 5 + 6 * 30


def test_every_way_to_bring_a_session_makes_its_directory(root: Path) -> None:
    """A session that is restored, copied or renamed, too; a write that may create none refuses."""
    ways: dict[str, Callable[[Store], object]] = {
        "archived": lambda store: store.archive.restore("archived"),
        "copied": lambda store: store.copy("source", "copied"),
        "many": lambda store: store.create_many([("many", {})]),
        "appended": lambda store: store.append("appended", [1]),
        "renamed": lambda store: store.rename("source", "renamed"),
    }
    with Store(root) as store:
        store.create("source", {"n": 1})
        store.create("archived", {"n": 1})
        assert [one.key for one in store.prune(older_than=0, keep=["source"]).actions] == ["archived"]
        for key, way in ways.items():
            shutil.rmtree(directory_of(root, key))
            with pytest.raises(StoreIncomplete):
                store.patch(key, {"n": 2}, create=False)
            way(store)
            assert key in store
        assert {kind for kind, _ in kinds(store)} == {"incomplete"}
        store.verify(repair=True)


def test_a_directory_made_again(root: Path) -> None:
    """It is named until a repair."""
    people.a_directory_made_again_is_named_until_repair(root)


def test_a_lost_directory_is_not_an_absent_session(root: Path) -> None:
    """Readers raise; writers that create nothing raise, too."""
    people.readers_of_a_lost_directory_do_not_answer_absent(root)


def test_lists_of_a_store_with_a_lost_directory(root: Path) -> None:
    """They leave its sessions out with a warning, and forget nothing."""
    people.a_lost_directory_is_no_reason_to_forget(root)


def test_what_was_in_a_lost_directory_is_named(root: Path) -> None:
    """The lists know which sessions were in there, so verify names them, for as long as the directory is away."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        store.patch(OTHER, {"n": 1})
        store.list()
        away = root.parent / "away"
        directory_of(root, KEY).rename(away)
        for _ in range(2):
            assert ("lost", KEY) in [(one.kind, one.key) for one in store.verify().problems]
        away.rename(directory_of(root, KEY))
        assert store.verify().ok, "the directory is back: there is nothing to name"
        assert store[KEY]["n"] == 1


def test_the_whole_of_shards_is_away(root: Path) -> None:
    """verify answers, and a repair makes a store that works again; compact refuses; nothing is made by reading."""
    fill(root)
    with Store(root) as store:
        (root / "shards").rename(root.parent / "away")
        assert {kind for kind, _ in kinds(store)} <= {"incomplete", "lost"}
        with pytest.raises(StoreIncomplete):
            store.compact()
        assert not (root / "shards").exists()
        assert store.verify(repair=True).ok
        assert store.verify().ok
        assert store.list() == []
        assert store.create(OLD[0], {"again": 1}).rev == 1


def test_other_directories_are_made_when_they_are_needed(root: Path) -> None:
    """archive/, quarantine/ and index/ went as well: lists, prune and repair work."""
    fill(root)
    for name in ("archive", "quarantine", "index"):
        shutil.rmtree(root / name, ignore_errors=name == "index")  # that one is made by the first list
    with Store(root) as store:
        assert len(store.list()) == 5
        assert len(store.prune(max_entries=4).actions) == 1
        assert len(store.archive.list()) == 1
        assert store.verify(repair=True).ok


def test_many_writers_make_the_same_directory(root: Path, crew: Callable[[int], Peers]) -> None:
    """Processes that need one lost directory at the same moment all succeed."""
    with Store(root):
        directory_of(root, KEY).rmdir()
    crew(4).run(actions.increment, root, KEY, 10)
    with Store(root) as store:
        assert store[KEY]["n"] == 40
        assert store.verify(repair=True).ok


def test_doctor_names_it_until_a_repair(root: Path) -> None:
    """Directories that are gone, and one that a writer made again."""

    def verdict() -> str:
        return next(check.status for check in doctor(root).checks if check.name == "the store is whole")

    with Store(root) as store:
        assert verdict() == "pass"
        directory_of(root, KEY).rmdir()
        assert verdict() == "warn"
        store.create(KEY, {})
        assert verdict() == "warn"
        store.verify(repair=True)
        assert verdict() == "pass"
