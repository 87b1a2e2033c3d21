"""Repairs that give something up: what they must keep, and what they must name. Each has a mutation in people.py."""

from __future__ import annotations

import shutil
from pathlib import Path

from shardstore import Store
from tests.support import disk

KEY, OTHER = "agent:main:main", "agent:main:other"


def log_of(root: Path) -> Path:
    """Return the one log file of the store."""
    (found,) = (root / "shards").glob("*/*.log.jsonl")
    return found


def long_log(root: Path) -> list[str]:
    """Write a session whose log has a file, and some items behind it; return its items."""
    with Store(root, durability="relaxed") as store:
        for number in range(150):
            store.append(KEY, [f"{number} " + "x" * 2_000])
        return list(store[KEY].log)


def a_log_that_comes_back_late_is_put_together_again(root: Path) -> None:
    """A repair without the log's file keeps the journal; compact keeps the file; by hand both are the session again."""
    items = long_log(root)
    log = log_of(root)
    away = root.parent / "away"
    shutil.move(log, away)
    with Store(root) as store:
        (found,) = store.verify().problems
        assert "put the file back from a backup" in found.detail, found
        (mended,) = store.verify(repair=True).problems
        assert mended.repaired
        assert len(store[KEY].log) < len(items)
        store.append(KEY, ["later"])
        shutil.move(away, log)
        (note,) = store.verify().notes
        assert note.kind == "unused-log"
        assert "compact moves it to quarantine/" in note.detail, note
        store.compact()
    kept = {path.name: path for path in (root / "quarantine").iterdir()}
    journals = [path for name, path in kept.items() if ".log.jsonl" not in name]
    assert len(journals) == 1, kept
    assert log.name in kept, kept
    (journal,) = journals
    assert f"quarantine/{journal.name}" in mended.detail, mended
    for present in (root / "shards").glob("*/*.log.jsonl"):
        present.unlink()
    shutil.copy(kept[log.name], log)
    shutil.copy(journal, disk.shard(root, KEY))
    with Store(root) as store:
        assert list(store[KEY].log) == items


def a_session_under_anothers_file_is_named(root: Path) -> None:
    """Somebody copied one session's file over another's: a repair moves it away, and names what was lost beneath it."""
    with Store(root) as store:
        for key in (KEY, OTHER):
            store.create(key, {"key": key})
        store.compact()  # the index takes them in
        place = disk.shard(root, OTHER)
        shutil.copy(disk.shard(root, KEY), place)
        for _ in range(2):
            assert [(one.kind, one.key) for one in store.verify().problems if one.lost] == [("lost", OTHER)]
        store.list()
        report = store.verify(repair=True)
        assert sorted((one.kind, one.key) for one in report.problems) == [("lost", OTHER), ("misplaced", KEY)]
        assert store.verify().ok
        assert store.get(OTHER) is None


def what_a_salvaged_session_lacks_at_its_end_is_named(root: Path) -> None:
    """Of five revisions the second is damaged and the last two are cut off: the lists knew five."""
    with Store(root) as store:
        for number in range(5):
            store.patch(KEY, {"n": number, f"f{number}": "x" * 600})
        store.compact()
        path = disk.shard(root, KEY)
        lines = path.read_bytes().split(b"\n")[:3]
        lines[1] = lines[1].replace(b'"n":1', b'"n":7')
        disk.edit(path, b"\n".join(lines) + b"\n")
        for _ in range(2):
            found = {one.kind: one.detail for one in store.verify().problems}
            assert sorted(found) == ["damaged", "lost"], found
            assert "revisions 4 to 5 are missing" in found["lost"]
            store.list()
        assert sorted(one.kind for one in store.verify(repair=True).problems) == ["damaged", "lost"]
        assert store.verify().ok
        assert store[KEY]["n"] == 2


def something_else_in_a_sessions_place_is_named(root: Path) -> None:
    """A directory stands where the session's file was, also of a session that changed since the lists looked."""
    with Store(root) as store:
        for key in (KEY, OTHER):
            store.create(key, {"key": key})
        store.compact()
        store.patch(OTHER, {"n": 1})
        for key in (KEY, OTHER):
            place = disk.shard(root, key)
            place.unlink()
            place.mkdir()
        report = store.verify(repair=True)
        assert sorted(one.key or "" for one in report.problems if one.kind == "lost") == [KEY, OTHER]
        assert store.verify().ok
