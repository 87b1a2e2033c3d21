"""A nested update of the same session raises at once, whatever way led there; it never waits for itself."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shardstore import Draft, NestedUpdate, Store
from tests.contract.backend import Backend
from tests.support.actions import in_background

AT_ONCE = (
    5.0  # seconds: enough for a busy machine, and far below the lock timeout of 10 that waiting for oneself would take
)

WRITERS: dict[str, Callable[[Store], object]] = {
    "update": lambda store: store.update("k", lambda draft: None),
    "patch": lambda store: store.patch("k", {"x": 1}),
    "edit": lambda store: store.edit("k").__enter__(),
    "create": lambda store: store.create("k", {}),
    "get_or_create": lambda store: store.get_or_create("new", dict),
    "replace": lambda store: store.replace("k", {}),
    "delete": lambda store: store.delete("k"),
}


def _raises_at_once(writer: Callable[[], object]) -> None:
    begun = time.monotonic()
    with pytest.raises(NestedUpdate) as caught:
        writer()
    assert time.monotonic() - begun < AT_ONCE
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.key in {"k", "new"}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_refuses_inside_a_mutator(store: Store, name: str) -> None:
    """Any writing verb on the session under update raises NestedUpdate; the outer update goes on and commits."""
    key = "new" if name == "get_or_create" else "k"
    if key == "k":
        store.create("k", {"n": 0})

    def outer(draft: Draft) -> None:
        _raises_at_once(lambda: WRITERS[name](store))
        draft["n"] = 1

    assert store.update(key, outer).rev == (1 if key == "new" else 2)
    assert store[key].data == {"n": 1}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_refuses_inside_an_edit(store: Store, name: str) -> None:
    """The with form guards as the function form does."""
    key = "new" if name == "get_or_create" else "k"
    if key == "k":
        store.create("k", {"n": 0})
    with store.edit(key) as draft:
        _raises_at_once(lambda: WRITERS[name](store))
        draft["n"] = 1
    assert store[key].data == {"n": 1}


def test_the_function_of_get_or_create_is_a_mutator_too(store: Store) -> None:
    """What get_or_create calls to make the entry may not update the session it makes."""

    def make() -> dict[str, int]:
        _raises_at_once(lambda: store.patch("k", {"a": 1}))
        return {"a": 2}

    assert store.get_or_create("k", make).data == {"a": 2}


def test_readers_work_inside_a_mutator(store: Store) -> None:
    """get, in, history, len, iter and list wait for no lock: inside a mutator they give the state before it."""
    store.create("k", {"n": 1})

    def look(draft: Draft) -> None:
        draft["n"] = 2
        begun = time.monotonic()
        assert store["k"]["n"] == 1
        assert "k" in store
        assert len(store.history("k")) == 1
        assert list(store) == ["k"]
        assert len(store) == 1
        assert [info.key for info in store.list()] == ["k"]
        assert time.monotonic() - begun < AT_ONCE

    assert store.update("k", look)["n"] == 2


def test_two_store_objects_of_one_store(store: Store, store_factory) -> None:
    """The guard knows the session, not the Store object: another object on the same store is no way round it."""
    other = store_factory()
    store.create("k", {"n": 0})
    store.update("k", lambda draft: _raises_at_once(lambda: other.patch("k", {"n": 1})))
    with store.edit("k"):
        _raises_at_once(lambda: other.patch("k", {"n": 1}))


def test_nesting_is_seen_through_another_session(store: Store) -> None:
    """k, then another, then k again is as hopeless as k inside k."""
    store.create("k", {})

    def inner(draft: Draft) -> None:
        _raises_at_once(lambda: store.patch("k", {"n": 1}))
        draft["done"] = True

    store.update("k", lambda draft: store.update("other", inner) and None)
    assert store["other"].data == {"done": True}


def test_nesting_is_seen_in_a_thread_of_the_same_call_chain(store: Store) -> None:
    """asyncio.to_thread and copied contexts carry the call chain into another thread; the guard follows."""
    store.create("k", {})

    def outer(draft: Draft) -> None:
        context = contextvars.copy_context()
        wait = in_background(lambda: context.run(_raises_at_once, lambda: store.patch("k", {"n": 1})))
        wait(AT_ONCE * 5)

    store.update("k", outer)

    async def chain() -> None:
        with store.edit("k"):
            await asyncio.to_thread(_raises_at_once, lambda: store.patch("k", {"n": 1}))

    asyncio.run(chain())


def test_nesting_is_seen_by_another_task_of_the_same_thread(store: Store) -> None:
    """A task that updates a session while another task of its thread is inside an edit would block the event loop."""
    store.create("k", {})

    async def main() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def holder() -> None:
            with store.edit("k") as draft:
                entered.set()
                await leave.wait()
                draft["held"] = True

        async def other() -> None:
            await entered.wait()
            try:
                _raises_at_once(lambda: store.patch("k", {"n": 1}))
            finally:
                leave.set()

        await asyncio.gather(other(), holder())

    asyncio.run(main())
    assert store["k"].data == {"held": True}


def test_another_thread_is_not_nested(store: Store) -> None:
    """A thread with a call chain of its own waits for the lock as any other writer; it is not refused."""
    store.create("k", {})
    inside, done = threading.Event(), threading.Event()

    def outer(draft: Draft) -> None:
        inside.set()
        done.wait(0.2)
        draft["outer"] = True

    wait = in_background(lambda: store.update("k", outer))
    assert inside.wait(10)
    assert store.patch("k", {"second": True}).data == {"outer": True, "second": True}
    done.set()
    wait()


def test_a_context_that_outlives_the_update_is_free_again(store: Store) -> None:
    """A task or thread that was started inside a mutator and works on after it is not refused for ever."""
    store.create("k", {})
    contexts: list[contextvars.Context] = []
    store.update("k", lambda draft: contexts.append(contextvars.copy_context()))
    assert contexts[0].run(lambda: store.patch("k", {"n": 1})).data == {"n": 1}
    assert in_background(lambda: contexts[0].run(lambda: store.patch("k", {"n": 2})))().data == {"n": 2}


def test_the_guard_is_gone_after_a_failed_mutator(store: Store) -> None:
    """A mutator that raised leaves nothing behind that would refuse the next update."""
    for error in (ValueError, KeyboardInterrupt):

        def fail(draft: Draft, error: type[BaseException] = error) -> None:
            raise error

        with pytest.raises(error):
            store.update("k", fail)
        with pytest.raises(error), store.edit("k"):
            raise error
        assert store.patch("k", {"n": 1})["n"] == 1
        store.delete("k")


def test_an_edit_never_entered_or_closed_holds_nothing(store: Store, store_factory) -> None:
    """An edit object that nobody enters takes no lock."""
    context: Any = store.edit("k")
    assert store_factory(lock_timeout=5.0).patch("k", {"n": 1}).rev == 1
    del context


def test_an_edit_left_in_another_task_or_thread(store: Store, backend: Backend) -> None:
    """An edit may be entered in one thread and left in another (as frameworks do with generators)."""
    store.create("k", {"n": 0})
    context: Any = store.edit("k")
    draft = in_background(context.__enter__)()
    draft["n"] = 1
    context.__exit__(None, None, None)
    assert store["k"].data == {"n": 1}
    assert store.patch("k", {"n": 2}).rev == 3
