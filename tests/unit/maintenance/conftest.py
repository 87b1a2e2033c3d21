"""A store and its file engine."""

from __future__ import annotations

import pytest

from shardstore import Store
from shardstore._files.engine import FileEngine


@pytest.fixture
def engine(store: Store) -> FileEngine:
    """Return the engine of the store."""
    assert isinstance(store.engine, FileEngine)
    return store.engine
