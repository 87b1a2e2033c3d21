"""What one process has open of a store: shared by its Store objects, and given back with the last of them."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from tests.scenarios import dropped
from tests.support import actions
from tests.support.peer import REPOSITORY, environment

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")


@linux_only
def test_a_dropped_store_gives_everything_back(root: Path) -> None:
    """Nobody calls close(): the descriptors and connections go with the object."""
    dropped.a_dropped_store_gives_everything_back(root)


@linux_only
def test_the_last_store_object_of_a_root_gives_back(root: Path) -> None:
    """Closed and dropped ones mixed."""
    dropped.the_last_store_object_of_a_root_gives_back(root)


def in_a_cycle(store: Store) -> None:
    """Create a store that only the garbage collector finds."""
    store.me = store  # type: ignore[attr-defined]


@linux_only
def test_a_store_in_a_cycle_gives_back_when_it_is_collected(root: Path) -> None:
    """An object that refers to itself goes with the next collection."""
    store = Store(root)
    store.patch("k", {"n": 1})
    store.list()
    in_a_cycle(store)
    del store
    gc.collect()
    assert dropped.open_below(root) == []


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Have the garbage collector run at almost every allocation."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def test_stores_collected_in_the_middle_of_anything_stop_nobody(root: Path, eager_collector: None) -> None:
    """Collected inside opening, writing, listing and closing, of the same root too: no deadlock, no lost update."""

    def work(me: int) -> int:
        done = 0
        for number in range(12):
            for place in (root, root.with_name(f"{root.name}{(me + number) % 3}")):
                store = Store(place, durability="relaxed")
                store.update("k", actions.add_one)
                assert "k" in {info.key for info in store.list()}
                in_a_cycle(store)
                del store
                done += place == root
        return done

    waits = [actions.in_background(work, me) for me in range(3)]
    done = sum(wait(60.0) for wait in waits)
    with Store(root) as store:
        assert store["k"]["n"] == done


def test_iterating_a_store_that_nobody_else_holds(root: Path) -> None:
    """The iterator keeps the store until it is done."""
    with Store(root, durability="relaxed") as store:
        for number in range(30):
            store.patch(f"k{number:02}", {})
    assert list(iter(Store(root))) == [f"k{number:02}" for number in range(30)]


def test_a_verb_of_a_store_that_nobody_else_holds(root: Path) -> None:
    """A call keeps the store until it returns, also where the collector runs inside it."""

    def collect(draft: Any) -> None:
        gc.collect()
        draft["n"] = 1

    assert Store(root).update("k", collect).rev == 1
    with Store(root).edit("k") as draft:
        gc.collect()
        draft["n"] = 2
    assert Store(root)["k"].data == {"n": 2}


SCRIPTS = {
    "open at the end": "kept = Store(root); kept.patch('k', {}); kept.list()",
    "in a cycle at the end": "s = Store(root); s.patch('k', {}); s.list(); s.me = s; del s",
    "held by a module": "import json; json.kept = Store(root); json.kept.patch('k', {}); json.kept.list()",
    "held by a finalizer": "import atexit; s = Store(root); s.list(); atexit.register(s.patch, 'k', {})",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_end_of_the_interpreter(root: Path, name: str) -> None:
    """A process that ends with open stores ends well, without a word."""
    script = f"import sys; from shardstore import Store; root = sys.argv[1]\n{SCRIPTS[name]}\n"
    done = subprocess.run(
        [sys.executable, "-c", script, str(root)],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Store(root) as store:
        assert ("k" in store) is True


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@linux_only
@pytest.mark.parametrize("where", ["Pool", "Index", "check_owner", "read_settings"])
def test_an_interrupted_constructor_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, where: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Whatever step of the constructor fails: nothing stays open, and the next Store is made as ever."""
    Store(root).close()
    with monkeypatch.context() as patch:
        patch.setattr(f"shardstore._files.engine.{where}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Store(root)
    gc.collect()
    assert dropped.open_below(root) == []
    assert not recwarn.list
    with Store(root) as store:
        assert store.patch("k", {}).rev == 1


@linux_only
def test_a_forked_child_drops_its_store(root: Path) -> None:
    """The child gives back what it opened itself, and the parent's store goes on."""
    held = [Store(root)]
    held[0].patch("k", {"n": 1})

    def child() -> None:
        held[0].patch("k", {"child": 1})
        held.clear()
        gc.collect()
        assert dropped.open_below(root) == []

    assert actions.wait_for(actions.in_child(child)) == 0
    assert held[0].patch("k", {"n": 2}).data == {"n": 2, "child": 1}
    held[0].close()


def test_threads_that_list_first_share_what_they_open(root: Path) -> None:
    """However many threads make the first list of a store at once: one of them makes what answers, the others take it."""
    with Store(root) as store:
        store.patch("k", {})
        index = store._engine.index
        for _ in range(20):
            index._lister = None
            gate = threading.Barrier(4)

            def first(gate: threading.Barrier = gate) -> object:
                gate.wait(10)
                return index.lister

            assert len({id(wait()) for wait in [actions.in_background(first) for _ in range(4)]}) == 1
