"""A mutator is a plain function: one that would await is refused, so that no lock is ever held across an await."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from shardstore import Draft, Store
from tests.contract.backend import Backend


async def _coroutine(draft: Draft) -> None:
    draft["a"] = 2


async def _async_generator(draft: Draft) -> AsyncIterator[int]:
    draft["a"] = 2
    yield 1


def _generator(draft: Draft) -> Iterator[int]:
    draft["a"] = 2
    yield 1


class _AsyncCallable:
    async def __call__(self, draft: Draft) -> None:
        draft["a"] = 2

    async def method(self, draft: Draft) -> None:
        draft["a"] = 2


class _Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


def _returns_coroutine(draft: Draft) -> Any:
    draft["a"] = 2
    return _coroutine(draft)


def _returns_awaitable(draft: Draft) -> Any:
    draft["a"] = 2
    return _Awaitable()


MUTATORS = {
    "coroutine function": _coroutine,
    "partial of one": functools.partial(_coroutine),
    "method": _AsyncCallable().method,
    "callable object": _AsyncCallable(),
    "async generator function": _async_generator,
    "generator function": _generator,
    "lambda that returns a coroutine": lambda draft: _coroutine(draft),
    "function that returns a coroutine": _returns_coroutine,
    "function that returns an awaitable": _returns_awaitable,
}


@pytest.mark.parametrize("name", MUTATORS)
def test_a_mutator_that_would_await_is_a_type_error(store: Store, backend: Backend, name: str) -> None:
    """Whatever shape it has, it is refused with TypeError, writes nothing, and leaves no coroutine un-awaited."""
    store.create("k", {"a": 1})
    before = backend.written()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError):
            store.update("k", MUTATORS[name])  # type: ignore[arg-type]
    assert backend.written() == before
    assert store.patch("k", {"a": 3}).rev == 2


def test_a_coroutine_function_for_get_or_create(store: Store) -> None:
    """get_or_create takes no coroutine function either."""

    async def make() -> dict[str, int]:
        return {"a": 1}

    with pytest.raises(TypeError):
        store.get_or_create("k", make)  # type: ignore[arg-type]
    assert "k" not in store


@pytest.mark.parametrize("mutator", [None, 5, "text", {"a": 2}], ids=repr)
def test_what_cannot_be_called_is_a_type_error(store: Store, backend: Backend, mutator: Any) -> None:
    """An entry where a mutator belongs is refused: update never takes an entry without its lock."""
    store.create("k", {"a": 1})
    before = backend.written()
    with pytest.raises(TypeError):
        store.update("k", mutator)
    assert backend.written() == before


def test_no_public_verb_is_a_coroutine() -> None:
    """The store is synchronous throughout: there is no await inside which a lock could be held."""
    for name, verb in inspect.getmembers(Store, callable):
        assert not inspect.iscoroutinefunction(verb), name
