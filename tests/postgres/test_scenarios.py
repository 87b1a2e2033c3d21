"""What the mutations of the engine break holds as long as nothing is taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios import postgres as scenarios
from tests.support.postgres import server_or_skip


@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.processes_lose_no_update,
        scenarios.no_isolation_level_of_the_server_matters,
        scenarios.a_waiter_sees_what_it_waited_for,
        scenarios.absent_sessions_are_made_once,
        scenarios.the_tables_are_made_once,
        scenarios.an_exception_as_a_block_begins_unlocks,
        scenarios.a_stopped_holder_is_let_go_and_refused,
        scenarios.a_commit_waits_for_the_disk_as_asked,
        scenarios.a_history_that_became_shorter_is_no_damage,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_a_protection_holds(root: Path, scenario: object) -> None:
    """The scenario holds."""
    server_or_skip()
    scenario(root)  # type: ignore[operator]
