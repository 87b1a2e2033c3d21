"""Compact: what each shard needs, and that it decides again inside the lock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from shardstore._files.engine import FileEngine
from shardstore._files.layout import log_name, shard_name, temp_name
from shardstore._files.maintenance import compact as module
from shardstore._files.maintenance.compact import compact
from shardstore.reports import CompactReport
from tests.support import disk
from tests.support.actions import in_background


def run(engine: FileEngine, **options: Any) -> CompactReport:
    return compact(engine, dry_run=options.get("dry_run", False), progress=options.get("progress"))


def grown(store: Store, key: str) -> None:
    """Grow for a session a journal of many records for little data: more than a writer leaves behind today."""
    store.create(key, {"n": 1})
    path = disk.shard(store.root, key)
    (first,) = disk.records(path.read_bytes())
    changes = [{"rev": n, "at": first["at"], "by": "x", "set": {"n": n}} for n in range(2, 200)]
    disk.edit(path, b"".join(map(disk.line, [{k: v for k, v in first.items() if k != "crc"}, *changes])))


def actions(report: CompactReport) -> list[tuple[str, str | None]]:
    return [(one.action, one.key) for one in report.actions if one.action != "refresh-index"]


def test_each_shard_gets_what_it_needs(store: Store, engine: FileEngine) -> None:
    """A grown journal is rewritten, a tombstone dropped, a fresh session left alone."""
    grown(store, "grown")
    store.create("fresh", {"a": 1})
    store.create("gone", {})
    store.delete("gone")
    versions = {key: store[key].version for key in ("grown", "fresh")}
    dry = run(engine, dry_run=True)
    assert sorted(actions(dry)) == [("drop-tombstone", "gone"), ("rewrite", "grown")]
    assert Path(engine.place("gone")).exists(), "a dry run changes nothing"
    size = os.path.getsize(engine.place("grown"))
    report = run(engine)
    assert sorted(actions(report)) == sorted(actions(dry))
    (rewritten,) = [one for one in report.actions if one.action == "rewrite"]
    assert rewritten.bytes_freed == size - os.path.getsize(engine.place("grown")) > 0
    assert not Path(engine.place("gone")).exists()
    assert {key: store[key].version for key in versions} == versions
    assert actions(run(engine)) == []


def test_space_goes_when_a_session_has_rested(
    store: Store, engine: FileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next commit would only ask for it again."""
    store.create("k", {"filler": "x" * 9_000})
    store.patch("k", {"n": 1})
    assert os.path.getsize(engine.place("k")) > disk.end(Path(engine.place("k")).read_bytes())
    assert actions(run(engine)) == []
    monkeypatch.setattr(module, "IDLE_SECONDS", -1)
    assert actions(run(engine)) == [("trim", "k")]
    assert os.path.getsize(engine.place("k")) == disk.end(Path(engine.place("k")).read_bytes())


def test_a_log_of_mostly_dropped_items_is_written_anew(store: Store, engine: FileEngine) -> None:
    with store.using(durability="relaxed") as quick:
        for number in range(300):
            quick.append("k", [{"n": number, "text": "x" * 1_000}])
    before = set(engine.layout.shards.glob("*/*.log.jsonl"))
    with store.edit("k") as draft:
        del draft.log[:200]
    assert ("rewrite-log", "k") in actions(run(engine))
    after = set(engine.layout.shards.glob("*/*.log.jsonl"))
    assert len(after) == 1 and after.isdisjoint(before)
    assert [item["n"] for item in store["k"].log] == list(range(200, 300))


def test_a_session_in_use_is_skipped_and_no_failure(store: Store, engine: FileEngine) -> None:
    """Its own thread holds it, in another transaction."""
    grown(store, "grown")
    with store.edit("grown"):
        report = in_background(run, engine)(30.0)
    ((path, key, why, failed),) = [(one.path, one.key, one.why, one.failed) for one in report.skipped]
    assert (key, failed, why.startswith("in use")) == ("grown", False, True)
    assert path == f"shards/{shard_name('grown')}"
    assert report.ok


def test_what_changed_since_it_was_looked_at_stays(
    store: Store, engine: FileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that was deleted when compact looked, and made again before it had the lock."""
    store.create("k", {"n": 1})
    store.delete("k")
    need, looks = module._need, []

    def looked(*args: Any) -> Any:
        found = need(*args)
        if not looks:
            looks.append(found)
            store.create("k", {"n": 2})
        return found

    monkeypatch.setattr(module, "_need", looked)
    assert actions(run(engine)) == []
    assert looks[0][0] == "drop-tombstone"
    assert store["k"]["n"] == 2


@pytest.mark.damages("files that a crash left, and a damaged shard")
def test_leftovers_go_but_for_those_of_a_damaged_shard(store: Store, engine: FileEngine) -> None:
    """A temp and a log that no journal names. Beside damage they may be all that is left."""
    for key in ("whole", "broken"):
        store.create(key, {})
    left = []
    for key in ("whole", "broken"):
        name = shard_name(key)
        for made in (temp_name(name), log_name(name, "0123456789abcdef")):
            (engine.layout.shards / made).write_bytes(b"rest")
            left.append(engine.layout.shards / made)
    disk.edit(disk.shard(engine.root, "broken"), b"noise" * 1000)
    report = run(engine)
    assert [path.exists() for path in left] == [False, False, True, True]
    assert sorted(action for action, _ in actions(report)) == ["sweep-log", "sweep-temp"]
    assert any(one.failed and "damaged" in one.why for one in report.skipped)
    assert not report.ok


def test_progress_begins_at_nothing_and_ends_with_all(store: Store, engine: FileEngine) -> None:
    for key in "abc":
        store.create(key, {})
    told: list[tuple[int, int]] = []
    run(engine, progress=lambda *done: told.append(done))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
