"""Single faults of a database, its network, and the people who change its tables: each error says what is known."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from shardstore import (
    CommitUncertain,
    CorruptShard,
    LockTimeout,
    ShardStoreError,
    Store,
    StoreIOError,
    StoreNotFound,
    StoreUnavailable,
    UnsupportedFormat,
    WatchExpired,
)
from shardstore._postgres import watching
from shardstore._postgres.connection import Connection
from shardstore._postgres.engine import PostgresEngine
from tests.contract.backend import PostgresBackend, connect, holder
from tests.postgres.proxy import Proxy, proxied
from tests.scenarios.postgres import KEY, place, until_waiting
from tests.support.actions import add_one, in_child, wait_for
from tests.support.peer import hear, one_peer, say


def refused(kind: type[ShardStoreError], verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the error of this class that a call raises."""
    try:
        result = verb(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"not {kind.__name__}, but {result!r}")


def terminate(database: PostgresBackend) -> int:
    """Have the server end every connection of this process to it; return how many."""
    with connect(database.server) as admin:
        rows = admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE %s",
            (f"shardstore {os.getpid()}@%",),
        ).fetchall()
    return len(rows)


# Lost connections


def a_lost_answer_to_commit_is_uncertain(root: Path) -> None:
    """Whether the server got the COMMIT or not. A caller that repeats what changed nothing adds once."""
    with (
        place(root) as database,
        proxied(database.server) as proxy,
        database.open() as direct,
        Store(proxy.url(database.url)) as store,
    ):
        direct.create(KEY, {"n": 0})
        store.get(KEY)
        for wanted, arrives in enumerate((False, True), 1):
            _lose_the_answer(proxy, arrives=arrives)
            assert _add_once(store, direct, proxy) == ["uncertain"]
            assert (direct[KEY]["n"], store[KEY]["n"]) == (wanted, wanted)


def _lose_the_answer(proxy: Proxy, *, arrives: bool) -> None:
    def cut(data: bytes, to_server: bool) -> bool:
        if to_server and b"COMMIT\0" in data:
            proxy.watch = lambda _data, to: to  # no answer comes back
            threading.Timer(0.1, proxy.cut).start()
            return arrives
        return True

    proxy.watch = cut


def _add_once(store: Store, direct: Store, proxy: Proxy) -> list[str]:
    """Add one as a careful caller does; return which errors it met."""
    before, met = direct[KEY]["n"], list[str]()
    while True:
        try:
            store.update(KEY, add_one)
        except (CommitUncertain, StoreUnavailable) as error:
            proxy.watch = lambda _data, _to: True
            with direct.edit(KEY):  # the server knows by now that the other one is gone
                pass
            met.append("uncertain" if isinstance(error, CommitUncertain) else "changed nothing")
            if isinstance(error, StoreUnavailable) or direct[KEY]["n"] == before:
                continue
        return met


def a_connection_that_ends_inside_a_mutator_changes_nothing(root: Path) -> None:
    """That is known before COMMIT is sent, so it is not uncertain."""
    with place(root) as database, database.open() as store:
        store.create(KEY, {"n": 0})

        def change(draft: Any) -> None:
            draft["n"] = 1
            terminate(database)

        assert "nothing was changed" in str(refused(StoreUnavailable, store.update, KEY, change))
        assert (store[KEY].data, store[KEY].rev) == ({"n": 0}, 1)
        assert store.patch(KEY, {"n": 2}).rev == 2


def idle_connections_that_the_server_ended_are_not_noticed(root: Path) -> None:
    """Not even by what waits for no server: opening the store once more."""
    with place(root) as database, database.open() as store:
        store.create(KEY, {"n": 0})
        verbs: tuple[Callable[[], Any], ...] = (
            lambda: store.patch(KEY, {"n": 1}),
            lambda: store[KEY],
            store.list,
            lambda: database.open().close(),
        )
        for verb in verbs:
            assert terminate(database) >= 1
            verb()
        assert store[KEY].rev == 2


