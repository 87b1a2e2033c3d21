"""The PostgreSQL engine beside plain psycopg that does the same: all rows in one run.

usage: python -m bench.postgres [URL] [--quick] [--out FILE]

Without a URL it starts a server of its own on this machine, with fsync on, and speaks to it through a local socket.
Store and psycopg are measured in turn; ratios below 1 mean that the store takes less. It takes about 6 minutes on two
idle cores, with --quick less than one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from bench.postgres import langgraph
from bench.postgres.crowd import PROCESSES, crowd, key_of
from bench.postgres.meter import Cost, Server, measure, middle
from bench.postgres.plain import Plain
from shardstore import Store
from shardstore._order import sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = (1000, 42_000)
LETTERS = "abcdefghijklmnopqrstuvwxyz     "
ROW = "key, rev, version, created, updated, size, log_length, fields, cut, hidden"


class Plan(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: float  # of one side of a row, in each round
    crowd_rounds: int
    crowd_seconds: float
    sessions: int


FULL = Plan(rounds=5, seconds=1.0, crowd_rounds=3, crowd_seconds=5.0, sessions=100_000)
QUICK = Plan(rounds=2, seconds=0.2, crowd_rounds=1, crowd_seconds=1.0, sessions=2_000)


def entry(size: int) -> dict[str, Any]:
    """Return an entry of about so many bytes."""
    rng = random.Random(1)
    fields: dict[str, Any] = {f"field{n:02}": f"value {n}" for n in range(20)}
    return {**fields, "text": "".join(rng.choice(LETTERS) for _ in range(max(0, size - 500))), "n": 0}


class Run:
    """One run: its store, its tables, and the rows that it found."""

    def __init__(self, url: str, schema: str, plan: Plan) -> None:
        self.url, self.schema, self.plan = url, schema, plan
        self.place = f"{url}{'&' if '?' in url else '?'}schema={schema}"
        self.server = Server(url)
        self.rows: list[dict[str, Any]] = []

    def row(self, name: str, mine: Callable[[], object], plain: Callable[[], object]) -> None:
        """Measure both in turn."""
        pairs = [
            (measure(self.server, mine, self.plan.seconds), measure(self.server, plain, self.plan.seconds))
            for _ in range(self.plan.rounds)
        ]
        self.note(name, *(middle(side) for side in zip(*pairs, strict=True)))

    def note(self, name: str, mine: Cost, plain: Cost) -> None:
        """Print a row, and keep it."""
        self.rows.append({"name": name, "store": mine._asdict(), "psycopg": plain._asdict()})
        cells = [
            f"{mine.seconds * 1e6:9,.0f}{plain.seconds * 1e6:9,.0f}{mine.seconds / plain.seconds:7.2f}x",
            _pair(mine.client, plain.client, 1e6), _pair(mine.server, plain.server, 1e6), _pair(mine.wal, plain.wal, 1),
            _pair(mine.trips, plain.trips, 1),
        ]  # fmt: skip
        print(f"{name:32}{''.join(cells)}", flush=True)

    def measure(self) -> None:
        """Measure everything."""
        print(f"{'':32}{'store µs':>9}{'psycopg':>9}{'ratio':>8}{'client CPU µs':>17}{'server CPU µs':>17}"
              f"{'WAL bytes':>17}{'round trips':>17}")  # fmt: skip
        with Store(self.place, indexed=["status", "n"]) as store, contextlib.closing(self.plain()) as plain:
            plain.make()
            for relaxed in (False, True):
                self._single(store, relaxed=relaxed)
            self._append(store, plain)
            self._checkpoints(store)
            self._crowds(store, plain)
            self._lists(store, plain)

    def plain(self, *, relaxed: bool = False) -> Plain:
        """Return a connection of plain psycopg."""
        return Plain(self.url, f"{self.schema}_plain", relaxed=relaxed)

    def _single(self, store: Store, *, relaxed: bool) -> None:
        how = "relaxed" if relaxed else "durable"
        with (
            store.using(durability="relaxed" if relaxed else "commit") as view,
            contextlib.closing(self.plain(relaxed=relaxed)) as plain,
        ):
            for size in SIZES:
                key, label = f"one:{how}:{size}", f"{size // 1000} KB"
                view.replace(key, entry(size))
                plain.fill(key, entry(size))
                self.row(
                    f"update {label}, {how}",
                    lambda key=key: view.update(key, lambda draft: draft.update(n=draft["n"] + 1)),
                    lambda key=key, plain=plain: plain.update(key),
                )
                if not relaxed:
                    self.row(f"get {label}", lambda key=key: view[key], lambda key=key, plain=plain: plain.get(key))

    def _append(self, store: Store, plain: Plain) -> None:
        item = entry(1000)
        store.create("log", {"turn": 0})
        plain.fill("log", {"turn": 0})
        self.row(
            "append 1 KB + patch, durable",
            lambda: store.append("log", [item], {"turn": 1}),
            lambda: plain.append("log", item),
        )

    def _checkpoints(self, store: Store) -> None:
        """Measure a session's update beside a step of LangGraph, for scale: one is not the other."""
        if not langgraph.is_there():
            print("LangGraph is left out: install bench/postgres/requirements.txt")
            return
        with contextlib.closing(langgraph.Checkpoints(self.url, f"{self.schema}_plain")) as saver:
            for size in SIZES:
                key, label = f"step:{size}", f"{size // 1000} KB"
                store.replace(key, entry(size))
                saver.fill(key, entry(size))
                self.row(
                    f"LangGraph's step, {label}, durable",
                    lambda key=key: store.update(key, lambda draft: draft.update(n=draft["n"] + 1)),
                    lambda key=key: saver.update(key),
                )
                self.row(f"LangGraph's get_tuple, {label}", lambda key=key: store[key], lambda key=key: saver.get(key))

    def _crowds(self, store: Store, plain: Plain) -> None:
        """Measure processes that go on at once. Their time is that of all, by the updates that were made."""
        for size in SIZES:
            for n in range(PROCESSES):
                store.replace(key_of(size, n), entry(size))
                plain.fill(key_of(size, n), entry(size))
            pairs = []
            for _ in range(self.plan.crowd_rounds):
                both = [
                    crowd(self.server, kind, self.url, self.schema, size, self.plan.crowd_seconds)
                    for kind in ("store", "plain")
                ]
                pairs.append(both)
            self.note(
                f"{PROCESSES} processes, {size // 1000} KB, durable",
                *(middle(side) for side in zip(*pairs, strict=True)),
            )

    def _lists(self, store: Store, plain: Plain) -> None:
        """Measure lists beside the same SQL on the same table, whose rows nobody decodes."""
        count = self.plan.sessions
        store.create_many((f"list:{n:07}", {**entry(300), "status": f"s{n % 50}", "n": n}) for n in range(count))
        with psycopg.connect(self.url, autocommit=True) as admin:
            admin.execute(f"VACUUM ANALYZE {self.schema}.session")
        label, status = f"of {count:,}", sort_key("s7")
        head, tail = f"SELECT {ROW} FROM {self.schema}.session WHERE live", "ORDER BY updated DESC, key LIMIT 100"
        field, number = "substr(keys[1], 1, 200)", "substr(keys[2], 1, 200)"
        by_number = f"AND {number} IS NOT NULL ORDER BY {number} DESC, keys[2] DESC, key LIMIT 100"
        self.row(f"list(100) {label}", lambda: store.list(limit=100), lambda: plain.rows(f"{head} {tail}"))
        self.row(
            f"where, 100 {label}",
            lambda: store.list(where={"status": "s7"}, limit=100),
            lambda: plain.rows(f"{head} AND {field} = %s AND keys[1] = %s {tail}", status, status),
        )
        self.row(
            f"order_by a field, 100 {label}",
            lambda: store.list(order_by="-n", limit=100),
            lambda: plain.rows(f"{head} {by_number}"),
        )


