"""Mutations of the engine in a database."""

from __future__ import annotations

from typing import Any

from tests.mutations.catalogue import crc_unchecked, edit, mutation, nothing, swap

_INSIDE = "shardstore._postgres.inside:Inside"
_TRANSACTION = "shardstore._postgres.transaction:PostgresTransaction"


def _statements(change: Any) -> None:
    def changed(original: Any) -> Any:
        def init(self: Any, schema: str) -> None:
            original(self, schema)
            change(self)

        return init

    swap("shardstore._postgres.statements:Statements.__init__", changed)


@mutation("the lock of a session's row", "postgres.processes_lose_no_update")
def row_lock_removed() -> None:
    def unlocked(sql: Any) -> None:
        sql.lock = sql.lock.replace("FOR UPDATE OF s", "")

    _statements(unlocked)


@mutation("reading in a statement behind the lock", "postgres.a_waiter_sees_what_it_waited_for")
def lock_and_read_in_one_statement() -> None:
    def joined(sql: Any) -> None:
        sql.lock = f"""
SELECT s.n, s.version, s.key, l.n, l.line FROM {sql.session} s LEFT JOIN {sql.line} l ON l.id = s.id
WHERE s.id = $1::bytea ORDER BY l.n FOR UPDATE OF s"""

    def seize(original: Any) -> Any:
        from shardstore._postgres.known import NOTHING, follow

        def seizing(self: Any, began: float, deadline: float | None) -> None:
            limits = self._limits(began, deadline)
            rows = self._connection.begin(limits, self.engine.sql.lock, (self.slot.id,), deadline=None).rows
            if rows:
                self.known = follow(rows, NOTHING, self.slot, self.engine.location)
            else:
                original(self, began, deadline)

        return seizing

    _statements(joined)
    swap(f"{_INSIDE}._seize", seize)


@mutation("saying READ COMMITTED", "postgres.no_isolation_level_of_the_server_matters")
def isolation_left_to_the_server() -> None:
    from shardstore._postgres import connection

    connection._BEGIN = b"BEGIN"  # type: ignore[misc]


@mutation("the row that locks an absent session", "postgres.absent_sessions_are_made_once")
def placeholder_made_at_commit() -> None:
    swap(f"{_INSIDE}._place", nothing(True))

    def append(original: Any) -> Any:
        def appending(self: Any, *args: Any, **kwargs: Any) -> Any:
            self.held().run(self.engine.sql.place, (self.slot.id, self.slot.key))
            return original(self, *args, **kwargs)

        return appending

    swap(f"{_TRANSACTION}._append", append)


@mutation("trying again where somebody else makes the tables", "postgres.the_tables_are_made_once")
def table_races_not_expected() -> None:
    from shardstore._postgres import schema

    schema._RACES = frozenset()  # type: ignore[misc]


@mutation("the server's limit on idle holders", "postgres.a_stopped_holder_is_let_go_and_refused")
def holders_never_let_go() -> None:
    edit(f"{_INSIDE}._limits", ("math.ceil(self.engine.hold_timeout * 1000)", "0"))


@mutation("durability decided by the commit", "postgres.a_commit_waits_for_the_disk_as_asked")
def durability_left_to_the_server() -> None:
    def plain(sql: Any) -> None:
        before, _, after = sql.append.partition("RETURNING")
        sql.append = f"{before}RETURNING id, $20::boolean)\nINSERT{after.partition('INSERT')[2]}"

    _statements(plain)


@mutation("reading a session anew whose history became shorter", "postgres.a_history_that_became_shorter_is_no_damage")
def shorter_histories_are_damage() -> None:
    edit("shardstore._postgres.known:follow", ("if known.n and not lines:", "if False:"))


@mutation("undoing what an exception from outside left open", "postgres.an_exception_as_a_block_begins_unlocks")
def interrupted_transactions_stay() -> None:
    swap(f"{_INSIDE}.abandon", nothing())
    swap(f"{_INSIDE}.__del__", nothing())


# Lost connections


@mutation(
    "calling it uncertain where the answer to COMMIT is lost", "postgres_faults.a_lost_answer_to_commit_is_uncertain"
)
def lost_answers_changed_nothing() -> None:
    edit(
        f"{_TRANSACTION}._commit",
        ("raise_uncertain(error, location)", "raise StoreUnavailable(location, str(error)) from error"),
    )