def a_connection_that_breaks_at_the_lock_is_not_noticed(root: Path) -> None:
    """Nobody's function has run yet, so the store tries again."""
    with place(root) as database, proxied(database.server) as proxy, Store(proxy.url(database.url)) as store:
        store.create(KEY, {"n": 0})

        def cut(data: bytes, to_server: bool) -> bool:
            if to_server and b"BEGIN" in data:
                proxy.watch = lambda _data, _to: True
                proxy.cut()
                return False
            return True

        proxy.watch = cut
        assert store.update(KEY, add_one)["n"] == 1


def a_commit_that_a_standby_may_lack_is_uncertain(root: Path) -> None:
    """The server says so in a warning as it commits, when somebody cancelled its wait for a standby."""
    with place(root) as database, database.open() as store:
        store.create(KEY, {"n": 0})
        _have(database, "line", "RAISE WARNING 'no wait for the standby'; RETURN NULL;", _DEFERRED)
        assert "standby" in str(refused(CommitUncertain, store.patch, KEY, {"n": 1}))
        assert store[KEY]["n"] == 1


# Forks. They run in a peer: a forked child of the test run would inherit its threads' locks half taken.


def a_forked_child_has_connections_of_its_own(root: Path) -> None:
    """What the child locks is locked for its parent too: on one connection both would be the same client."""
    with place(root) as database, one_peer() as peer:
        assert peer.run(_lock_in_a_child, database) == "locked"


def _lock_in_a_child(backend: PostgresBackend) -> str:
    (held_in, held_out), (go_in, go_out) = os.pipe(), os.pipe()

    def hold() -> None:
        os.close(go_out)

        def wait(draft: Any) -> None:
            os.write(held_out, b"!")
            os.read(go_in, 1)
            draft["child"] = True

        store.update(KEY, wait)

    with backend.open(lock_timeout=0.3) as store:
        store.create(KEY, {"n": 0})
        child = in_child(hold)
        try:
            os.read(held_in, 1)
            outcome = _outcome(lambda: store.patch(KEY, {"n": 1}))
        finally:
            for end in (go_out, go_in, held_in, held_out):
                os.close(end)
            ended = wait_for(child)
        if outcome == "locked":
            assert (ended, store[KEY].data) == (0, {"n": 0, "child": True})
        return outcome


def _outcome(verb: Callable[[], object]) -> str:
    try:
        verb()
    except LockTimeout:
        return "locked"
    except ShardStoreError as error:
        return repr(error)
    return "not locked"


def a_child_does_not_keep_the_lock_of_its_dead_parent(root: Path) -> None:
    """A parent that forks inside its mutator and dies there frees the session, though its child lives on."""
    with place(root) as database, database.open(lock_timeout=10.0) as store:
        store.create(KEY, {"n": 0})
        with one_peer() as parent:
            parent.start(_fork_inside, database)
            child = parent.heard()
            try:
                parent.kill()
                assert store.patch(KEY, {"n": 1}).rev == 2
            finally:
                os.kill(child, 9)


def _fork_inside(backend: PostgresBackend) -> None:
    def fork(_draft: Any) -> None:
        child = os.fork()
        if not child:
            threading.Event().wait(60.0)
            os._exit(0)
        say(child)
        hear()

    with backend.open() as store:
        store.update(KEY, fork)


# What somebody else did to the tables


def other_tables_are_refused(root: Path) -> None:
    """A newer format, also under an open store, tables of somebody else, a store that is gone: nothing is made."""
    with place(root, sound=False) as database, database.open() as store, connect(database.server) as stranger:
        store.create(KEY, {"n": 0})
        s = database.schema
        stranger.execute(f"UPDATE {s}.store SET format = 2, generation = generation + 1")
        assert "format 2" in str(refused(UnsupportedFormat, lambda: Store(f"{database.url}&connect_timeout=9")))
        refused(UnsupportedFormat, store.patch, KEY, {"n": 1})
        refused(UnsupportedFormat, store.create, "new", {})
        refused(UnsupportedFormat, store.list)
        stranger.execute(f"DROP TABLE {s}.store; CREATE TABLE {s}.store (name text)")
        refused(UnsupportedFormat, database.open)
        stranger.execute(f"UPDATE {s}.session SET key = key; DROP SCHEMA {s} CASCADE")
        refused(StoreNotFound, database.open, create=False)


def a_changed_byte_is_damage(root: Path) -> None:
    """In a line that others follow."""
    _is_damage(root, "UPDATE {s}.line SET line = set_byte(line, 60, get_byte(line, 60) # 1) WHERE n = 2")


