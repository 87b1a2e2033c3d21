"""Fixtures of the index's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardstore._files.index.rent import Rent
from tests.index.actors import Actor, close_all


@pytest.fixture
def actor(root: Path) -> Callable[..., Actor]:
    """Give a function that makes another process, as it were, on the same store."""
    return lambda index_fields=None: Actor(root, index_fields)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close what the test opened, also when it failed: an unclosed connection warns in whichever test runs later."""
    yield
    close_all()


@pytest.fixture(autouse=True)
def eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every list refresh what changed: the protocol is what is tested here, not when it is worth its price."""
    if "lazy" not in request.keywords:
        monkeypatch.setattr(Rent, "is_due", lambda self, changed: changed > 0)