@mutation(
    "looking, before COMMIT is sent, whether the server ended the connection",
    "postgres_faults.a_connection_that_ends_inside_a_mutator_changes_nothing",
)
def ended_connections_not_seen() -> None:
    edit(f"{_TRANSACTION}._finish", ("connection.check()", "pass"))


@mutation("saying that the server let the session go", "postgres.a_stopped_holder_is_let_go_and_refused")
def expired_holders_unnamed() -> None:
    swap(f"{_TRANSACTION}._raise_expired", nothing())


@mutation(
    "looking whether an idle connection still stands",
    "postgres_faults.idle_connections_that_the_server_ended_are_not_noticed",
)
def idle_connections_believed() -> None:
    edit("shardstore._postgres.connections:Connections._idle_one", ("connection.check()", "pass"))


@mutation(
    "trying again where the connection broke at the lock",
    "postgres_faults.a_connection_that_breaks_at_the_lock_is_not_noticed",
)
def outages_end_calls() -> None:
    edit("shardstore._postgres.connections:Outage.wait", ("if (left is not None and left <= 0)", "if True"))


@mutation(
    "heeding the server's warnings as it commits", "postgres_faults.a_commit_that_a_standby_may_lack_is_uncertain"
)
def warnings_unheeded() -> None:
    edit(f"{_TRANSACTION}._commit", ("if connection.warnings:", "if False:"))


@mutation("flushing what a batch committed", "postgres_faults.a_durable_batch_is_on_disk")
def batches_never_flushed() -> None:
    swap("shardstore._postgres.batch:PostgresBatch.sync", nothing())


# Forks


@mutation("connections of a forked child's own", "postgres_faults.a_forked_child_has_connections_of_its_own")
def child_shares_connections() -> None:
    swap("shardstore._postgres.connections:Connections.after_fork", nothing())
    swap("shardstore._postgres.engine:close_inherited", nothing())


@mutation(
    "closing what a child inherited, which keeps its parent's lock alive",
    "postgres_faults.a_child_does_not_keep_the_lock_of_its_dead_parent",
)
def child_keeps_descriptors() -> None:
    swap("shardstore._postgres.engine:close_inherited", nothing())


# What somebody else did to the tables


@mutation("refusing the tables of a newer version", "postgres_faults.other_tables_are_refused")
def every_format_believed() -> None:
    edit("shardstore._postgres.schema:understood", ("if number(form) != FORMAT:", "if False:"))


@mutation("checking the crc of a line that the server returns", "postgres_faults.a_changed_value_is_damage")
def crc_of_rows_unchecked() -> None:
    crc_unchecked()


@mutation("checking the crc of an item that the server returns", "postgres_faults.a_changed_item_costs_that_item")
def crc_of_item_rows_unchecked() -> None:
    swap("shardstore._journal.log_lines:is_intact", nothing(True))


@mutation(
    "comparing where the lines end with what the session's row says",
    "postgres_faults.a_last_line_that_is_gone_is_damage",
)
def last_line_believed() -> None:
    edit("shardstore._postgres.known:_followed", ("if (after.n, after.version) != row:", "if False:"))


@mutation("looking for lines that have no session's row", "postgres_faults.a_row_that_is_gone_is_damage")
def rows_that_are_gone_were_never_there() -> None:
    edit("shardstore._postgres.known:follow", ("if lines:", "if False:"))


@mutation("the same where a session is made", "postgres_faults.a_row_that_is_gone_is_damage")
def sessions_made_over_strays() -> None:
    edit(f"{_INSIDE}._place", ('if made.rows[0][0] == b"\\1" and self.check:', "if False:"))


@mutation(
    "checking the journal that comes out of the archive",
    "postgres_faults.a_damaged_archived_copy_stays_where_it_is",
)
def archived_copies_believed() -> None:
    edit(
        "shardstore._postgres.archive:restore",
        ("if outcome.damage is not None or outcome.tail or outcome.journal.state.key != key:", "if False:"),
    )


