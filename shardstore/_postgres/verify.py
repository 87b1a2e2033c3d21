"""Checking every session, line and item, and repairing damage."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from shardstore._journal import replay
from shardstore._journal.log_lines import parse_line, seed_of
from shardstore._log import NOWHERE, LogChange, applied
from shardstore._postgres.known import NOTHING, follow
from shardstore._postgres.values import number
from shardstore.errors import CorruptShard, ShardStoreError
from shardstore.reports import Problem, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore._log import Item, LogState
    from shardstore._postgres.engine import PostgresEngine
    from shardstore._postgres.known import Known
    from shardstore._postgres.transaction import PostgresTransaction

_WAIT_S: Final = 2.0  # for a session that is in use
_AT_ONCE: Final = 500  # sessions


def verify(engine: PostgresEngine, *, repair: bool, progress: Callable[[int, int], None] | None) -> VerifyReport:
    """Implement Store.verify."""
    run = _Verification(engine, repair=repair)
    total = number(engine.ask(f"SELECT count(*) FROM {engine.sql.session}")[0][0])
    for done, key in enumerate(_keys(engine)):
        if progress is not None:
            progress(min(done, total), total)
        run.check(key)
    run.check_strays()
    if progress is not None:
        progress(total, total)
    return VerifyReport(tuple(run.problems), (), run.shards, run.records, run.sessions)


def _keys(engine: PostgresEngine) -> Iterator[str]:
    """Yield the key of every row, in the order of their hashes."""
    after = b""
    while True:
        rows = engine.ask(
            f"SELECT id, key FROM {engine.sql.session} WHERE id > $1::bytea AND n > 0 ORDER BY id LIMIT {_AT_ONCE}",
            (after,),
        )
        yield from ((key or b"").decode() for _, key in rows)
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1][0] or b""


class _Verification:
    """One run."""

    def __init__(self, engine: PostgresEngine, *, repair: bool) -> None:
        self._engine = engine
        self._repair = repair
        self.problems: list[Problem] = []
        self.shards = self.records = self.sessions = 0

    def check(self, key: str) -> None:
        """Check one session: its lines, its row, and its log."""
        engine = self._engine
        slot = engine.slot(key)
        path = f"session/{slot.id.hex()}"
        try:
            known = follow(engine.ask(engine.sql.read, (slot.id, 0, "")), NOTHING, slot, engine.location)
        except CorruptShard as error:
            self._found(path, key, "damaged", error.reason, self._salvage)
            return
        self.shards += 1
        self.records += known.journal.records
        self.sessions += known.state.exists
        lost = losses(engine, known.state.log)
        if lost:
            self._found(path, key, "log", f"{lost:,} items of its log are not whole", self._mend_log)
        wrong = self._wrong(key, known)
        if wrong:
            self._found(path, key, "index", f"its row is wrong in {wrong}", _rewrite)

    def check_strays(self) -> None:
        """Name lines that have no session's row: somebody deleted it by hand."""
        engine = self._engine
        rows = engine.ask(
            f"SELECT DISTINCT l.id FROM {engine.sql.line} l"
            f" WHERE NOT EXISTS (SELECT FROM {engine.sql.session} s WHERE s.id = l.id)"
        )
        for (stray,) in rows:
            ident = stray or b""
            lines = engine.ask(engine.sql.lines, (ident,))
            key = replay.salvage(b"".join([line or b"" for (line,) in lines]), "").state
            if key is None or key.key is None:
                self.problems.append(Problem(f"session/{ident.hex()}", None, "damaged", "lines of no session"))
            else:
                reason = "its lines are there, its row is not"
                self._found(f"session/{ident.hex()}", key.key, "damaged", reason, self._salvage)

    def _wrong(self, key: str, known: Known) -> str:
        """Return the columns of a row that differ from its lines; empty if none does, or it changed meanwhile."""
        names = ("version", "live", "rev", "created", "updated", "size", "log_length", "journal", "bytes", "settled",
                 "settled_bytes", "fields", "cut", "hidden", "keys", "generation")  # fmt: skip
        engine = self._engine
        facts = dict(zip(names, engine.rows.facts(known), strict=True))
        if facts["generation"] != engine.rows.store.ready:
            del facts["keys"], facts["generation"]
        kinds = {"version": "text", "live": "boolean", "settled": "bytea", "fields": "bytea", "cut": "bytea",
                 "hidden": "bytea", "keys": "bytea[]"}  # fmt: skip
        parts = [f"{name} IS DISTINCT FROM ${n}::{kinds.get(name, 'bigint')}" for n, name in enumerate(facts, 3)]
        rows = engine.ask(
            f"SELECT {', '.join(parts)} FROM {engine.sql.session} WHERE id = $1::bytea AND n = $2::bigint",
            (engine.slot(key).id, known.n, *facts.values()),
        )
        return ", ".join(name for name, one in zip(facts, rows[0], strict=True) if one == b"\1") if rows else ""

    def _found(self, path: str, key: str, kind: str, detail: str, mend: Callable[[PostgresTransaction], str]) -> None:
        repaired = False
        if self._repair:
            try:
                txn = self._engine.transaction(key, _WAIT_S)
                txn.check = kind != "damaged"
                with txn:
                    detail = f"{detail}; {mend(txn)}"
                repaired = True
            except ShardStoreError as error:
                detail = f"{detail}; not repaired: {error}"
        self.problems.append(Problem(path, key, kind, detail, repaired))

    def _salvage(self, txn: PostgresTransaction) -> str:
        """Replace damaged lines by their whole part; the damaged ones go to quarantine."""
        engine = self._engine
        data = txn.lines()
        state, missing = replay.salvage(data, os.urandom(12).hex())
        if state is None or not state.exists:
            txn.set_aside("quarantine", engine.logs.present(txn.key))
            return "nothing of it is whole" if state is None else "it was deleted"
        whole = state._replace(key=txn.key, log=_whole_log(engine, state.log))
        txn.replace_damaged(whole, state.log.settled.file)
        gone = f", without {len(missing)} of its revisions" if missing else ""
        return f"{len(state.fields or ())} fields are back{gone}; the damaged lines are in quarantine"

    def _mend_log(self, txn: PostgresTransaction) -> str:
        """Put the whole items of a log in its place."""
        txn.rewrite(txn.state._replace(log=_whole_log(self._engine, txn.state.log)))
        return f"the {txn.state.log.length:,} whole items are back"