def a_changed_value_is_damage(root: Path) -> None:
    """In the last line, which is as well-formed as before."""
    _is_damage(
        root, "UPDATE {s}.line SET line = replace(convert_from(line, 'UTF8'), '\"n\":2', '\"n\":7')::bytea WHERE n = 3"
    )


def a_line_between_others_that_is_gone_is_damage(root: Path) -> None:
    """Somebody deleted it."""
    _is_damage(root, "DELETE FROM {s}.line WHERE n = 2")


def a_last_line_that_is_gone_is_damage(root: Path) -> None:
    """The lines before it are whole: they lead to an old state."""
    _is_damage(root, "DELETE FROM {s}.line WHERE n = 3")


def a_row_that_is_gone_is_damage(root: Path) -> None:
    """Its lines are there, so the session is not absent."""
    _is_damage(root, "DELETE FROM {s}.session WHERE key = '" + KEY + "'")


def _is_damage(root: Path, change: str) -> None:
    """It is CorruptShard, never an old or an absent session; verify names it, and brings back what is whole."""
    with place(root) as database:
        with database.open() as store:
            store.create(KEY, {"n": 0, "kept": "yes"})
            store.patch(KEY, {"n": 1})
            store.patch(KEY, {"n": 2})
            store.create("other", {"n": 0})
        with connect(database.server) as stranger:
            assert stranger.execute(change.format(s=database.schema)).rowcount == 1
        with database.open() as store:
            for verb in (store.get, store.history, lambda key: store.patch(key, {"n": 9}), store.exists):
                refused(CorruptShard, verb, KEY)
            assert store["other"]["n"] == 0
            assert [problem.kind for problem in store.verify().problems] == ["damaged"]
            assert store.verify(repair=True).ok
            assert store.verify().ok
            assert store[KEY]["kept"] == "yes"
            assert store.patch(KEY, {"n": 9})["n"] == 9
            assert [one.place for one in store.archive.list()] == ["quarantine"]


def a_changed_item_costs_that_item(root: Path) -> None:
    """Of a log; the fields and the other items go on."""
    with place(root) as database, database.open() as store:
        store.append(KEY, [{"i": i, "text": "x" * 3000} for i in range(120)], {"n": 1})
        with connect(database.server) as stranger:
            changed = "replace(convert_from(line, 'UTF8'), '\"i\":7,', '\"i\":8,')::bytea"
            stranger.execute(f"UPDATE {database.schema}.item SET line = {changed} WHERE n = 7")
        assert store[KEY]["n"] == 1
        assert store[KEY].log[-1]["i"] == 119
        assert "item 7" in str(refused(CorruptShard, lambda: store[KEY].log[0:10]))
        assert store.append(KEY, [{"i": 120}]).log[-1] == {"i": 120}
        assert [problem.kind for problem in store.verify().problems] == ["log"]
        assert store.verify(repair=True).ok
        assert [item["i"] for item in store[KEY].log] == [i for i in range(121) if i != 7]


def a_damaged_archived_copy_stays_where_it_is(root: Path) -> None:
    """Bringing it back would make an old state of it."""
    with place(root) as database, database.open() as store:
        store.create(KEY, {"n": 0})
        store.patch(KEY, {"n": 1})
        store.prune(older_than=0)
        with connect(database.server) as stranger:
            changed = "replace(convert_from(journal, 'UTF8'), '\"n\":1', '\"n\":7')::bytea"
            stranger.execute(f"UPDATE {database.schema}.archive SET journal = {changed}")
        refused(CorruptShard, store.archive.restore, KEY)
        assert not store.exists(KEY)
        assert [one.key for one in store.archive.list()] == [KEY]


def a_row_that_a_trigger_keeps_as_it_was_changes_nothing(root: Path) -> None:
    """Neither a change nor a rewrite is acknowledged, and no line is gone."""
    with place(root) as database, database.open() as store:
        store.create(KEY, {"n": 0})
        store.patch(KEY, {"n": 1})
        _have(database, "session", "RETURN NULL;", "CREATE TRIGGER stop BEFORE UPDATE ON {s}.{table}")
        refused(StoreIOError, store.patch, KEY, {"n": 2})
        refused(StoreIOError, store.erase_history, KEY)
        assert [one["n"] for one in store.history(KEY)] == [0, 1]