@mutation(
    "refusing a commit whose session's row stayed as it was",
    "postgres_faults.a_row_that_a_trigger_keeps_as_it_was_changes_nothing",
)
def rows_that_stay_commit() -> None:
    def inner(sql: Any) -> None:
        sql.append = sql.append.replace("FROM (SELECT) one LEFT JOIN s ON true", "FROM s")

    _statements(inner)


@mutation(
    "comparing the checksum of the last known line", "postgres_faults.another_history_of_the_same_length_is_read_anew"
)
def known_lines_believed() -> None:
    edit("shardstore._postgres.known:follow", ("if lines[0][1][8:16] != known.journal.crc:", "if False:"))


@mutation("reading, behind the lock, what others wrote", "postgres.processes_lose_no_update")
def known_state_believed() -> None:
    swap("shardstore._postgres.known:Known.is_at", nothing(True))


# Watching, and settings that another process changed


@mutation("a snapshot as the token, and not an order of numbers", "postgres_faults.a_late_commit_is_news")
def late_commits_missed() -> None:
    from shardstore._postgres import watching

    plain = watching._NEWS.replace(
        "NOT pg_visible_in_snapshot({0}.changed, t.seen)", "{0}.changed >= pg_snapshot_xmax(t.seen)"
    )
    assert plain != watching._NEWS
    watching._NEWS = plain  # type: ignore[misc]


@mutation(
    "refusing a token that is older than what is forgotten",
    "postgres_faults.a_token_from_before_what_is_forgotten_is_refused",
)
def old_tokens_believed() -> None:
    swap("shardstore._postgres.watching:PostgresChanges._check", nothing())


@mutation("keeping what went beside an older transaction", "postgres_faults.a_token_of_now_is_not_too_old")
def forgotten_beside_transactions() -> None:
    edit("shardstore._postgres.watching:trim", (" AND changed < pg_snapshot_xmin(pg_current_snapshot())", ""))


@mutation(
    "comparing the settings with those of the lock", "postgres_faults.who_knows_old_settings_writes_what_lists_find"
)
def settings_not_compared() -> None:
    edit(f"{_INSIDE}._take_over", ("if number(row[3]) != self.rows.store.generation:", "if False:"))


@mutation(
    "reading the settings where a session is made", "postgres_faults.who_knows_old_settings_writes_what_lists_find"
)
def settings_not_read_for_new_ones() -> None:
    edit(f"{_INSIDE}._place", ("self.rows = self.engine.learn(settings)", "pass"))


@mutation(
    "believing a row that reindex wrote more than the settings that came with it",
    "postgres_faults.who_waited_through_a_reindex_writes_what_lists_find",
)
def generation_of_the_row_ignored() -> None:
    def old(sql: Any) -> None:
        sql.lock = sql.lock.replace("greatest(s.generation, ", "greatest(0, ")

    _statements(old)


@mutation(
    "reading the settings again where a session was deleted",
    "postgres_faults.who_makes_a_deleted_session_through_a_reindex_writes_what_lists_find",
)
def deleted_sessions_believed() -> None:
    def old(sql: Any) -> None:
        sql.lock = sql.lock.replace("ELSE -1 END", "ELSE 0 END")

    _statements(old)


@mutation(
    "keeping the settings of the lock until the commit",
    "postgres_faults.the_settings_of_the_lock_hold_until_the_commit",
)
def settings_of_the_commit() -> None:
    edit(f"{_TRANSACTION}._append", ("self.rows.commit(", "self.engine.rows.commit("))


@mutation(
    "deciding a list by the settings of its own snapshot", "postgres_faults.a_list_is_of_one_state_of_the_settings"
)
def list_by_the_settings_of_others() -> None:
    def shared(_: Any) -> Any:
        def indexed(self: Any) -> Any:
            store = self._engine.rows.store
            return store.indexed if store.is_indexed else ()

        return property(indexed)

    swap("shardstore._postgres.listing:Listing.indexed", shared)


@mutation(
    "comparing a list's settings with those that it began with",
    "postgres_faults.a_list_is_of_one_state_of_the_settings",
)
def list_settings_compared_with_others() -> None:
    edit("shardstore._postgres.listing:Listing._at_once", ("!= self._store:", "!= engine.rows.store:"))
