"""What survived an earlier round of mutations, each now with a scenario of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios import maintenance

SCENARIOS = [
    maintenance.compact_spares_what_changed_since_it_was_chosen,
    maintenance.list_knows_an_archived_session_whose_archiver_died,
    maintenance.an_aborted_creation_removes_its_own_file_alone,
    maintenance.a_backup_by_hard_link_is_never_written_through,
    maintenance.a_lock_that_cannot_be_given_back_is_closed,
    maintenance.a_torn_tail_behind_new_records_is_kept,
    maintenance.appends_that_reached_the_disk_out_of_order_are_a_tear,
    maintenance.a_first_commit_cut_at_a_sector_is_a_tear,
    maintenance.restore_waits_for_whoever_has_the_archived_file,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_maintenance(root: Path, scenario) -> None:
    """The scenario's own words say what holds."""
    scenario(root)
