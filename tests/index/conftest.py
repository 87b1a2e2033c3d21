"""Fixtures of the index's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardstore._files.index import lister
from tests.index.actors import Actor


@pytest.fixture
def actor(root: Path) -> Iterator[Callable[[], Actor]]:
    """Give a function that makes another process, as it were, on the same store."""
    made: list[Actor] = []

    def make(indexed: tuple[str, ...] = ()) -> Actor:
        made.append(Actor(root, indexed))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every list refresh what changed: the protocol is what is tested here, not when it is worth its price."""
    if "lazy" not in request.keywords:
        monkeypatch.setattr(lister, "_REREADS", 1)
