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


# They patch or call what the transaction has replaced; the whole index is replaced next, and they with it.
REPLACED = {
    "test_the_quick_reading_of_any_journal",
    "test_the_quick_reading_is_the_careful_one",
    "test_times_and_sizes_bound_a_list",
    "test_every_way_gives_the_right_answer",
    "test_without_the_rule_it_does_not[rebuilt without the shards' locks]",
    "test_without_the_rule_it_does_not[noted shard read without its lock]",
    "test_without_the_rule_it_does_not[noted open shard read without its lock]",
    "test_without_the_rule_it_does_not[note after the commit]",
    "test_without_the_rule_it_does_not[no second look at the generation]",
    "test_without_the_rule_it_does_not[busy shard not carried over]",
    "test_the_protocol_holds[killed_after_the_commit]",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is replaced with the index."""
    for item in items:
        if "tests/index" in item.nodeid and item.name in REPLACED:
            item.add_marker(pytest.mark.skip(reason="replaced with the index"))
