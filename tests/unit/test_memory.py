"""The memory engine: what the contract suite cannot see from outside, because other engines have none of it."""

from __future__ import annotations

import gc
import os
import weakref

import pytest

from shardstore import LockTimeout, Store, StoreClosed
from shardstore._memory import MemoryEngine
from tests.support.actions import in_background, in_child, wait_for


def test_nothing_is_on_the_disk() -> None:
    with Store.memory() as store:
        store.create("k", {"n": 1})
        assert (store.root, store.location, store.engine.root, store.engine.place("k")) == (None, "memory:", None, None)
        assert repr(store) == "Store('memory:')"


def test_two_stores_share_nothing_and_a_view_shares_everything() -> None:
    with Store.memory() as one, Store.memory() as other:
        one.create("k", {"n": 1})
        assert "k" not in other
        with one.using(actor="second") as view:
            assert view.patch("k", {"n": 2}).actor == "second"
        assert one["k"]["n"] == 2


def test_what_nobody_refers_to_is_gone() -> None:
    store = Store.memory()
    store.create("k", {"n": 1})
    engine = weakref.ref(store.engine)
    store.close()
    del store
    gc.collect()
    assert engine() is None


def test_compact_forgets_the_deleted_and_passes_over_the_busy() -> None:
    with Store.memory(lock_timeout=0.05) as store:
        for key in ("a", "b", "c"):
            store.create(key, {"n": 1})
        store.delete("a")
        store.delete("b")
        engine = store.engine
        assert isinstance(engine, MemoryEngine)
        assert store.stats().tombstones == 2
        with store.edit("b"):
            assert in_background(store.compact)().ok
            assert store.stats().tombstones == 1
            with pytest.raises(LockTimeout):
                in_background(store.patch, "b", {"n": 1})()
        store.compact()
        assert sorted(engine.sessions) == ["b", "c"], "editing b made it again"


def test_the_holders_are_those_inside() -> None:
    with Store.memory() as store:
        assert store.engine.holders() == []
        with store.edit("k"):
            (one,) = store.engine.holders()
            assert (one.key, one.pid) == ("k", os.getpid())
        assert store.engine.holders() == []


def test_a_forked_child_has_a_copy_of_its_own_and_no_lock_of_its_parent() -> None:
    with Store.memory() as store:
        store.create("k", {"n": 1})
        with store.edit("other"):

            def child() -> None:
                assert store.patch("k", {"n": 2}).rev == 2
                assert store.patch("other", {"n": 2}).actor == str(os.getpid())

            assert wait_for(in_child(child)) == 0
        assert store["k"]["n"] == 1


def test_a_child_forked_inside_commits_nothing() -> None:
    with Store.memory() as store:

        def fork(draft: object) -> None:
            pid = os.fork()
            if pid:
                assert wait_for(pid) == 3

        mine = os.getpid()
        status = 1
        try:
            store.update("k", fork)
        except StoreClosed:
            status = 3
        finally:
            if os.getpid() != mine:
                os._exit(status)
        assert store["k"].rev == 1
