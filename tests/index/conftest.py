"""Fixtures of the index's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardstore import Store
from shardstore._files.index import lister
from tests.index.actors import Actor, close_all


@pytest.fixture
def actor(root: Path) -> Callable[..., Actor]:
    """Return a function that makes another process, as it were, on the same store."""

    def make(indexed: tuple[str, ...] = ()) -> Actor:
        return Actor(root, indexed)

    return make


@pytest.fixture(autouse=True)
def actors_closed(root: Path) -> Iterator[None]:
    """Close the actors of a test at its end, before its store is checked."""
    yield
    close_all()


@pytest.fixture(autouse=True)
def eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every list refresh what changed: the protocol is what is tested here, not when it is worth its price."""
    if "lazy" not in request.keywords:
        monkeypatch.setattr(lister, "_REREADS", 1)


@pytest.fixture
def pair(actor: Callable[[], Actor]) -> tuple[Actor, Actor]:
    """Return a writer and a lister with some sessions and an index."""
    writer, lister = actor(), actor()
    for n in range(12):
        writer.write(f"k{n}", n=n)
    assert len(lister.list()) == 12
    return writer, lister


@pytest.fixture
def filled(store: Store) -> Store:
    """Return a store with an index and a change that the next list refreshes."""
    for n in range(5):
        store.create(f"k{n}", {"n": n})
    assert len(store.list()) == 5
    store.patch("k0", {"n": 10})
    return store
