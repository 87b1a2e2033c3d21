"""Calls that come in the middle of other calls: from signal handlers, finalizers and weakref callbacks."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import NestedUpdate, Store, StoreBusy
from tests.scenarios import people
from tests.scenarios.people import KEY, OTHER


def test_signal_handlers(root: Path) -> None:
    """Six calls in the middle of four others: an answer, or a typed error at once."""
    people.a_signal_handler_gets_an_answer_or_a_typed_error(root)


def test_the_session_beneath(root: Path) -> None:
    """NestedUpdate at once."""
    people.a_handler_inside_an_update_of_the_same_session_is_refused(root)


CALLS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get(KEY),
    "patch": lambda store: store.patch(KEY, {"n": 1}),
    "patch another": lambda store: store.patch(OTHER, {"n": 1}),
    "create": lambda store: store.get_or_create("new", {"n": 1}),
    "list": lambda store: store.list(),
    "count": lambda store: store.count(),
    "compact": lambda store: store.compact(),
    "verify": lambda store: store.verify(),
    "delete": lambda store: store.delete("new"),
}


class Finalized:
    """Calls the store when it is collected."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.me = self  # a cycle: collected by the garbage collector, in the middle of anything

    def __del__(self) -> None:
        self.call()


@pytest.mark.parametrize("how", ["finalizer", "weakref"])
@pytest.mark.parametrize("name", CALLS)
def test_collected_in_the_middle_of_anything(root: Path, name: str, how: str) -> None:
    """The collector runs at nearly every allocation: each call answers or raises what it says, and none waits."""
    outcomes: list[str] = []
    with Store(root, lock_timeout=3.0) as store:
        for key in (KEY, OTHER):
            store.patch(key, {"n": 0})
        store.list(), store.verify(), store.compact()

        def call(*_: object) -> None:
            try:
                CALLS[name](store)
                outcomes.append("answered")
            except (NestedUpdate, StoreBusy) as error:
                outcomes.append(type(error).__name__)
            except BaseException as error:
                outcomes.append(f"failed: {error!r}")

        references = []

        def plant() -> None:
            if how == "finalizer":
                Finalized(call)
            else:
                victim = Finalized(lambda: None)
                references.append(weakref.ref(victim, call))

        before = gc.get_threshold()
        gc.set_threshold(7)
        try:
            for number in range(25):
                plant()
                store.patch(KEY, {"m": number})
                plant()
                store.list()
        finally:
            gc.set_threshold(*before)
        gc.collect()
        assert outcomes
        assert not [one for one in outcomes if one.startswith("failed")], outcomes
        with contextlib.suppress(Exception):
            store.delete("new")


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals need the main thread")
def test_a_handler_in_an_edit_and_in_a_mutator(root: Path) -> None:
    """Reads answer with what is committed; other sessions can be written; lists answer."""
    seen: list[object] = []
    with Store(root, lock_timeout=3.0) as store:
        store.patch(KEY, {"n": 0})
        store.patch(OTHER, {"n": 0})

        def handler(*_: object) -> None:
            seen.append(store[KEY]["n"])
            seen.append(store.patch(OTHER, {"n": 1})["n"])
            seen.append(len(store.list()))
            with pytest.raises(NestedUpdate):
                store.delete(KEY)

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            with store.edit(KEY) as draft:
                draft["n"] = 5
                signal.raise_signal(signal.SIGUSR1)
            store.update(KEY, lambda draft: signal.raise_signal(signal.SIGUSR1))
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == [0, 1, 2, 5, 1, 2]
