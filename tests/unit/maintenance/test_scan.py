"""Scan: each file below shards/ with what its name says it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shardstore import Store, StoreIncomplete, StoreIOError, StoreNotFound
from shardstore._files.engine import FileEngine
from shardstore._files.layout import log_name, shard_name, temp_name
from shardstore._files.maintenance.scan import StoreFile, scan


def test_each_kind_of_file_is_told_from_the_others(store: Store, engine: FileEngine) -> None:
    """A shard, its temp, its log file, and what is none of ours, in the order of their names."""
    store.create("k", {})
    name, shards = shard_name("k"), engine.layout.shards
    prefix = name.partition("/")[0]
    temp, log = temp_name(name), log_name(name, "0123456789abcdef")
    for made in (temp, log, f"{prefix}/notes.txt", "README"):
        (shards / made).touch()
    found = {one.name: one for one in scan(engine.layout)}
    assert found == {
        name: StoreFile(name, shard=True),
        temp: StoreFile(temp, shard=False, owner=name),
        log: StoreFile(log, shard=False, owner=name, log="0123456789abcdef"),
        f"{prefix}/notes.txt": StoreFile(f"{prefix}/notes.txt", shard=False),
        "README": StoreFile("README", shard=False),
    }
    assert [one.name for one in scan(engine.layout)] == sorted(found)
    assert found[name].path == f"shards/{name}"


@pytest.mark.damages("a part of the store goes")
def test_a_part_that_is_gone_is_no_empty_store(store: Store, engine: FileEngine) -> None:
    """Whoever takes a missing directory for an empty one would report everything as swept."""
    store.create("k", {})
    shutil.rmtree(engine.layout.shards)
    with pytest.raises(StoreIncomplete, match="shards"):
        list(scan(engine.layout))
    engine.layout.marker.unlink()
    with pytest.raises(StoreNotFound):
        list(scan(engine.layout))


def test_a_directory_that_cannot_be_listed_is_an_error(engine: FileEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str | Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", fail)
    with pytest.raises(StoreIOError, match="listing the shards"):
        list(scan(engine.layout))
