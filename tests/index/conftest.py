"""Fixtures of the index's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.index.actors import Actor


@pytest.fixture
def actor(root: Path) -> Iterator[Callable[[], Actor]]:
    """Give a function that makes another process, as it were, on the same store."""
    made: list[Actor] = []

    def make(index_fields: tuple[str, ...] | None = None) -> Actor:
        made.append(Actor(root, index_fields))
        return made[-1]

    yield make
    for one in made:
        one.close()
