"""The marker: made once whoever is first, last of all, and read with suspicion."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shardstore import StoreFull, StoreNotFound, UnsafeStore, UnsupportedFormat
from shardstore._files.layout import Layout
from shardstore._files.marker import Settings, check_owner, make_store, read_settings
from tests.support.actions import in_background


@pytest.fixture
def layout(root: Path) -> Layout:
    """Return the paths of a store that is not there yet."""
    return Layout(root)


def test_a_store_is_made_whole(layout: Layout) -> None:
    """256 directories for shards and two others, private, and a marker that says what was asked for."""
    make_store(layout, Settings(indexed=("status", "model")))
    assert sorted(os.listdir(layout.root)) == ["archive", "quarantine", "shards", "shardstore.json"]
    assert sorted(os.listdir(layout.shards)) == [f"{number:02x}" for number in range(256)]
    for directory, names, _ in os.walk(layout.root):
        assert {os.stat(os.path.join(directory, name)).st_mode & 0o777 for name in names} <= {0o700}
    settings = read_settings(layout)
    assert settings.indexed == ("status", "model")
    assert settings.created_at > 1_600_000_000_000


def test_a_store_is_made_once(layout: Layout) -> None:
    """Of many makers at once one is first, and what it says stays."""
    for wait in [in_background(make_store, layout, Settings(indexed=(f"f{n}",))) for n in range(6)]:
        wait()
    first = layout.marker.read_bytes()
    make_store(layout, Settings(indexed=("late",)))
    assert layout.marker.read_bytes() == first
    assert sorted(name for name in os.listdir(layout.root) if name.startswith("shardstore")) == ["shardstore.json"]


def test_the_marker_is_made_last(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A maker that fails on the way leaves no marker, and the next one makes the store."""
    real = os.mkdir

    def mkdir(path: str, *args: int) -> None:
        if str(path).endswith("80"):
            raise OSError(28, "no space")
        real(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", mkdir)
        with pytest.raises(StoreFull):
            make_store(layout, Settings())
    with pytest.raises(StoreNotFound):
        read_settings(layout)
    make_store(layout, Settings())
    assert read_settings(layout).indexed == ()


@pytest.mark.damages("the marker is something else")
@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"format": 0}, {"format": None}, {"format": "1"}, {"indexed": "status"},
        {"indexed": [1]}, {"indexed": 3}, None,
    ],
    ids=repr,
)  # fmt: skip
def test_another_marker_is_refused(layout: Layout, change: dict[str, object] | None) -> None:
    """A marker of another format, or with settings that mean nothing."""
    make_store(layout, Settings())
    marker = json.loads(layout.marker.read_bytes())
    marker["shardstore"] = None if change is None else marker["shardstore"] | change
    layout.marker.write_text(json.dumps(marker))
    with pytest.raises(UnsupportedFormat):
        read_settings(layout)


@pytest.mark.damages("the marker is something else")
def test_a_marker_that_is_no_file_is_refused(layout: Layout) -> None:
    """A link is not followed, a FIFO not waited for."""
    make_store(layout, Settings())
    elsewhere = layout.root / "elsewhere"
    layout.marker.rename(elsewhere)
    layout.marker.symlink_to(elsewhere)
    with pytest.raises(UnsupportedFormat, match="symbolic link"):
        read_settings(layout)
    layout.marker.unlink()
    os.mkfifo(layout.marker)
    with pytest.raises(UnsupportedFormat):
        read_settings(layout)


@pytest.mark.parametrize(("mode", "safe"), [(0o700, True), (0o755, True), (0o720, False), (0o702, False)])
def test_who_else_may_write(layout: Layout, mode: int, safe: bool) -> None:
    """Others may read a store, but not write to it, unless that is allowed by name."""
    make_store(layout, Settings())
    layout.root.chmod(mode)
    if safe:
        check_owner(layout)
    else:
        with pytest.raises(UnsafeStore, match="chmod 700"):
            check_owner(layout)
    layout.root.chmod(0o700)
