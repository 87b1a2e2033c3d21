"""The benchmark measures what it says: every row, with what each side costs."""

from __future__ import annotations

import secrets

import psycopg
import pytest

from bench.postgres import langgraph
from bench.postgres.__main__ import Plan, Run
from tests.support.postgres import server_or_skip

pytestmark = pytest.mark.cluster


def test_every_row_is_measured() -> None:
    url = server_or_skip()
    run = Run(url, f"bench_{secrets.token_hex(4)}", Plan(1, 0.05, 1, 0.3, 200))
    try:
        run.measure()
    finally:
        run.server.close()
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("SET client_min_messages = warning")
            for schema in (run.schema, f"{run.schema}_plain"):
                admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    rows = {row["name"]: row for row in run.rows}
    assert len(rows) == 12 + 4 * langgraph.is_there()
    assert [(row["store"]["trips"], row["psycopg"]["trips"]) for row in run.rows[:2]] == [(2, 4), (1, 1)]
    assert rows["list(100) of 200"]["store"]["trips"] == 1
    large = rows["update 42 KB, durable"]
    assert large["store"]["wal"] * 10 < large["psycopg"]["wal"]
    assert all(row[side]["seconds"] > 0 for row in run.rows for side in ("store", "psycopg"))
