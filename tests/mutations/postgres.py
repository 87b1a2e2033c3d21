"""Mutations of the engine in a database."""

from __future__ import annotations

from typing import Any

from tests.mutations.catalogue import edit, mutation, nothing, swap

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
    edit(
        f"{_INSIDE}._seize",
        ("made = connection.run(sql.place, (slot.id, slot.key), deadline=answer_by).rows", "made = [(b'0',)]"),
    )

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
        sql.append = f"{before}RETURNING $20::boolean)\nINSERT{after.partition('INSERT')[2]}"

    _statements(plain)


@mutation("reading a session anew whose history became shorter", "postgres.a_history_that_became_shorter_is_no_damage")
def shorter_histories_are_damage() -> None:
    edit("shardstore._postgres.known:follow", ("if known.n and not lines:", "if False:"))


@mutation("undoing what an exception from outside left open", "postgres.an_exception_as_a_block_begins_unlocks")
def interrupted_transactions_stay() -> None:
    swap(f"{_INSIDE}.abandon", nothing())
    swap(f"{_INSIDE}.__del__", nothing())