_DEFERRED = "CREATE CONSTRAINT TRIGGER stop AFTER INSERT ON {s}.{table} DEFERRABLE INITIALLY DEFERRED"


def _have(database: PostgresBackend, table: str, body: str, trigger: str) -> None:
    """Create a trigger, as a database's owner may."""
    with connect(database.server) as owner:
        owner.execute(
            f"CREATE FUNCTION {database.schema}.act() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$;"
            f"{trigger.format(s=database.schema, table=table)} FOR EACH ROW EXECUTE FUNCTION {database.schema}.act()"
        )


def another_history_of_the_same_length_is_read_anew(root: Path) -> None:
    """A standby that took over lacked the last line, and somebody else wrote other ones in its place."""
    with (
        place(root) as database,
        database.open() as store,
        Store(f"{database.url}&connect_timeout=9") as other,
        connect(database.server) as server,
    ):
        s = database.schema
        store.create(KEY, {"n": 0})
        server.execute(f"CREATE TABLE {s}.before AS SELECT * FROM {s}.session")
        store.patch(KEY, {"lost": 1})
        server.execute(f"""BEGIN; DELETE FROM {s}.line WHERE n > 1; DELETE FROM {s}.session;
            INSERT INTO {s}.session SELECT * FROM {s}.before; COMMIT""")
        other.patch(KEY, {"n": 1})
        other.patch(KEY, {"m": 1})
        assert store[KEY].data == {"n": 1, "m": 1}


# Watching


def a_late_commit_is_news(root: Path) -> None:
    """A transaction that began before a token was taken, and ends after it, is not missed."""
    with place(root) as database, database.open() as store:
        store.create(KEY, {"n": 0})
        with holder(database, KEY) as other:
            store.create("early", {})
            token = store.token()
            other.tell()
            other.result()
        assert [change.key for change in store.watch(since=token, timeout=0)] == [KEY]


def a_token_from_before_what_is_forgotten_is_refused(root: Path) -> None:
    """Nobody knows any more which sessions went since; a watcher that went on would miss them."""
    with place(root) as database, database.open() as store:
        store.create(KEY, {"n": 0})
        token = store.token()
        store.delete(KEY)

        def is_too_old() -> bool:
            """What went is kept while anybody's older transaction runs; other tests have theirs."""
            with mock.patch.object(watching, "_GONE_MAX", 0):
                store.compact()
            try:
                return not list(store.watch(since=token, timeout=0))
            except WatchExpired:
                return True

        deadline = time.monotonic() + 30
        while not is_too_old():
            assert time.monotonic() < deadline, "it is kept"
            time.sleep(0.01)
        refused(WatchExpired, lambda: list(store.watch(since=token, timeout=0)))
        assert list(store.watch(since=store.token(), timeout=0)) == []


def a_token_of_now_is_not_too_old(root: Path) -> None:
    """A session goes while somebody's transaction runs, and is forgotten: that concerns older tokens alone."""
    with place(root) as database, database.open() as store, connect(database.server) as admin:
        store.create(KEY, {"n": 0})
        with admin.transaction():
            admin.execute("SELECT pg_current_xact_id()")
            store.delete(KEY)
            with mock.patch.object(watching, "_GONE_MAX", 0):
                store.compact()
            assert list(store.watch(since=store.token(), timeout=0)) == []


# Settings that another process changed


def who_knows_old_settings_writes_what_lists_find(root: Path) -> None:
    """A process that was there before `reindex` changes a session, and makes one that is new and one that was deleted."""
    with place(root) as database, database.open() as store:
        for verb in ("patch", "create", "replace"):
            with Store(f"{database.url}&connect_timeout=9") as other:
                store.replace("old", {})
                store.replace("again", {})
                store.delete("again")
                other.get("old")
                store.reindex([verb])
                key = {"patch": "old", "create": f"new {verb}", "replace": "again"}[verb]
                getattr(other, verb)(key, {verb: 2})
                assert [info.key for info in store.list(where={verb: 2})] == [key], verb


