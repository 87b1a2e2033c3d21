"""The settled parts of logs: one row an item, found by the id of their log and their number."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from shardstore import _codec as codec
from shardstore._journal.log_lines import encode_lines, parse_line, seed_of
from shardstore._log import NOWHERE, SETTLE_BYTES, Item, LogState, Settled, moved_to
from shardstore._postgres.known import digest
from shardstore._postgres.values import number
from shardstore.errors import CorruptShard, LogReplaced
from shardstore.log import read_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shardstore._postgres.connection import Connection
    from shardstore._postgres.connections import Connections
    from shardstore._postgres.statements import Statements
    from shardstore._postgres.values import Value

_AT_ONCE: Final = 2000  # items in one statement


class Logs:
    """Reads the settled items of a store's logs. Sessions hold it, so it holds no engine, which holds it."""

    def __init__(self, connections: Connections, sql: Statements, location: str) -> None:
        self._connections = connections
        self.sql = sql
        self._location = location

    def __reduce__(self) -> tuple[Any, ...]:
        return (Nowhere, ())  # another process reads a log through a Store of its own

    def read(self, key: str, log: LogState, start: int, stop: int) -> list[Item]:
        """Return the settled items of these numbers. Raises LogReplaced, CorruptShard."""
        rows = self._ask(self.sql.items, (bytes.fromhex(log.settled.file), start, stop))
        seed, found = seed_of(log.settled.file), []
        for wanted, (n, line) in zip(range(start, stop), rows, strict=False):
            parsed = parse_line((line or b"").removesuffix(b"\n"), seed)
            if number(n) != wanted or parsed is None or parsed[0] != wanted:
                self._damaged(key, log, wanted)
            else:
                found.append(parsed[1])
        if len(found) < stop - start:
            self._damaged(key, log, start + len(found))
        return found

    def values(self, key: str, log: LogState, start: int, stop: int) -> list[Any]:
        """Return the values of the same items. Raises LogReplaced, CorruptShard."""
        return [codec.loads(item.raw) for item in self.read(key, log, start, stop)]

    def _damaged(self, key: str, log: LogState, n: int) -> None:
        """Raise CorruptShard, or LogReplaced where the session has another log by now."""
        if self.present(key) != log.settled.file:
            raise LogReplaced(key)
        raise CorruptShard(f"{self._location}#{log.settled.file}", 0, f"item {n} is not whole", key)

    def _ask(self, statement: str, values: Sequence[Value]) -> list[tuple[bytes | None, ...]]:
        return self._connections.ask(statement, values).rows

    def present(self, key: str) -> str:
        """Return the id of the log that the session has by now; empty where it has none."""
        rows = self._ask(self.sql.settled, (digest(key),))
        return (rows[0][0] or b"").hex() if rows else ""

    def number_of(self, key: str, log: LogState, name: str) -> int | None:
        """Return the number of the settled item with this id that stands. Raises LogReplaced."""
        rows = self._ask(self.sql.item_of, (bytes.fromhex(log.settled.file), name_of(name)))
        for n, _ in rows:
            if log.dropped <= number(n) < log.kept:
                return number(n)
        if not rows and self.present(key) != log.settled.file:
            raise LogReplaced(key)
        return None


class Nowhere:
    """The logs of a Session that was pickled: nothing is known of them here."""

    def read(self, key: str, log: LogState, start: int, stop: int) -> list[Item]:  # noqa: ARG002
        """Raise LogReplaced."""
        raise LogReplaced(key)

    values = read

    def number_of(self, key: str, log: LogState, name: str) -> int | None:  # noqa: ARG002
        """Raise LogReplaced."""
        raise LogReplaced(key)


def name_of(item: str) -> bytes:
    """Return what an item is found by: a hash of its id, which may be long."""
    return blake2b(item.encode(), digest_size=16).digest()


def settle(connection: Connection, logs: Logs, key: str, log: LogState, *, new_log: bool) -> LogState:
    """Have the log stand where it is to stand when its journal is rewritten; return it. Part of a transaction.

    Pending items become rows when they have grown too many; with `new_log`, or where items in the rows were replaced or
    dropped, all of the log becomes rows of another id. Raises CorruptShard, Refused, Lost.
    """
    if not new_log and log.bytes <= SETTLE_BYTES:
        return log._replace(settled=NOWHERE) if log.settled.file and log.kept == log.dropped else log
    if log.appends_to_file and not new_log:
        settled, items, first = log.settled, log.pending, log.kept
    else:
        items = tuple(read_items(logs, key, log, log.dropped, log.end))
        first = log.dropped
        settled = Settled(os.urandom(8).hex(), 0, 0, first)
    if not items:
        return moved_to(log, NOWHERE)
    size = put_items(connection, logs.sql, settled.file, first, items)
    return moved_to(log, settled._replace(lines=settled.lines + len(items), end=settled.end + size))


def put_items(connection: Connection, sql: Statements, file: str, first: int, items: Iterable[Item]) -> int:
    """Write items as rows; return the bytes of their lines."""
    listed = list(items)
    lines = list(encode_lines(file, first, listed))
    names = [None if item.id is None else name_of(item.id) for item in listed]
    for at in range(0, len(lines), _AT_ONCE):
        some = slice(at, at + _AT_ONCE)
        connection.run(sql.put_items, (bytes.fromhex(file), first + at, names[some], lines[some]))
    return sum(map(len, lines))
