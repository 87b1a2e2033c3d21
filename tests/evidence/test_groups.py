"""Commits of one session that share a sync: nothing is acknowledged early, and nobody waits for a stranger's mutator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios import groups

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the judge finds a descriptor's file in /proc")


@pytest.mark.parametrize(
    "scenario",
    [
        groups.commits_that_wait_share_a_sync,
        groups.each_is_acknowledged_after_its_sync,
        groups.a_record_written_during_a_sync_waits_for_the_next,
        groups.a_slow_mutator_delays_nobody_before_it,
        groups.an_exception_touches_its_own_call_alone,
        groups.a_failed_sync_fails_all_that_share_it,
        groups.only_the_first_of_a_group_follows_synced_bytes,
    ],
)
def test_commits_that_share_a_sync(root: Path, scenario: Callable[[Path], None]) -> None:
    """Each scenario says in its first line what must hold."""
    scenario(root)
