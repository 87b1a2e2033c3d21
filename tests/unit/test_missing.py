"""Directories that vanished: made again for a writer, and recorded before that."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store, StoreFull, StoreIOError
from shardstore._files import missing as lost
from shardstore._files.layout import PREFIXES, Layout


@pytest.fixture
def layout(root: Path) -> Layout:
    Store(root).close()
    return Layout(root)


def test_nothing_is_missing_of_a_new_store(layout: Layout) -> None:
    assert lost.missing(layout) == []
    assert list(lost.records(layout)) == []
    lost.make_prefix(layout, "ab")
    assert list(lost.records(layout)) == [], "a directory that is there was not lost"


@pytest.mark.damages("directories that are lost")
def test_a_directory_that_is_made_again_is_recorded(layout: Layout) -> None:
    for prefix in ("ab", "cd"):
        os.rmdir(layout.shard_path(prefix))
    assert lost.missing(layout) == ["ab", "cd"]
    lost.make_prefix(layout, "cd")
    assert lost.missing(layout) == ["ab"]
    ((prefix, name),) = lost.records(layout)
    assert prefix == "cd"
    told = json.loads((layout.quarantine / name).read_text())
    assert told == {"lost_directory": "shards/cd", "made_again_by": os.getpid()}
    assert os.stat(layout.quarantine / name).st_mode & 0o777 == 0o600


@pytest.mark.damages("directories that are lost")
def test_the_record_is_on_the_disk_before_the_directory(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever dies in between leaves a record too much, never a directory without one."""
    os.rmdir(layout.shard_path("ab"))
    steps: list[str] = []
    make, sync = lost.disk.make_directory, lost.disk.sync
    monkeypatch.setattr(lost.disk, "make_directory", lambda path: (steps.append(f"make {path}"), make(path)))
    monkeypatch.setattr(lost.disk, "sync", lambda fd: (steps.append("sync"), sync(fd)))
    lost.make_prefix(layout, "ab")
    assert steps.index("sync") < steps.index(f"make {layout.shard_path('ab')}")


@pytest.mark.damages("directories that are lost")
@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreIOError)])
def test_without_a_record_there_is_no_directory(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, number: int, error: type[StoreIOError]
) -> None:
    os.rmdir(layout.shard_path("ab"))

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lost.disk, "write_all", fail)
    with pytest.raises(error):
        lost.make_prefix(layout, "ab")
    assert lost.missing(layout) == ["ab"]


@pytest.mark.damages("directories that are lost")
def test_making_whole_makes_every_directory_and_forgets_the_records(layout: Layout) -> None:
    for prefix in PREFIXES[:5]:
        os.rmdir(layout.shard_path(prefix))
    lost.make_prefix(layout, PREFIXES[0])
    (layout.quarantine / "somebody's notes").write_text("stay")
    lost.make_whole(layout)
    assert lost.missing(layout) == []
    assert list(lost.records(layout)) == []
    assert (layout.quarantine / "somebody's notes").exists()
    lost.make_whole(layout)


def test_a_directory_that_nobody_can_look_at_is_not_lost(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call fails, and nothing is recorded: the sessions in it are not missing."""
    real = os.stat

    def broken(path: Any, **how: Any) -> os.stat_result:
        if str(path).endswith("/shards/00"):
            raise OSError(errno.EIO, "broken")
        return real(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr("shardstore._files.disk.os.stat", broken)
        with pytest.raises(StoreIOError):
            lost.make_prefix(layout, "00")
        with pytest.raises(StoreIOError):
            lost.missing(layout)
    assert list(lost.records(layout)) == []
