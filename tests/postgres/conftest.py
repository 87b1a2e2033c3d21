"""A store in a schema of the test's own, on the server of the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.backend import PostgresBackend
from tests.support.postgres import server_or_skip


@pytest.fixture
def database(request: pytest.FixtureRequest, root: Path) -> Iterator[PostgresBackend]:
    """Yield a place for a store, which is checked when the test ends, unless it damages the store."""
    made = PostgresBackend(root, server_or_skip())
    try:
        yield made
        if request.node.get_closest_marker("damages") is None:
            made.check()
    finally:
        made.drop()
