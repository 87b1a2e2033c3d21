"""Rebuilding the index: exact while others write, by one at a time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shardstore import Store
from shardstore._files.change_file.file import ChangeFile, change_files
from shardstore._files.direct.rows import Busy, Found
from shardstore._files.index import rebuild
from tests.index.actors import Actor, change_file, index_files, is_current, name_of, truth
from tests.support import leftovers


def test_told_of_what_the_rebuild_reads(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said to be done is done."""
    read: list[str] = []
    real = rebuild.ctime_of
    monkeypatch.setattr(rebuild, "ctime_of", lambda path: read.append(path) or real(path))  # type: ignore[func-returns-value]
    steps: list[bool] = []
    with Store(root, scan_progress=lambda done, _: steps.append(len(read) == done)) as store:
        store.create("s", {"n": 0})
        store.list()
    assert steps == [True] * 257


def test_it_is_made_by_one_at_a_time(pair: tuple[Actor, Actor]) -> None:
    """Who finds the index lock taken leaves what is there."""
    writer, lister = pair
    before = change_file(writer.root)
    holder = ChangeFile.open(str(writer.root / "index"), before.name, write=False)
    assert holder.lock()
    assert not lister.lister.rebuild()
    assert change_file(writer.root) == before
    holder.unlock()
    with mock.patch.object(rebuild.events, "note") as noted, mock.patch.object(rebuild.events, "measured") as measured:
        assert lister.lister.rebuild()
    assert change_file(writer.root) != before
    assert is_current(writer.root)
    (took,) = [call.args[1] for call in measured.call_args_list if call.args[0] == "rebuild"]
    assert 0 < took == noted.call_args[0][3] < 600


def test_two_makers_leave_one_index_or_none(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """A maker that finds a second change file beside its own unlinks its own and leaves."""
    writer, lister = pair
    index = str(writer.root / "index")
    other: list[ChangeFile] = []

    def discard_locked(*args: Any) -> Any:
        found = real(*args)
        other.append(ChangeFile.create(index))
        return found

    real = rebuild._discard_locked
    monkeypatch.setattr(rebuild, "_discard_locked", discard_locked)
    assert not lister.lister.rebuild()
    assert [made.filename for made in other] == change_files(index)
    monkeypatch.undo()
    other[0].unlock()
    assert lister.list() == truth(writer.root)


def test_a_busy_shard_is_marked_in_the_new_change_file(pair: tuple[Actor, Actor]) -> None:
    """A writer that is inside has looked at the old one, or at none."""
    writer, lister = pair
    for path in index_files(writer.root):
        path.unlink()
    with writer.writing("k1", n=-1):
        assert lister.lister.rebuild()
        assert change_file(writer.root).read_text().count(name_of("k1")) == 1
    assert lister.list(refresh=False) == truth(writer.root)


def test_what_the_old_change_file_names_is_read(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the listings of its directory miss it, as on btrfs."""
    writer, lister = pair
    name = name_of("k1")
    writer.write("k1", n=-1)
    real = lister.place.shards.list_directory
    monkeypatch.setattr(
        lister.place.shards, "list_directory", lambda *args: {k: v for k, v in real(*args).items() if k != name}
    )
    lister.place.directories._next = float("inf")  # it would take the session for one that was taken away by hand
    assert lister.lister.rebuild()
    assert lister.list(refresh=False) == truth(writer.root)


def test_a_maker_that_fails_leaves_no_index(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the half of a catalog nor a change file that no catalog goes with."""
    writer, lister = pair

    def fail(done: int, _total: int) -> None:
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        lister.lister.rebuild(fail)
    assert leftovers.connections() == [], "though the traceback keeps its catalog"
    assert caught.tb is not None
    assert [path.name for path in index_files(writer.root)] == ["catalog"]
    assert lister.list(refresh=False) == truth(writer.root)
    assert lister.list() == truth(writer.root)


@pytest.mark.parametrize("who", ["somebody deletes the index", "a thread has other fields indexed"])
def test_a_rebuild_that_is_overtaken_says_so(root: Path, who: str) -> None:
    """What it made is of no use, and is not left behind."""
    writer, lister = Actor(root, ("n",)), Actor(root, ("n",))
    for n in range(20):
        writer.write(f"k{n}", n=n)
    lister.list()
    before = (writer.root / "index" / "catalog").read_bytes()

    def meanwhile(done: int, _total: int) -> None:
        if done == 100 and "deletes" in who:
            change_file(writer.root).unlink()
        elif done == 100:
            lister.place._set_fields(("m",))

    assert not lister.lister.rebuild(meanwhile)
    assert [path.name for path in index_files(writer.root)] == ["catalog"]
    assert (writer.root / "index" / "catalog").read_bytes() == before
    lister.place.reread_settings()
    assert lister.lister.rebuild()
    assert lister.list() == truth(writer.root)


def test_whatever_has_a_name_of_ours_is_replaced(pair: tuple[Actor, Actor]) -> None:
    """A link or a file in the place of index/, a directory in that of a file; what the dead left goes."""
    writer, lister = pair
    index = writer.root / "index"
    (index / "catalog").unlink()
    (index / "catalog").mkdir()
    (index / "changes.0123456789abcdef").mkdir()
    (index / ".tmp-changes.0123456789abcdef.catalog").write_bytes(b"x")
    (index / "catalog-journal").write_bytes(b"x")
    assert lister.lister.rebuild()
    assert [path.name for path in index_files(writer.root)] == ["catalog", change_file(writer.root).name]
    assert is_current(writer.root)
    for link in (True, False):
        shutil.rmtree(index)
        if link:
            index.symlink_to(writer.root / "archive")
        else:
            index.write_bytes(b"x")
        assert lister.lister.rebuild()
        assert is_current(writer.root)
        assert os.listdir(writer.root / "archive") == []
        assert not index.is_symlink()


def test_reading_every_shard_keeps_nothing(pair: tuple[Actor, Actor]) -> None:
    """Neither journals nor, where it fails, the catalog in memory. Shards that cannot be read are named."""
    _, lister = pair
    name = name_of("k1")
    lister.place.shards._kept.clear()
    catalog, unknown = rebuild.scan(lister.place, set(), None)
    assert unknown == {}
    assert catalog.begin().settings == lister.place.settings
    assert catalog.row(name) is not None
    catalog.close()
    real = lister.place.shards.read

    def read(one: str, *, keep: bool = True) -> Found:
        return Busy(name, "unreadable", "no") if one == name else real(one, keep=keep)

    with mock.patch.object(lister.place.shards, "read", read):
        catalog, unknown = rebuild.scan(lister.place, set(), None)
    assert list(unknown) == [name]
    catalog.begin()
    assert catalog.row(name) is None
    catalog.close()
    assert not lister.place.shards._kept

    def fail(done: int, _total: int) -> None:
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        rebuild.scan(lister.place, set(), fail)
    assert not any("mode=memory" in one for one in leftovers.connections())
    assert caught.tb is not None


def test_remove_removes_whatever_has_the_name(tmp_path: Path) -> None:
    """A file, a link without following it, a full directory, and nothing at all."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("link", "full", "file", "none"):
        rebuild.remove(str(tmp_path / name))
    assert os.listdir(tmp_path) == ["kept"]
    assert (kept / "file").exists()
