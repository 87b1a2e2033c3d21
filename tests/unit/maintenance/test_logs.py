"""Log files: what is lost of one, and which ones nobody needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardstore import Store
from shardstore._files.engine import FileEngine
from shardstore._files.layout import log_file, log_path, shard_name
from shardstore._files.maintenance import logs
from tests.support import disk

NAME = shard_name("k")
GHOST = "0123456789abcdef"


@pytest.fixture
def path(store: Store, engine: FileEngine) -> Path:
    """Return the log file of session k, which holds most of its 300 items."""
    with store.using(durability="relaxed") as quick:
        for number in range(300):
            quick.append("k", [{"n": number, "text": "x" * 1_000}])
    (found,) = engine.layout.shards.glob("*/*.log.jsonl")
    return found


def losses(engine: FileEngine) -> logs.Losses | None:
    return logs.losses(engine, NAME, engine.read("k").log)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((), ""),
        ((4,), "4"),
        ((0, 1, 2, 7, 9, 10), "0 to 2, 7, 9 to 10"),
        (tuple(range(1000, 3000)), "1,000 to 2,999"),
        (tuple(range(0, 20, 2)), "0, 2, 4, 6, 8, 10, 12, 14 and more"),
    ],
)
def test_numbers_are_named_in_runs(numbers: tuple[int, ...], text: str) -> None:
    assert logs.runs(numbers) == text


def test_a_whole_log_has_no_losses(store: Store, engine: FileEngine, path: Path) -> None:
    assert losses(engine) is None
    store.append("short", [1])
    assert logs.losses(engine, shard_name("short"), engine.read("short").log) is None


@pytest.mark.damages("a log's file is damaged")
def test_damaged_items_are_counted_from_the_first_that_stands(store: Store, engine: FileEngine, path: Path) -> None:
    """Indices as a caller knows them, of items that still stand."""
    with store.edit("k") as draft:
        del draft.log[:10]
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"".join(line.replace(b"xx", b"yy", 1) if number in (3, 12, 13) else line for number, line in enumerate(data))
    )
    found = losses(engine)
    assert found is not None
    assert (found.missing, found.lost, found.whole) == (False, (2, 3), 288)
    assert found.detail == "the log's file is damaged: items 2 to 3 cannot be read; 288 can"
    with engine.pool.transaction("k", 1.0) as txn:
        assert "288 items salvaged; the originals are quarantine/" in logs.repair(engine, txn, NAME)
    assert [item["n"] for item in store["k"].log] == [n for n in range(10, 300) if n not in (12, 13)]
    assert (engine.layout.quarantine / log_file(NAME, path.name.split(".")[1])).exists()
    with engine.pool.transaction("k", 1.0) as txn:
        assert logs.repair(engine, txn, NAME) == "it is whole by now"


@pytest.mark.damages("a log's file is gone")
def test_a_file_that_is_gone(engine: FileEngine, path: Path) -> None:
    settled = engine.read("k").log.settled.lines
    before = disk.shard(engine.root, "k").read_bytes()
    path.unlink()
    found = losses(engine)
    assert found is not None
    assert found.missing
    assert len(found.lost) == settled
    assert found.detail.startswith("the log's file is missing: items 0 to ")
    with engine.pool.transaction("k", 1.0) as txn:
        told = logs.repair(engine, txn, NAME)
    (kept,) = engine.layout.quarantine.iterdir()
    assert told == f"{300 - settled:,} items salvaged; the original is quarantine/{kept.name}"
    assert kept.read_bytes() == before, "as it was, without the repair's own revision"


def test_only_what_no_journal_names_is_swept(store: Store, engine: FileEngine, path: Path) -> None:
    """A file that the journal names stays, also when the sweeper decided before that it was unused."""
    used = path.name.split(".")[1]
    Path(log_path(engine.layout, NAME, GHOST)).touch()
    assert logs.files_of(engine.layout, NAME) == sorted([used, GHOST])
    assert (logs.is_unused(engine.layout, NAME, used), logs.is_unused(engine.layout, NAME, GHOST)) == (False, True)
    with engine.pool.transaction("k", 1.0) as txn:
        assert not logs.sweep(engine, txn, NAME, used)
        assert logs.sweep(engine, txn, NAME, GHOST)
    assert logs.files_of(engine.layout, NAME) == [used]


@pytest.mark.damages("a journal that cannot be read")
def test_beside_a_damaged_journal_no_log_is_unused(engine: FileEngine, path: Path) -> None:
    """It may be all that is left of the session."""
    disk.edit(disk.shard(engine.root, "k"), b"noise" * 1000)
    assert not logs.is_unused(engine.layout, NAME, GHOST)
    logs.set_aside(engine.layout, NAME)
    assert logs.files_of(engine.layout, NAME) == []
    assert (engine.layout.quarantine / log_file(NAME, path.name.split(".")[1])).exists()


def test_in_the_archive_only_logs_without_a_session_are_unused(store: Store, engine: FileEngine, path: Path) -> None:
    assert logs.unused_in_archive(engine.layout) == []
    store.prune(older_than=0)
    assert logs.unused_in_archive(engine.layout) == []
    ghost = log_file(NAME, GHOST)
    (engine.layout.archive / ghost).touch()
    assert logs.unused_in_archive(engine.layout) == [(NAME, ghost)]
    (archived,) = [one for one in engine.layout.archive.iterdir() if not one.name.endswith(".log.jsonl")]
    archived.write_bytes(b"noise")
    assert logs.unused_in_archive(engine.layout) == [], "whose log is it? nobody knows by now"
