"""Through PgBouncer in transaction mode: each transaction gets another connection, and nothing may stay behind on it.

Run by `make test-postgres`, which runs a part of the contract through it as well; `make test-pooler` runs all of that.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shardstore import HoldExpired, LockTimeout, Store, StoreUnavailable
from tests.contract.backend import PostgresBackend, connect, holder, increment
from tests.postgres.linear import check_histories, record
from tests.support.peer import peers
from tests.support.pooler import Pooler, pooled
from tests.support.postgres import server_or_skip

pytestmark = pytest.mark.cluster

KEY = "agent:main:main"
SHOWN = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout", "synchronous_commit")


@contextmanager
def through(root: Path, size: int = 20, **options: Any) -> Iterator[tuple[PostgresBackend, Pooler]]:
    """Yield a store through a pooler with so many connections to the server."""
    server = server_or_skip()
    with pooled(server, size=size, **options) as pooler:
        made = PostgresBackend(root, server, pooler.url())
        try:
            yield made, pooler
            made.check()
        finally:
            made.drop()


def test_more_processes_than_connections_lose_no_update(root: Path) -> None:
    with through(root, size=2) as (backend, _), backend.open() as store, peers(5) as group:
        store.create(KEY, {"n": 0})
        group.run(increment, backend, KEY, 20, 0.001, "commit")
        assert (store[KEY]["n"], store[KEY].rev) == (100, 101)
        names = [f"shardstore {pid}@%" for pid in (os.getpid(), *(one.pid for one in group))]
        with connect(backend.server) as admin:
            rows = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE ANY (%s)", (names,))
            assert rows.fetchone()[0] <= 2


def test_no_setting_stays_on_a_connection(root: Path) -> None:
    """Whoever gets the connection next has the server's own limits and durability. No lock outlives its transaction."""
    with through(root, size=1) as (backend, pooler):
        with connect(pooler.url()) as stranger:
            before = [stranger.execute(f"SHOW {name}").fetchone()[0] for name in SHOWN]
        with backend.open(lock_timeout=3.0) as store:
            store.create(KEY, {"n": 0})
            store.using(durability="relaxed").patch(KEY, {"n": 1})
            with pytest.raises(ZeroDivisionError):
                store.update(KEY, lambda draft: 1 // 0)
            store.reindex(["n"])
            store.delete(KEY)
        with connect(pooler.url()) as stranger:
            assert [stranger.execute(f"SHOW {name}").fetchone()[0] for name in SHOWN] == before
            assert stranger.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0] == 0
            assert stranger.execute("SELECT count(*) FROM pg_listening_channels()").fetchone()[0] == 0
            assert stranger.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()[0] == 0


def test_lock_timeouts_hold_and_name_the_holder(root: Path) -> None:
    with through(root) as (backend, _), backend.open(lock_timeout=0.3) as store:
        store.create(KEY, {})
        with holder(backend, KEY) as peer:
            for timeout in (0.3, 0.0):
                began = time.monotonic()
                with store.using(lock_timeout=timeout) as hasty, pytest.raises(LockTimeout) as caught:
                    hasty.patch(KEY, {"n": 1})
                assert time.monotonic() - began < 20.0
                assert caught.value.pid == peer.pid
            peer.tell()
            peer.result()
        assert store.patch(KEY, {"n": 1})["held"] == 1


def test_a_lock_timeout_holds_where_the_pooler_has_no_connection_left(root: Path) -> None:
    """A call waits for the pooler a few seconds longer than for the lock, not for the minute that an answer may take."""
    with through(root, size=1) as (backend, _), backend.open(lock_timeout=0.5) as store:
        store.create(KEY, {})
        store.create("other", {})
        with holder(backend, KEY) as peer:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.patch("other", {"n": 1})
            assert time.monotonic() - began < 40.0
            peer.tell()
            peer.result()
        assert store.patch("other", {"n": 2}).rev == 2


def test_a_client_that_stands_still_is_let_go(root: Path) -> None:
    with through(root) as (backend, _), Store(f"{backend.url}&hold_timeout=0.6", lock_timeout=8.0) as store:
        store.create(KEY, {"n": 0})
        held, go = threading.Event(), threading.Event()
        outcome: list[BaseException] = []

        def stand() -> None:
            def wait(draft: Any) -> None:
                held.set()
                go.wait(30.0)
                draft["n"] = "late"

            try:
                with Store(f"{backend.url}&hold_timeout=0.6&connect_timeout=9") as other:
                    other.update(KEY, wait)
            except BaseException as error:
                outcome.append(error)

        standing = threading.Thread(target=stand)
        standing.start()
        held.wait(30.0)
        assert store.patch(KEY, {"n": 1}).rev == 2
        go.set()
        standing.join()
        assert [type(one) for one in outcome] == [HoldExpired]
        assert store[KEY].data == {"n": 1}


def test_a_pooler_that_restarts_is_waited_for(root: Path) -> None:
    """What each process saw while it was away, and started again, fits into one order."""
    with through(root) as (backend, pooler):
        backend.open().close()
        with peers(3) as group:
            for me, one in enumerate(group):
                one.start(record, backend.url, me, 40)
            time.sleep(0.7)
            pooler.stop()
            time.sleep(0.3)
            pooler.start()
            check_histories([one.result() for one in group])


def test_statement_mode_is_refused(root: Path) -> None:
    """It would let another transaction in between the lock and the commit, so the pooler refuses to begin one."""
    server = server_or_skip()
    with PostgresBackend(root, server).open() as store:
        store.create(KEY, {"n": 0})
    made = PostgresBackend(root, server)
    try:
        with pooled(server, mode="statement") as pooler:
            other = PostgresBackend(root, server, pooler.url())
            with Store(other.url, create=False, lock_timeout=0.5) as store:
                assert store[KEY]["n"] == 0
                with pytest.raises(StoreUnavailable):
                    store.patch(KEY, {"n": 1})
                assert store[KEY]["n"] == 0
    finally:
        made.drop()
