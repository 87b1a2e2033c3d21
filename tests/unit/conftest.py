"""What several tests of sessions in files begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import Store
from shardstore._files.layout import Layout
from shardstore._files.pool import Pool
from tests.unit.stories import Story, tell_story


@pytest.fixture
def pool(root: Path) -> Iterator[Pool]:
    """Yield the shards of a store, and no index."""
    Store(root).close()
    made = Pool(Layout(root))
    yield made
    made.close()


@pytest.fixture
def story(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Return the story of the test."""
    return tell_story(pool, monkeypatch)
