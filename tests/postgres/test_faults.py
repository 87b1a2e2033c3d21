"""Single faults of server and network: what was acknowledged stands, and each error says what is known."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from typing import Any

import pytest

from shardstore import (
    CorruptShard,
    LockTimeout,
    Store,
    StoreIOError,
    StoreNotFound,
    StoreUnavailable,
    UnsupportedFormat,
    WatchExpired,
)
from shardstore._postgres.connection import Connection
from shardstore._postgres.values import Refused
from shardstore.engine import doctor
from tests.contract.backend import PostgresBackend, connect, holder
from tests.postgres.proxy import proxied
from tests.support.postgres import own_cluster, server_or_skip

KEY = "agent:main:main"


def test_a_network_that_breaks_before_the_commit_changes_nothing(database: PostgresBackend) -> None:
    with proxied(database.server) as proxy, Store(proxy.url(database.url)) as store:
        store.create(KEY, {"n": 0})

        def change(draft: Any) -> None:
            draft["n"] = 1
            proxy.cut()

        with pytest.raises(StoreUnavailable):
            store.update(KEY, change)
        assert store[KEY]["n"] == 0
        proxy.cut()
        assert store.patch(KEY, {"n": 5})["n"] == 5, "before the mutator ran, a broken connection is not noticed"
        proxy.cut()
        assert len(store.list()) == 1


@pytest.mark.parametrize("to_server", [True, False], ids=["to the server", "to the client"])
def test_a_half_closed_connection_changes_nothing(database: PostgresBackend, to_server: bool) -> None:
    """Idle ones are not noticed. Inside a mutator the update is refused, and its lock is free at once."""
    with proxied(database.server) as proxy, Store(proxy.url(database.url)) as store, database.open() as direct:
        store.create(KEY, {"n": 0})

        def change(draft: Any) -> None:
            draft["n"] = 1
            proxy.half_close(to_server=to_server)
            time.sleep(1.0)

        with pytest.raises(StoreUnavailable):
            store.update(KEY, change)
        assert direct.patch(KEY, {"n": 2}).rev == 2
        proxy.half_close(to_server=to_server)
        time.sleep(0.2)
        assert store.patch(KEY, {"n": 3}).rev == 3
        proxy.half_close(to_server=to_server)
        assert store[KEY]["n"] == 3


def test_a_slow_network_is_waited_for(database: PostgresBackend) -> None:
    with proxied(database.server) as proxy, Store(proxy.url(database.url), lock_timeout=30.0) as store:
        store.create(KEY, {"n": 0})
        proxy.delay = 0.15
        assert store.patch(KEY, {"n": 1})["n"] == 1
        assert store[KEY].rev == 2


def test_a_network_that_says_nothing_more_ends_a_wait(database: PostgresBackend) -> None:
    """The lock's timeout holds although no answer comes."""
    with proxied(database.server) as proxy, Store(proxy.url(database.url), lock_timeout=30.0) as store:
        store.create(KEY, {"n": 0})
        proxy.watch = lambda data, to_server: not (to_server and b"BEGIN" in data)
        began = time.monotonic()
        with pytest.raises((StoreUnavailable, LockTimeout)):
            store.using(lock_timeout=0.5).patch(KEY, {"n": 1})
        assert time.monotonic() - began < 20.0
        proxy.watch = lambda _data, _to: True
        proxy.cut()
        assert store.patch(KEY, {"n": 2}).rev == 2


