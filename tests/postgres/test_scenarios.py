"""What the mutations of the engine break holds as long as nothing is taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios import postgres, postgres_faults
from tests.support.postgres import server_or_skip


@pytest.mark.parametrize(
    "scenario",
    [
        postgres.processes_lose_no_update,
        postgres.no_isolation_level_of_the_server_matters,
        postgres.a_waiter_sees_what_it_waited_for,
        postgres.absent_sessions_are_made_once,
        postgres.the_tables_are_made_once,
        postgres.an_exception_as_a_block_begins_unlocks,
        postgres.a_stopped_holder_is_let_go_and_refused,
        postgres.a_commit_waits_for_the_disk_as_asked,
        postgres.a_history_that_became_shorter_is_no_damage,
        postgres_faults.a_lost_answer_to_commit_is_uncertain,
        postgres_faults.a_connection_that_ends_inside_a_mutator_changes_nothing,
        postgres_faults.idle_connections_that_the_server_ended_are_not_noticed,
        postgres_faults.a_connection_that_breaks_at_the_lock_is_not_noticed,
        postgres_faults.a_commit_that_a_standby_may_lack_is_uncertain,
        postgres_faults.a_durable_batch_is_on_disk,
        postgres_faults.a_forked_child_has_connections_of_its_own,
        postgres_faults.a_child_does_not_keep_the_lock_of_its_dead_parent,
        postgres_faults.other_tables_are_refused,
        postgres_faults.a_changed_byte_is_damage,
        postgres_faults.a_changed_value_is_damage,
        postgres_faults.a_line_between_others_that_is_gone_is_damage,
        postgres_faults.a_last_line_that_is_gone_is_damage,
        postgres_faults.a_row_that_is_gone_is_damage,
        postgres_faults.a_changed_item_costs_that_item,
        postgres_faults.a_damaged_archived_copy_stays_where_it_is,
        postgres_faults.a_row_that_a_trigger_keeps_as_it_was_changes_nothing,
        postgres_faults.another_history_of_the_same_length_is_read_anew,
        postgres_faults.a_late_commit_is_news,
        postgres_faults.a_token_from_before_what_is_forgotten_is_refused,
        postgres_faults.a_token_of_now_is_not_too_old,
        postgres_faults.who_knows_old_settings_writes_what_lists_find,
        postgres_faults.who_waited_through_a_reindex_writes_what_lists_find,
        postgres_faults.who_makes_a_deleted_session_through_a_reindex_writes_what_lists_find,
        postgres_faults.the_settings_of_the_lock_hold_until_the_commit,
        postgres_faults.a_list_is_of_one_state_of_the_settings,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_a_protection_holds(root: Path, scenario: object) -> None:
    """The scenario holds."""
    server_or_skip()
    scenario(root)  # type: ignore[operator]