def _rewrite(txn: PostgresTransaction) -> str:
    txn.rewrite()
    return "it was written again"


def _items(engine: PostgresEngine, log: LogState) -> dict[int, Item]:
    """Return the whole items of a log's rows, by number."""
    if not log.settled.file or log.kept == log.dropped:
        return {}
    seed, found = seed_of(log.settled.file), {}
    for n, line in engine.ask(engine.sql.items, (bytes.fromhex(log.settled.file), log.dropped, log.kept)):
        parsed = parse_line((line or b"").removesuffix(b"\n"), seed)
        if parsed is not None and parsed[0] == number(n):
            found[number(n)] = parsed[1]
    return found


def losses(engine: PostgresEngine, log: LogState) -> int:
    """Return how many settled items of a log are not whole."""
    return log.kept - log.dropped - len(_items(engine, log))


def _whole_log(engine: PostgresEngine, log: LogState) -> LogState:
    """Return the log with the items alone that are whole, all of them pending."""
    found = _items(engine, log)
    items = [log.replaced.get(n, item)._replace(id=item.id) for n, item in sorted(found.items())]
    bare = log._replace(kept=log.dropped, settled=NOWHERE, replaced={}, pending=(), bytes=0, names=None)
    return applied(bare, LogChange(add=(*items, *log.pending)))