def test_a_server_that_says_nothing_does_not_hide_the_next_one(database: PostgresBackend) -> None:
    """A machine that vanished answers nothing. libpq would wait for it as long as it may, and try no other."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before, after = database.url.split("@")
        url = f"{before}@127.0.0.1:{silent.getsockname()[1]},{after}&connect_timeout=2"
        with Store(url, lock_timeout=5.0) as store:
            assert store.create(KEY, {"n": 1}).rev == 1
            assert store[KEY]["n"] == 1


def test_a_server_that_may_only_be_read_is_read(database: PostgresBackend) -> None:
    with database.open() as store:
        store.create(KEY, {"n": 0})
    url = database.with_options("default_transaction_read_only=on")
    with Store(url, create=False) as store:
        assert store[KEY].data == {"n": 0}
        assert (len(store), len(store.list()), len(store.history(KEY))) == (1, 1, 1)
        assert store.verify().ok
        with pytest.raises(StoreIOError) as caught:
            store.patch(KEY, {"n": 1})
        assert caught.value.errno == errno.EROFS
    with Store(url, create=False, read_only=True) as store:
        assert store.token()


@pytest.mark.damages("a session's lines are deleted on purpose")
def test_a_session_without_any_line_is_repaired(database: PostgresBackend) -> None:
    """Nothing of it is left, so its key is free again. The items of its log go to quarantine with it."""
    with database.open() as store:
        store.append(KEY, [{"i": i, "text": "x" * 3000} for i in range(120)], {"n": 1})
        store.create("other", {"n": 0})
    s = database.schema
    with connect(database.server) as stranger:
        stranger.execute(f"DELETE FROM {s}.line l USING {s}.session s WHERE s.id = l.id AND s.key = %s", (KEY,))
        with database.open() as store:
            for verb in (store.get, lambda key: store.create(key, {}), store.delete):
                with pytest.raises(CorruptShard):
                    verb(KEY)
            assert store.verify(repair=True).ok
            assert store.verify().ok
            assert store.get(KEY) is None
            assert [(one.key, one.place, one.size) for one in store.archive.list()] == [(KEY, "quarantine", 0)]
            assert store.create(KEY, {"n": 2}).rev == 1
            assert len(store) == 2
        kept = f"SELECT count(*) FROM {s}.item WHERE log IN (SELECT settled FROM {s}.archive)"
        assert stranger.execute(kept).fetchone()[0] > 0


@pytest.mark.damages("the schema goes while the store is open")
def test_a_store_that_is_dropped_is_not_made_again_by_a_write(database: PostgresBackend) -> None:
    with database.open() as store:
        store.create(KEY, {})
        database.drop()
        for verb in (lambda: store.patch(KEY, {"n": 1}), lambda: store.get(KEY), store.list):
            with pytest.raises(StoreNotFound):
                verb()


def test_a_read_that_a_standby_ended_is_made_again(database: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby that replays a cleanup ends the reads that need the rows."""
    original, ended = Connection.run_all, []

    def refusing(self: Connection, *args: Any, **kwargs: Any) -> Any:
        if not ended:
            ended.append(1)
            raise Refused("40001", "canceling statement due to conflict with recovery")
        return original(self, *args, **kwargs)

    with database.open() as store:
        store.create(KEY, {"n": 0})
        monkeypatch.setattr(Connection, "run_all", refusing)
        assert [one.key for one in store.list(limit=5)] == [KEY]
        assert ended


def test_statements_that_a_pooler_forgot_are_sent_whole(database: PostgresBackend) -> None:
    """Behind a pooler that gives every transaction another connection no prepared statement is there."""
    with database.open() as store:
        store.create(KEY, {"n": 0})
        engine: Any = store.engine
        for connection in list(engine.connections._idle):
            connection.script("DEALLOCATE ALL")
        assert store.patch(KEY, {"n": 1}).rev == 2
        assert engine.connections.take().pooled
        assert (store[KEY]["n"], len(store.list()), store.verify().ok) == (1, 1, True)
        assert store.append(KEY, [{"text": "x" * 300_000}]).log[0]["text"]


def test_a_lock_timeout_names_the_host(database: PostgresBackend) -> None:
    """Of a session that is there, and of one that is being made."""
    with database.open(lock_timeout=1.0) as store:
        store.create(KEY, {})
        for key in (KEY, "new"):
            with holder(database, key) as peer:
                with pytest.raises(LockTimeout) as caught:
                    store.patch(key, {"n": 1})
                assert caught.value.pid == peer.pid
                assert str(caught.value.holder).startswith(f"{peer.pid}@{os.uname().nodename:.40}")
                assert f"{peer.pid}@" in str(caught.value)
                assert [(one.key, one.pid) for one in store.engine.holders()] == [(KEY, peer.pid)][: key == KEY]
                peer.tell()
                peer.result()


def test_no_connection_is_left_behind(database: PostgresBackend) -> None:
    with database.open() as store:
        store.create(KEY, {})
        store.list()
    with connect(database.server) as admin:
        deadline = time.monotonic() + 10
        while admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s", (f"shardstore {os.getpid()}@%",)
        ).fetchone()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize(("given", "advice"), [("", "got none: set PGPASSWORD"), (":wrong", "check PGPASSWORD")])
def test_a_password_that_is_refused_has_its_own_advice(given: str, advice: str) -> None:
    """Also for a database that needs one, without a word of the server being parsed."""
    server_or_skip()
    with own_cluster() as cluster:
        with connect(cluster.url) as admin:
            admin.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        rules = cluster.place / "data" / "pg_hba.conf"
        rules.write_text("host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
        with connect(cluster.url) as admin:
            admin.execute("SELECT pg_reload_conf()")
        url = cluster.url.replace("postgres@", f"guarded{given}@")
        deadline = time.monotonic() + 10.0
        while True:  # until the rules are read
            try:
                doctor(url)
            except StoreUnavailable as error:
                assert advice in error.reason
                assert "wrong" not in str(error)
                return
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_token_from_before_a_crash_says_so(database: PostgresBackend) -> None:
    """It names transactions that the server has not begun: their numbers were given out, and lost."""
    with database.open() as store:
        place = store.token().rpartition(".")[0]
        with pytest.raises(WatchExpired, match="or its server crashed"):
            store.watch(since=f"{place}.99999999:99999999:")


def test_another_encoding_is_named(database: PostgresBackend) -> None:
    name = f"latin_{database.schema}"
    with connect(database.server) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        try:
            url = re.sub(r"/[^/?]*\?", f"/{name}?", database.url)
            with pytest.raises(UnsupportedFormat, match="encoding is LATIN1;"):
                Store(url)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
