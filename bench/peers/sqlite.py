"""SQLite as a careful engineer would use it: WAL, one row a session, BEGIN IMMEDIATE, orjson."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import orjson

from bench.peers.base import Entry, Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

BUSY_TIMEOUT_S = 120.0
ITEMS = "CREATE TABLE IF NOT EXISTS items(key TEXT, number INTEGER, data BLOB NOT NULL, PRIMARY KEY (key, number))"
TABLE = "CREATE TABLE IF NOT EXISTS sessions(key TEXT PRIMARY KEY, data BLOB NOT NULL)"
INSERT_ITEM = (
    "INSERT INTO items VALUES(?, (SELECT coalesce(max(number), 0) + 1 FROM items WHERE key = ?), ?)"  # no gap, no race
)
LISTED_TABLE = (
    "CREATE TABLE IF NOT EXISTS sessions(key TEXT PRIMARY KEY, data BLOB NOT NULL, updated INTEGER, status TEXT)",
    "CREATE INDEX IF NOT EXISTS newest ON sessions(updated)",
    "CREATE INDEX IF NOT EXISTS newest_of_status ON sessions(status, updated)",
)


class Sqlite(Peer):
    """One connection. `listed` adds the columns and indexes that a list needs; without, an update is cheaper."""

    def __init__(self, root: Path, *, synchronous: str, listed: bool = False) -> None:
        super().__init__(root)
        self.listed = listed
        self.db = sqlite3.connect(root / "sessions.db", timeout=BUSY_TIMEOUT_S, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute(f"PRAGMA synchronous={synchronous}")
        for statement in (ITEMS, *(LISTED_TABLE if listed else (TABLE,))):
            self.db.execute(statement)

    def create(self, key: str, entry: Entry) -> None:
        self.db.execute(*self._insert(key, entry))

    def _insert(self, key: str, entry: Entry) -> tuple[str, tuple[object, ...]]:
        if not self.listed:
            return "INSERT INTO sessions VALUES(?, ?)", (key, orjson.dumps(entry))
        row = (key, orjson.dumps(entry), entry.get("updatedAt"), entry.get("status"))
        return "INSERT INTO sessions VALUES(?, ?, ?, ?)", row

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        execute = self.db.execute
        execute("BEGIN IMMEDIATE")
        try:
            entry = orjson.loads(execute("SELECT data FROM sessions WHERE key = ?", (key,)).fetchone()[0])
            fn(entry)
            self._write(key, entry)
        except BaseException:
            execute("ROLLBACK")
            raise
        execute("COMMIT")

    def _write(self, key: str, entry: Entry) -> None:
        if self.listed:
            row = (orjson.dumps(entry), entry.get("updatedAt"), entry.get("status"), key)
            self.db.execute("UPDATE sessions SET data = ?, updated = ?, status = ? WHERE key = ?", row)
        else:
            self.db.execute("UPDATE sessions SET data = ? WHERE key = ?", (orjson.dumps(entry), key))

    def patch(self, key: str, fields: Entry) -> None:
        if not all(type(value) in (int, str) for value in fields.values()):  # json_set has no parameter for true
            super().patch(key, fields)
            return
        # One statement needs no transaction of its own and no decoding in Python: its best way, half the time.
        paths = ", ".join(f"'$.{name}', ?" for name in fields)
        listed = ", updated = coalesce(?, updated), status = coalesce(?, status)" if self.listed else ""
        columns = (fields.get("updatedAt"), fields.get("status")) if self.listed else ()
        query = f"UPDATE sessions SET data = json_set(data, {paths}){listed} WHERE key = ?"
        self.db.execute(query, (*fields.values(), *columns, key))

    def get(self, key: str) -> Entry:
        found: Entry = orjson.loads(self.db.execute("SELECT data FROM sessions WHERE key = ?", (key,)).fetchone()[0])
        return found

    def append_item(self, key: str, item: Entry, fields: Entry) -> None:
        execute = self.db.execute
        execute("BEGIN IMMEDIATE")
        try:
            execute(INSERT_ITEM, (key, key, orjson.dumps(item)))
            if fields:
                self.patch(key, fields)
        except BaseException:
            execute("ROLLBACK")
            raise
        execute("COMMIT")

    def append_items(self, key: str, items: list[Entry]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(INSERT_ITEM, [(key, key, orjson.dumps(item)) for item in items])
        self.db.execute("COMMIT")

    def tail(self, key: str, count: int) -> list[Any]:
        query = "SELECT data FROM items WHERE key = ? ORDER BY number DESC LIMIT ?"
        return [orjson.loads(row[0]) for row in self.db.execute(query, (key, count)).fetchall()][::-1]

    def delete(self, key: str) -> None:
        self.db.execute("DELETE FROM sessions WHERE key = ?", (key,))

    def newest(self, limit: int, status: str | None = None) -> list[Any]:
        where, values = ("WHERE status = ?", [status]) if status else ("", [])
        query = f"SELECT key, updated, status FROM sessions {where} ORDER BY updated DESC LIMIT ?"
        return self.db.execute(query, (*values, limit)).fetchall()

    def count(self, status: str) -> int:
        found = self.db.execute("SELECT count(*) FROM sessions WHERE status = ?", (status,))
        return int(found.fetchone()[0])

    def by_status(self, limit: int) -> list[Any]:
        query = "SELECT key, updated, status FROM sessions ORDER BY status, updated LIMIT ?"
        return self.db.execute(query, (limit,)).fetchall()

    def prune(self, keep: int) -> None:
        self.db.execute(
            "DELETE FROM sessions WHERE key NOT IN (SELECT key FROM sessions ORDER BY updated DESC LIMIT ?)", (keep,)
        )

    def fill(self, entries: Iterable[tuple[str, Entry]]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        super().fill(entries)
        self.db.execute("COMMIT")

    def close(self) -> None:
        self.db.close()


STORE = Sqlite
