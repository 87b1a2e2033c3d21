"""Files of other programs and other versions in a store: conflict copies, future markers, whatever somebody dropped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shardstore import Store, UnsupportedFormat
from tests.scenarios import people
from tests.scenarios.people import KEY
from tests.support import disk


def test_copies(root: Path) -> None:
    """They count as nothing, and stay."""
    people.copies_are_no_sessions(root)


@pytest.mark.parametrize("change", [{"format": 2}, {"format": "1"}, {"format": None}, {"indexed": 7}, None])
def test_a_marker_of_another_version(root: Path, change: dict[str, object] | None) -> None:
    """It is refused with what to do, and nothing is changed."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
    marker = root / "shardstore.json"
    saved = marker.read_bytes()
    if change is None:
        marker.write_text("<html>")
    else:
        given = json.loads(saved)
        given["shardstore"].update(change)
        marker.write_text(json.dumps(given))
    before = disk.fingerprint(root, without=())
    for options in ({}, {"create": False}, {"read_only": True}):
        with pytest.raises(UnsupportedFormat) as caught:
            Store(root, **options)
        assert str(root) in str(caught.value)
    assert disk.fingerprint(root, without=()) == before
    marker.write_bytes(saved)
    with Store(root) as store:
        assert store[KEY]["n"] == 1


def test_a_marker_with_more_in_it(root: Path) -> None:
    """What a later version of the same format adds is no reason to refuse, and is kept."""
    with Store(root):
        marker = root / "shardstore.json"
        given = json.loads(marker.read_bytes())
        given["shardstore"]["later"] = {"a": 1}
        given["other"] = []
        marker.write_text(json.dumps(given))
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        store.compact()
    assert json.loads(marker.read_bytes()) == given


def test_files_and_directories_of_others(root: Path) -> None:
    """In the root, in shards/, in archive/ and quarantine/: named or passed over, and never touched."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        made = [
            root / "README.txt", root / "shards" / "notes.txt", root / "shards" / "zz" / "x.jsonl",
            root / "archive" / "mine.txt", root / "quarantine" / "mine.txt", root / ".git" / "HEAD",
            disk.shard(root, KEY).parent / ".nfs0000000001", root / "shards" / "@eaDir" / "x",
        ]  # fmt: skip
        for path in made:
            path.parent.mkdir(exist_ok=True)
            path.write_text("mine")
        stats = store.stats()
        assert (stats.sessions, stats.tombstones) == (1, 0)
        store.prune(max_entries=5)
        store.archive.purge(older_than=0)
        store.compact()
        assert store.verify(repair=True).ok
        assert [info.key for info in store.list()] == [KEY]
        assert all(path.read_text() == "mine" for path in made)
        shutil.rmtree(root / "shards" / "zz")
        shutil.rmtree(root / "shards" / "@eaDir")
