"""When a list refreshes: not before the lists since the last refresh have read about as much as one costs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from shardstore._files.index import lister, refresh
from shardstore._files.index.upkeep import refresh_all
from tests.index.actors import Actor, change_file, is_current, truth
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
        assert one.list() == truth(writer.root)
    threads[0].join()
    assert asked == [truth(writer.root)]
    assert change_file(writer.root).name == before