def who_waited_through_a_reindex_writes_what_lists_find(root: Path) -> None:
    """Its statement began before the settings changed, and got the lock behind the one that wrote the row anew."""
    renewed = "UPDATE {s}.session SET generation = 1, keys = '{{NULL}}'"
    _wait_through_a_reindex(root, renewed, lambda store: store.create(KEY, {"n": 0}))


def who_makes_a_deleted_session_through_a_reindex_writes_what_lists_find(root: Path) -> None:
    """The same of a row that `reindex` left as it was, for its session is deleted."""
    locked = "SELECT FROM {s}.session FOR UPDATE"
    _wait_through_a_reindex(root, locked, lambda store: (store.create(KEY, {"n": 0}), store.delete(KEY)))


def _wait_through_a_reindex(root: Path, done: str, begin: Callable[[Store], object]) -> None:
    with place(root) as database, database.open() as store, connect(database.server) as server:
        begin(store)
        s = database.schema
        server.execute("BEGIN")
        server.execute(done.format(s=s))
        waiter = threading.Thread(target=store.patch, args=(KEY, {"n": 2}))
        waiter.start()
        try:
            until_waiting(database)
            with connect(database.server) as another:
                another.execute(f"""UPDATE {s}.store SET indexed = '["n"]', generation = 1, ready = 1""")
        finally:
            server.execute("COMMIT")
            waiter.join()
        assert [info.key for info in store.list(where={"n": 2})] == [KEY]


def the_settings_of_the_lock_hold_until_the_commit(root: Path) -> None:
    """Though another thread, whose answer is older and came late, puts old ones in their place."""
    with place(root) as database, database.open() as store, Store(f"{database.url}&connect_timeout=9") as other:
        store.create(KEY, {"n": 0})
        engine: Any = other.engine
        old = engine.rows
        store.reindex(["n"])

        def change(draft: Any) -> None:
            engine.rows = old
            draft["n"] = 2

        other.update(KEY, change)
        assert [info.key for info in store.list(where={"n": 2})] == [KEY]


def a_list_is_of_one_state_of_the_settings(root: Path) -> None:
    """Though another thread of its process learns of new ones while the server answers."""
    with place(root) as database, database.open(indexed=["a"]) as store:
        engine: Any = store.engine
        store.create("first", {"a": 1, "b": 9})
        store.create("second", {"a": 2, "b": 0})

        def reindexed(original: Callable[..., Any], field: str, *, first: bool) -> Callable[..., Any]:
            """Return a method that has another process reindex, and this one learn it, when it is called first."""
            due = [field]

            def call(self: Any, *args: Any, **kwargs: Any) -> Any:
                if not due:
                    return original(self, *args, **kwargs)
                fields = [due.pop()]
                result = original(self, *args, **kwargs) if first else None
                with Store(f"{database.url}&connect_timeout=9") as other:
                    other.reindex(fields)
                engine.connections.using(engine.reread)
                return result if first else original(self, *args, **kwargs)

            return call

        with mock.patch.object(PostgresEngine, "reread", reindexed(PostgresEngine.reread, "b", first=True)):
            assert store.count(where={"b": 0}) == 1
        with mock.patch.object(Connection, "run_all", reindexed(Connection.run_all, "a", first=False)):
            assert [info.key for info in store.list(order_by="b", limit=1)] == ["second"]


# Batches


def a_durable_batch_is_on_disk(root: Path) -> None:
    """The server wrote its log as far as the commits of a batch before the verb returned."""
    with place(root) as database, database.open() as store, connect(database.server) as server:
        s = database.schema
        store.create(KEY, {})
        server.execute(f"CREATE TABLE {s}.seen (at pg_lsn)")
        _have(database, "session", f"INSERT INTO {s}.seen VALUES (pg_current_wal_insert_lsn()); RETURN NULL;", _ROWS)
        for turn in range(20):
            store.create_many({f"{turn}:{n}": {} for n in range(2)})
            (behind,) = server.execute(
                f"SELECT count(*) FROM {s}.seen WHERE at > pg_current_wal_flush_lsn()"
            ).fetchone()
            assert not behind, f"{behind} commits are in memory alone"


_ROWS = "CREATE CONSTRAINT TRIGGER stop AFTER UPDATE ON {s}.{table} DEFERRABLE INITIALLY DEFERRED"
