"""When a list refreshes: not before the lists since the last refresh have read about as much as one costs."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shardstore import Store, StoreIOError
from shardstore._files.change_file import file as changes
from shardstore._files.index import lister, refresh
from shardstore._files.index.upkeep import refresh_all
from tests.index.actors import Actor, change_file, is_current, name_of, truth
from tests.support.peer import one_peer

pytestmark = pytest.mark.lazy


def marks(root: Path) -> int:
    return change_file(root).read_bytes().count(b" +\n")


def test_few_changes_are_read_again_until_a_refresh_pays(store: Store, root: Path) -> None:
    """Two changed shards: every 32nd list; each list is right."""
    for n in range(50):
        store.create(f"k{n}", {"n": 0})
    assert len(store.list()) == 50
    before = marks(root)
    for n in range(1, 97):
        store.patch("k7", {"n": n})
        store.patch("k8", {"n": -n})
        found = {info.key: info.fields["n"] for info in store.list()}
        assert (found["k7"], found["k8"]) == (n, -n)
        assert marks(root) - before == n // (lister._REREADS // 2)


def test_one_change_is_read_by_as_many_lists_as_a_refresh_costs(pair: tuple[Actor, Actor]) -> None:
    """Counted anew after each refresh."""
    writer, one = pair
    refresh_all(one.lister)
    before, refreshed = marks(writer.root), []
    for n in range(1, 2 * lister._REREADS + 1):
        writer.write("k1", n=-n)
        one.list()
        if marks(writer.root) > before:
            before = marks(writer.root)
            refreshed.append(n)
    assert refreshed == [lister._REREADS, 2 * lister._REREADS]


def test_many_bytes_of_changes_are_refreshed(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list reads them, however few shards they name."""
    writer, one = pair
    refresh_all(one.lister)
    before, at_most = marks(writer.root), change_file(writer.root).stat().st_size
    writer.write("k1", n=-1)
    size = change_file(writer.root).stat().st_size
    catalog = one.place.take(write=False)
    meta, _, pending = one.lister.begin(catalog)
    catalog.end()
    one.place.give_back(catalog)
    assert 0 < size - at_most <= pending.end - meta.mark < size
    for limit, refreshes in ((pending.end - meta.mark + 1, False), (pending.end - meta.mark, True)):
        monkeypatch.setattr(lister, "BEHIND_BYTES_MAX", limit)
        assert one.list() == truth(writer.root)
        assert (marks(writer.root) > before) == refreshes


def test_a_process_takes_over_the_fields_that_another_has_indexed(root: Path) -> None:
    """Else the two would rebuild the index in turn."""
    one, other = Actor(root, ("a",)), Actor(root, ("a",))
    one.write("k", a=1, b=2)
    one.list()
    other.lister.reindex(("b",))
    before = change_file(root)
    assert one.list() == truth(root)
    assert one.place.indexed == ("b",)
    assert change_file(root) == before


def test_why_the_index_cannot_be_made_is_an_error(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whoever asks for it; a list reads every shard."""
    writer, one = pair
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(lister, "rebuild", mock.Mock(side_effect=full))
    with pytest.raises(StoreIOError, match="while making the index") as caught:
        one.lister.rebuild()
    assert caught.value.errno == errno.ENOSPC
    change_file(writer.root).unlink()
    noted = mock.Mock()
    monkeypatch.setattr(lister.events, "note", noted)
    assert one.list() == truth(writer.root)
    assert one.lister.problem == str(full)
    assert (noted.call_args[0][0], noted.call_args[0][-1]) == ("index", str(full))


def test_who_may_not_write_the_change_file_reads_it(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the catalog is gone: what it names may be missing in the listing of its directory."""
    writer, reader = pair
    writer.write("k1", n=-1)
    real = changes.disk.open_file

    def open_file(path: str | os.PathLike[str], flags: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, flags)

    monkeypatch.setattr(changes.disk, "open_file", open_file)
    assert reader.lister._marked() == {name_of("k1")}
    assert reader.lister.wait(time.monotonic())


def test_many_changes_are_refreshed_at_once(store: Store, root: Path) -> None:
    store.create("first", {"n": 0})
    store.list()
    for n in range(lister._REREADS):
        store.create(f"k{n}", {"n": 0})
    assert len(store.list()) == lister._REREADS + 1
    assert is_current(root)


def test_a_refresh_by_anybody_counts(store: Store, root: Path) -> None:
    """What was read again before it pays for nothing any more."""
    store.create("k", {"n": 0})
    store.list()
    for _ in range(lister._REREADS - 1):
        store.patch("k", {"n": 1})
        store.list()
    with one_peer() as peer:
        peer.run(_refresh, str(root))
    before = marks(root)
    store.patch("k", {"n": 2})
    assert store.list()[0].fields == {"n": 2}
    assert marks(root) == before


def _refresh(root: str) -> None:
    with Store(root) as store:
        refresh_all(store._engine.index.lister)


def test_a_list_inside_an_update_refreshes_nothing(store: Store, root: Path) -> None:
    """It would read the shard that it is inside of, and everybody's, under their locks."""
    for n in range(lister._REREADS * 2):
        store.create(f"k{n}", {"n": 0})
        if n == 0:
            store.list()
    before = marks(root)
    store.update("k0", lambda draft: draft.update(n=len(store.list())))
    assert store["k0"]["n"] == lister._REREADS * 2
    assert marks(root) == before


def test_a_store_that_is_only_read_refreshes_nothing(store: Store, root: Path) -> None:
    for n in range(lister._REREADS * 2):
        store.create(f"k{n}", {"n": 0})
        if n == 0:
            store.list()
    before = change_file(root).read_bytes()
    with Store(root, read_only=True) as reader:
        for _ in range(3):
            assert len(reader.list()) == lister._REREADS * 2
    assert change_file(root).read_bytes() == before


def test_a_list_waits_for_who_publishes(pair: tuple[Actor, Actor]) -> None:
    """Between a publication and its seal a list waits for the index lock; it makes nothing anew."""
    writer, one = pair
    writer.write("k1", n=-1)
    before = change_file(writer.root).name
    asked: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        real = refresh.stamp

        def slowly(path: str) -> str:
            thread = threading.Thread(target=lambda: asked.append(writer.list(refresh=False)))
            thread.start()
            time.sleep(0.05)
            threads.append(thread)
            return real(path)

        threads: list[threading.Thread] = []
        patch.setattr(refresh, "stamp", slowly)
        patch.setattr(lister, "_REREADS", 1)
        patch.setattr(lister, "_WAIT_S", 30.0)
        patch.setattr(lister, "scan", mock.Mock(side_effect=AssertionError("every shard is read")))
        assert one.list() == truth(writer.root)
    threads[0].join()
    assert asked == [truth(writer.root)]
    assert change_file(writer.root).name == before
