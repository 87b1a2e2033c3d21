"""What one writes with psycopg: a document in a row, changed under its row's lock; a table of items beside it."""

from __future__ import annotations

import json
import time
from typing import Any

import psycopg

TABLES = """
CREATE SCHEMA IF NOT EXISTS {s};
CREATE TABLE IF NOT EXISTS {s}.doc (key text PRIMARY KEY, rev bigint, updated bigint, entry json);
CREATE INDEX IF NOT EXISTS by_updated ON {s}.doc (updated);
CREATE TABLE IF NOT EXISTS {s}.item (key text, n bigint GENERATED ALWAYS AS IDENTITY, item json, PRIMARY KEY (key, n));
"""


class Plain:
    """One connection, with prepared statements."""

    def __init__(self, url: str, schema: str, *, relaxed: bool = False) -> None:
        self._db = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self._db.execute("SET client_min_messages = warning")
        self._s = schema
        if relaxed:
            self._db.execute("SET synchronous_commit = off")

    def make(self) -> None:
        """Create the tables."""
        self._db.execute(TABLES.format(s=self._s), prepare=False)

    def fill(self, key: str, fields: dict[str, Any]) -> None:
        """Insert a document."""
        self._db.execute(f"INSERT INTO {self._s}.doc VALUES (%s, 1, 1, %s)", (key, json.dumps(fields)))

    def update(self, key: str) -> None:
        """Add one to a field, under the row's lock."""
        with self._db.transaction():
            row = self._db.execute(f"SELECT entry FROM {self._s}.doc WHERE key = %s FOR UPDATE", (key,)).fetchone()
            fields = row[0]  # type: ignore[index]
            fields["n"] += 1
            self._save(key, fields)

    def append(self, key: str, item: dict[str, Any]) -> None:
        """Add an item, and change a field of a small document with it."""
        with self._db.transaction():
            self._db.execute(f"INSERT INTO {self._s}.item (key, item) VALUES (%s, %s)", (key, json.dumps(item)))
            self._db.execute(
                f"UPDATE {self._s}.doc SET rev = rev + 1, updated = %s, entry = %s WHERE key = %s",
                (time.time_ns() // 1000, json.dumps({"turn": time.time_ns()}), key),
            )

    def _save(self, key: str, fields: dict[str, Any]) -> None:
        self._db.execute(
            f"UPDATE {self._s}.doc SET rev = rev + 1, updated = %s, entry = %s WHERE key = %s",
            (time.time_ns() // 1000, json.dumps(fields), key),
        )

    def get(self, key: str) -> None:
        """Read a document."""
        assert self._db.execute(f"SELECT entry FROM {self._s}.doc WHERE key = %s", (key,)).fetchone()

    def rows(self, sql: str, *values: object) -> int:
        """Run a query whose rows come in binary, as the store's do; return how many there are."""
        with self._db.cursor(binary=True) as cursor:
            return len(cursor.execute(sql, values).fetchall())

    def close(self) -> None:
        """End it."""
        self._db.close()
