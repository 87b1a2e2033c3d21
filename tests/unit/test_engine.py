"""Which engine a root means, and which Store objects share one."""

from __future__ import annotations

import os
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store, StoreNotFound
from shardstore._files import engine as engine_module
from shardstore._files.engine import FileEngine, _engines
from shardstore._memory import MemoryEngine
from shardstore.engine import Engine, open_engine


def opened(root: Any) -> Engine:
    return open_engine(root, create=True, read_only=False, allow_shared=False, indexed=None)


@pytest.mark.parametrize(
    ("root", "error"),
    [
        ("", ValueError),
        (b"bytes", TypeError),
        ("mysql://host/db", ValueError),
        ("file:///tmp/x", ValueError),
        (3, TypeError),
    ],
)
def test_what_names_no_store_is_refused(root: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        opened(root)


def test_a_colon_alone_makes_no_url(root: Path) -> None:
    odd = root.parent / "c:" / "a:b"
    engine = opened(odd)
    assert engine.root == odd
    engine.leave()


def test_every_way_to_a_directory_is_one_engine(root: Path) -> None:
    """A link, a relative path and a PathLike lead to the same mutexes."""
    alias = root.parent / "alias"
    with Store(root) as store:
        alias.symlink_to(root)
        for way in (alias, os.path.relpath(root), str(root), root):
            with Store(way) as other:
                assert other.engine is store.engine
        alias.unlink()


def test_the_last_one_out_closes(root: Path) -> None:
    one = opened(root)
    two = opened(root)
    assert one is two
    one.leave()
    assert one in _engines.values()
    two.leave()
    assert one not in _engines.values()
    again = opened(root)
    assert again is not one
    again.leave()


def test_a_store_that_was_replaced_is_another_one(root: Path) -> None:
    """The directory was moved away and a new one has its name."""
    with Store(root) as old:
        old.create("k", {"n": 1})
        root.rename(root.with_name("moved"))
        with Store(root) as new:
            assert new.engine is not old.engine
            assert "k" not in new


def test_a_store_that_is_gone_is_not_absent_sessions(root: Path) -> None:
    with Store(root) as store:
        store.create("k", {"n": 1})
        root.rename(root.with_name("moved"))
        with pytest.raises(StoreNotFound):
            store.get("k")
        root.with_name("moved").rename(root)


@pytest.mark.parametrize("memory", [False, True])
def test_both_engines_have_every_member_of_the_protocol(root: Path, memory: bool) -> None:
    engine = MemoryEngine() if memory else opened(root)
    members = {name for name in vars(Engine) if not name.startswith("_")} | set(Engine.__annotations__)
    assert {name for name in members if not hasattr(engine, name)} == set()
    if not memory:
        engine.leave()


class Interrupted(weakref.WeakValueDictionary[tuple[int, int], FileEngine]):
    """A registry in which a handler comes in once, right behind a look into it."""

    handler: Callable[[], None] | None = None

    def get(self, key: tuple[int, int], default: Any = None) -> Any:
        """Return what is there, as it was before the handler ran."""
        found = super().get(key, default)
        handler, self.handler = self.handler, None
        if handler is not None:
            handler()
        return found


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    """Return a registry that can be interrupted."""
    made = Interrupted()
    monkeypatch.setattr(engine_module, "_engines", made)
    return made


def test_a_handler_may_be_the_last_one_out_while_another_leaves(root: Path, registry: Interrupted) -> None:
    store = Store(root)
    registry.handler = lambda: Store(root).close()
    store.close()
    assert not registry


def test_a_handler_may_close_the_only_store_while_another_is_opened(root: Path, registry: Interrupted) -> None:
    """Who opens gets an engine that the next one finds, too."""
    first = Store(root)
    registry.handler = first.close
    with Store(root) as store, Store(root) as other:
        assert store.engine is other.engine
        assert store.update("k", lambda draft: draft.update(n=1)).rev == 1


def test_a_signal_handler_may_open_a_store_while_one_is_opened(root: Path) -> None:
    """It comes in anywhere: opening and leaving wait for nothing that the code beneath holds."""
    others: list[int] = []
    inside: list[bool] = []

    def handle(*_: object) -> None:
        if inside:
            return  # the timer is quicker than the handler
        inside.append(True)
        with Store(root) as store:
            others.append(id(store.engine))
        inside.clear()

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        for _ in range(200):
            Store(root).close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert others
