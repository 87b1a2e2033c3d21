"""The archive listing: whose each file is, and emptying archive/ alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardstore import InvalidQuery, Store
from shardstore._files.engine import FileEngine
from shardstore._files.layout import shard_name, stamped_name
from shardstore._files.maintenance import archive_listing
from shardstore._files.maintenance.archive_listing import archived, purge
from shardstore.reports import PurgeReport


@pytest.fixture
def filled(store: Store, engine: FileEngine) -> FileEngine:
    """Return an engine with three archived sessions and a damaged file in quarantine/."""
    for key in ("a:1", "a:2", "b:1"):
        store.create(key, {"key": key})
        store.prune(older_than=0)
    quarantine = engine.layout.quarantine
    os.makedirs(quarantine, exist_ok=True)
    (quarantine / stamped_name(shard_name("a:3"))).write_bytes(b'rest"key":"a:3","put":' * 50)
    (quarantine / stamped_name(shard_name("a:4"))).write_bytes(b"noise" * 200)
    (quarantine / "notes").touch()
    (quarantine / stamped_name(shard_name("a:5"))).mkdir()
    return engine


def purged(engine: FileEngine, older_than: float = 0, prefix: str | None = None, **options: bool) -> PurgeReport:
    return purge(engine.layout, older_than, prefix=prefix, dry_run=options.get("dry_run", False), progress=None)


def test_each_file_has_its_key_as_far_as_it_tells(filled: FileEngine) -> None:
    """The oldest first; a damaged file's remains may prove whose it was."""
    found = archived(filled.layout)
    assert [(one.place, one.key) for one in found if one.place == "archive"] == [
        ("archive", "a:1"), ("archive", "a:2"), ("archive", "b:1"),
    ]  # fmt: skip
    assert {one.key for one in found if one.place == "quarantine"} == {"a:3", None}
    assert [one.key for one in archived(filled.layout, "a:")] == [
        one.key for one in found if one.key in ("a:1", "a:2", "a:3")
    ]
    assert all(one.size == os.path.getsize(filled.root / one.path) for one in found)


def test_the_log_counts_with_its_session_and_goes_with_it(store: Store, engine: FileEngine) -> None:
    with store.using(durability="relaxed") as quick:
        for number in range(300):
            quick.append("k", [{"n": number, "text": "x" * 1_000}])
    store.prune(older_than=0)
    (one,) = archived(engine.layout)
    assert one.size == sum(path.stat().st_size for path in engine.layout.archive.iterdir())
    assert purged(engine).bytes_freed == one.size
    assert list(engine.layout.archive.iterdir()) == []


def test_purge_goes_by_age_and_prefix_and_spares_quarantine(filled: FileEngine) -> None:
    count = len(archived(filled.layout))
    assert purged(filled, 3600).removed == ()
    assert [one.key for one in purged(filled, prefix="b:", dry_run=True).removed] == ["b:1"]
    assert len(archived(filled.layout)) == count, "a dry run removes nothing"
    assert [one.key for one in purged(filled, prefix="b:").removed] == ["b:1"]
    report = purged(filled)
    assert ({one.key for one in report.removed}, report.ok) == ({"a:1", "a:2"}, True)
    assert {one.place for one in archived(filled.layout)} == {"quarantine"}


@pytest.mark.parametrize("prefix", [7, b"a", ["a"]])
def test_a_malformed_prefix_removes_nothing(filled: FileEngine, prefix: str) -> None:
    for call in (archived, lambda layout, prefix: purge(layout, 0, prefix=prefix, dry_run=False, progress=None)):
        with pytest.raises(InvalidQuery):
            call(filled.layout, prefix)
    assert len(archived(filled.layout, "a:")) == 3


def test_what_cannot_be_removed_is_reported_and_the_rest_goes(
    filled: FileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def refuse(path: str | Path) -> None:
        if "a-1" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path)

    monkeypatch.setattr(archive_listing.os, "unlink", refuse)
    report = purged(filled)
    assert {one.key for one in report.removed} == {"a:2", "b:1"}
    assert [(one.failed, "Permission denied" in one.why) for one in report.skipped] == [(True, True)]
    assert not report.ok


def test_progress_counts_the_files(filled: FileEngine) -> None:
    told: list[tuple[int, int]] = []
    purge(filled.layout, 0, prefix=None, dry_run=True, progress=lambda *done: told.append(done))
    assert told == [(0, 3), (1, 3), (2, 3)]
