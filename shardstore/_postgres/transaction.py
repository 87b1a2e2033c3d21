"""A transaction on one session in a database: locked from `with` to its end, and at most one commit.

    inside.py                     lock the row, then read its lines
    WITH … UPDATE … INSERT        the row, and the line: what lists see is told in the same statement
    COMMIT                        in the same round trip

A failure before COMMIT was sent changed nothing. docs/internals/postgres.md has the steps.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, Self

from shardstore._codec import ENTRY_BYTES_MAX
from shardstore._journal.record import next_record, whole_record
from shardstore._journal.replay import Journal, with_key
from shardstore._log import SETTLE_BYTES
from shardstore._postgres.connections import ANSWER_S
from shardstore._postgres.failures import EXPIRED, raise_refused, raise_uncertain
from shardstore._postgres.inside import Inside
from shardstore._postgres.known import NOTHING, Known
from shardstore._postgres.logs import put_items, settle
from shardstore._postgres.values import Lost, Refused
from shardstore.errors import CorruptShard, HoldExpired, InvalidEntry, SessionNotFound, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shardstore._log import Item
    from shardstore._model import Change, State
    from shardstore._postgres.connection import Connection
    from shardstore._postgres.values import Value

    Asked = tuple[str, Sequence[Value]]  # a statement and its values

REWRITE_BYTES: Final = 65536  # a journal is rewritten past this ...
REWRITE_FACTOR: Final = 3  # ... plus so many times the bytes of its entry, and of its log's items that stand in it


class PostgresTransaction(Inside):
    """One session, locked between `with` and its end."""

    __slots__ = ()

    # Committing. REQUIRES, for everything below: inside `with`.

    def commit(self, change: Change, actor: str, *, durable: bool, at: int | None = None) -> None:
        """Commit a change. Raises InvalidEntry, HoldExpired, StoreUnavailable, StoreFull, CommitUncertain."""
        connection, known = self.held(), self.known
        line, state = next_record(known.state, change, self.slot.key, actor, durable=durable, at=at)
        if state.entry_bytes > ENTRY_BYTES_MAX:
            raise InvalidEntry("entry", f"{state.entry_bytes:,} bytes of JSON; at most {ENTRY_BYTES_MAX:,} are allowed")
        end, inline = known.journal.end + len(line), state.log.bytes
        if state.exists and (
            inline > SETTLE_BYTES or end > REWRITE_BYTES + REWRITE_FACTOR * (state.entry_bytes + inline)
        ):
            try:
                self.rewrite(state, durable=durable)
            except CorruptShard:  # of the log's rows, and that alone: fields and further items go on in the journal
                pass
            else:
                return
        after = Known(known.n + 1, Journal(state, end, known.journal.records + 1, line[8:16]))

        def write() -> Asked:
            if not state.exists and known.state.log.settled.file:
                connection.run(self.engine.sql.forget_items, (bytes.fromhex(known.state.log.settled.file),))
            return self._append(after, line, durable=durable)

        self._finish(write, after)

    def rewrite(self, state: State | None = None, *, durable: bool = True, new_log: bool = False) -> None:
        """Put one line in the place of all: the present state, or the one given."""
        connection, engine, slot, before = self.held(), self.engine, self.slot, self.known
        wanted = before.state if state is None else state
        found: list[Known] = []

        def write() -> Asked:
            log = settle(connection, engine.logs, slot.key, wanted.log, new_log=new_log)
            whole = wanted._replace(log=log)
            line = whole_record(whole)
            found.append(Known(before.n + 1, Journal(whole, len(line), 1, line[8:16])))
            connection.run(engine.sql.forget_lines, (slot.id,))
            old = before.state.log.settled.file
            if old and old != log.settled.file:
                connection.run(engine.sql.forget_items, (bytes.fromhex(old),))
            return self._append(found[0], line, durable=durable)

        self._finish(write, found)

    def replace_damaged(self, state: State, file: str) -> None:
        """Put a salvaged state in the place of damaged lines, which go to quarantine with their log, `file`."""
        connection, engine, slot = self.held(), self.engine, self.slot
        found: list[Known] = []

        def write() -> Asked:
            log = settle(connection, engine.logs, slot.key, state.log, new_log=False)
            whole = state._replace(log=log)
            line = whole_record(whole)
            found.append(Known(self.known.n + 1, Journal(whole, len(line), 1, line[8:16])))
            connection.run(engine.sql.set_aside, (slot.id, "quarantine", slot.key, bytes.fromhex(file) or None, 0))
            connection.run(engine.sql.forget_lines, (slot.id,))
            return self._append(found[0], line, durable=True)

        self._finish(write, found)

    def _append(self, after: Known, line: bytes, *, durable: bool) -> Asked:
        """Return what writes a line and its session's row."""
        values = self.rows.commit(self.slot, after, line, durable=durable and self.waits)
        return self.engine.sql.append, values

    def refresh_row(self) -> None:
        """Write the session's row anew, for it is of other settings; its lines stay. Nothing of it is a change."""
        known = self.known

        def write() -> Asked:
            facts = self.rows.facts(known)
            return self.engine.sql.refresh_row, (self.slot.id, known.n, facts[-2], facts[-1], *facts[11:14])

        self._finish(write, known)

    def archive(self) -> None:
        """Move the session to the archive, with its history."""
        self.set_aside("archive")

    def set_aside(self, place: str, file: str = "") -> None:
        """Move the session's lines to the archive; `place`: "archive", or "quarantine" for damaged ones.

        file: the id of the log that goes with them, where the lines cannot be read.
        """
        connection, sql, slot, log = self.held(), self.engine.sql, self.slot, self.known.state.log
        named = bytes.fromhex(file or log.settled.file) or None

        def write() -> Asked:
            connection.run(sql.set_durability, (self.waits,))
            connection.run(sql.set_aside, (slot.id, place, slot.key, named, log.settled.end))
            connection.run(sql.forget_lines, (slot.id,))
            return sql.forget_session, (slot.id,)

        self._finish(write, NOTHING)

    def remove(self) -> None:
        """Remove the session for good, with its history."""
        connection, sql, slot, log = self.held(), self.engine.sql, self.slot, self.known.state.log

        def write() -> Asked:
            connection.run(sql.set_durability, (self.waits,))
            if log.settled.file:
                connection.run(sql.forget_items, (bytes.fromhex(log.settled.file),))
            connection.run(sql.forget_lines, (slot.id,))
            return sql.forget_session, (slot.id,)

        self._finish(write, NOTHING)

    def rename(self, target: Self) -> None:
        """Move the session, with its history, to the key of `target`; this one is absent from then on.

        First the target is complete, with rows of its own for its log, then this one goes: a crash leaves both.
        """
        if not target.state.exists:
            log = self.state.log
            named = os.urandom(8).hex() if log.settled.file else None
            text, journal = with_key(self.lines(), target.slot.key, named)
            items: list[Item] = []
            if named is not None:
                first = log.settled.first
                items = self.engine.logs.read(self.slot.key, log, first, first + log.settled.lines)
            target.put(text, journal, items)
        self.remove()

    def lines(self) -> bytes:
        """Return the journal, as a file would hold it."""
        rows = self.held().run(self.engine.sql.lines, (self.slot.id,)).rows
        return b"".join([line or b"" for (line,) in rows])

    def put(self, text: bytes, journal: Journal, items: Iterable[Item] = (), *, instead_of: int | None = None) -> None:
        """Put a whole journal in the place of the present one, and write the items of the log that it names.

        instead_of: the number of the archived copy that it was, which goes.
        """
        connection, sql, slot = self.held(), self.engine.sql, self.slot
        lines = text.splitlines(keepends=True)
        first, settled = self.known.n + 1, journal.state.log.settled
        before = self.known.state.log.settled.file
        after = Known(first + len(lines) - 1, journal)

        def write() -> Asked:
            connection.run(sql.forget_lines, (slot.id,))
            if before:
                connection.run(sql.forget_items, (bytes.fromhex(before),))
            put_items(connection, sql, settled.file, settled.first, items)
            if len(lines) > 1:
                connection.run(sql.put_lines, (slot.id, first, lines[:-1]))
            if instead_of is not None and not connection.run(sql.unarchive, (instead_of,)).touched:
                raise SessionNotFound(slot.key)  # somebody else restored or purged it meanwhile
            return self._append(after, lines[-1], durable=True)

        self._finish(write, after)

    def _finish(self, write: Callable[[], Asked], after: Known | list[Known]) -> None:
        """Write, and commit together with the last statement: a failure before that is sent changed nothing."""
        connection, engine, slot = self.held(), self.engine, self.slot
        try:
            connection.check()
            last = write()
        except Lost as error:
            self.drop()
            self._raise_expired(error)
            raise StoreUnavailable(engine.location, str(error)) from error
        except Refused as error:
            self.drop(rollback=True)
            raise_refused(error, engine.location)
        self._commit(connection, *last)
        self.known = after if isinstance(after, Known) else after[0]
        self.state = self.known.state
        engine.note(slot, self.known)

    def _commit(self, connection: Connection, statement: str, values: Sequence[Value]) -> None:
        location = self.engine.location
        self.slot.known = NOTHING  # unknown until the answer is there, also where an exception from outside comes
        try:
            _, answer = connection.commit(statement, values, deadline=time.monotonic() + ANSWER_S)
        except Lost as error:
            self.drop()
            self._raise_expired(error)
            raise_uncertain(error, location)
        except Refused as error:
            self.drop(rollback=True)
            raise_refused(error, location)
        if answer.tag != "COMMIT":
            raise_refused(Refused("25P02", "the server undid the transaction"), location)
        if connection.warnings:  # it did not wait for the standbys that it was to wait for
            raise_uncertain(Lost("; ".join(connection.warnings)), location)

    def _raise_expired(self, error: Lost) -> None:
        """Raise HoldExpired where that is why: the server ends whoever says nothing, so it had run nothing of ours."""
        if error.state == EXPIRED:
            raise HoldExpired(self.slot.key, self.engine.hold_timeout) from error

    @property
    def size(self) -> int:
        """The bytes of the session's lines, and of what is settled of its log."""
        return self.known.journal.end + self.known.state.log.settled.end
