"""The PostgreSQL engine beside plain psycopg that does the same: SELECT … FOR UPDATE, change, UPDATE, prepared.

usage: python -m bench.postgres URL [--seconds S]

Ratios, measured in turn in one run: below 1 the store is faster. WAL is the bytes that the server logged for an update.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import statistics
import time
from typing import TYPE_CHECKING, Any

import psycopg

from shardstore import Store

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
LETTERS = "abcdefghijklmnopqrstuvwxyz     "


def entry(size: int) -> dict[str, Any]:
    """Return an entry of about so many bytes."""
    rng = random.Random(1)
    fields: dict[str, Any] = {f"field{n:02}": f"value {n}" for n in range(20)}
    return {**fields, "text": "".join(rng.choice(LETTERS) for _ in range(max(0, size - 500))), "n": 0}


class Plain:
    """What one writes with psycopg: a document in a row."""

    def __init__(self, url: str, schema: str, *, relaxed: bool) -> None:
        self._db = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self._doc = f"{schema}_plain.doc"
        if relaxed:
            self._db.execute("SET synchronous_commit = off")
        self._db.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}_plain")
        self._db.execute(
            f"CREATE TABLE IF NOT EXISTS {self._doc} (key text PRIMARY KEY, rev bigint, updated bigint, entry json)"
        )
        self._db.execute(f"CREATE INDEX IF NOT EXISTS by_updated ON {self._doc} (updated)")

    def fill(self, key: str, fields: dict[str, Any]) -> None:
        self._db.execute(f"INSERT INTO {self._doc} VALUES (%s, 1, 1, %s)", (key, json.dumps(fields)))

    def update(self, key: str) -> None:
        with self._db.transaction():
            row = self._db.execute(f"SELECT entry FROM {self._doc} WHERE key = %s FOR UPDATE", (key,)).fetchone()
            fields = row[0]  # type: ignore[index]
            fields["n"] += 1
            self._db.execute(
                f"UPDATE {self._doc} SET rev = rev + 1, updated = %s, entry = %s WHERE key = %s",
                (time.time_ns() // 1000, json.dumps(fields), key),
            )

    def get(self, key: str) -> None:
        assert self._db.execute(f"SELECT entry FROM {self._doc} WHERE key = %s", (key,)).fetchone()

    def wal(self) -> int:
        row = self._db.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        return int(row[0])  # type: ignore[index]

    def close(self) -> None:
        self._db.execute(f"DROP SCHEMA {self._doc.partition('.')[0]} CASCADE")
        self._db.close()


def rate(act: Callable[[], object], seconds: float) -> float:
    """Return the median seconds of a call."""
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def compare(name: str, mine: Callable[[], object], plain: Callable[[], object], seconds: float) -> None:
    """Measure both in turn; print the medians and their ratio."""
    pairs = [(rate(mine, seconds), rate(plain, seconds)) for _ in range(ROUNDS)]
    store, floor = (statistics.median(one) for one in zip(*pairs, strict=True))
    print(f"{name:34}{store * 1e6:9.0f} µs{floor * 1e6:9.0f} µs{store / floor:7.2f}x")


def wal_of(plain: Plain, act: Callable[[], object]) -> float:
    """Return the bytes of WAL that one call writes."""
    before = plain.wal()
    for _ in range(50):
        act()
    return (plain.wal() - before) / 50


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="The PostgreSQL engine beside plain psycopg.")
    parser.add_argument("url", nargs="?", default=os.environ.get("SHARDSTORE_TEST_POSTGRES"))
    parser.add_argument("--seconds", type=float, default=0.5)
    asked = parser.parse_args()
    if not asked.url:
        parser.error("which server? Give its URL, or set SHARDSTORE_TEST_POSTGRES")
    schema = f"bench_{secrets.token_hex(4)}"
    print(f"{'':34}{'store':>12}{'psycopg':>12}{'ratio':>8}")
    with Store(f"{asked.url}{'&' if '?' in asked.url else '?'}schema={schema}") as store:
        try:
            for relaxed in (False, True):
                view = store.using(durability="relaxed" if relaxed else "commit")
                plain = Plain(asked.url, schema, relaxed=relaxed)
                try:
                    _sizes(view, plain, "relaxed" if relaxed else "commit", asked.seconds)
                finally:
                    plain.close()
                    view.close()
        finally:
            with psycopg.connect(asked.url, autocommit=True) as admin:
                admin.execute("SET client_min_messages = warning")
                admin.execute(f"DROP SCHEMA {schema} CASCADE")


def _sizes(view: Store, plain: Plain, how: str, seconds: float) -> None:
    for size in (1000, 42_000):
        key, fields = f"k{size}", entry(size)
        view.replace(key, fields)
        plain.fill(key, fields)

        def add(key: str = key) -> object:
            return view.update(key, lambda draft: draft.update(n=draft["n"] + 1))

        compare(f"update, {size // 1000} KB, {how}", add, lambda key=key: plain.update(key), seconds)
        compare(f"get, {size // 1000} KB", lambda key=key: view[key], lambda key=key: plain.get(key), seconds)
        mine, floor = wal_of(plain, add), wal_of(plain, lambda key=key: plain.update(key))
        print(f"{'  WAL of an update':34}{mine:8,.0f} B {floor:10,.0f} B {mine / floor:7.2f}x")


if __name__ == "__main__":
    main()