def _pair(mine: float | None, plain: float | None, scale: float) -> str:
    """Return a figure of both sides."""
    return "".join(f"{'-':>9}" if one is None else f"{one * scale:9,.0f}" for one in (mine, plain))[1:]


@contextlib.contextmanager
def server(url: str | None) -> Iterator[str]:
    """Yield the URL of a server."""
    if url is not None:
        yield url
        return
    from tests.support.postgres import own_cluster

    # Like a server that one sets up, not one for tests; and a socket, where it can be reached without the network.
    with own_cluster("fsync=on", "shared_buffers=512MB", "autovacuum_naptime=60", "max_wal_size=2GB",
                     "unix_socket_directories=/tmp") as cluster:  # fmt: skip
        yield f"postgresql://postgres@/postgres?host=/tmp&port={cluster.port}"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="The PostgreSQL engine beside plain psycopg.")
    parser.add_argument("url", nargs="?", default=os.environ.get("SHARDSTORE_TEST_POSTGRES"))
    parser.add_argument("--quick", action="store_true", help="see that it works; the figures mean nothing")
    parser.add_argument("--out", help="write the rows to this file, as JSON")
    asked = parser.parse_args()
    with server(asked.url) as url:
        run = Run(url, f"bench_{secrets.token_hex(4)}", QUICK if asked.quick else FULL)
        try:
            run.measure()
        finally:
            run.server.close()
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute("SET client_min_messages = warning")
                for schema in (run.schema, f"{run.schema}_plain"):
                    admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    if asked.out:
        Path(asked.out).write_text(json.dumps({"plan": run.plan._asdict(), "rows": run.rows}, indent=1))


if __name__ == "__main__":
    main()
