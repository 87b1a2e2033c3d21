"""Sessions in a database: writers of several processes, on a server of the run and a schema of the scenario's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from shardstore import HoldExpired, Store
from shardstore._postgres.transaction import PostgresTransaction
from tests.contract.backend import PostgresBackend, call, connect, hold, increment, kept, open_at, race_to_make
from tests.scenarios import interrupts
from tests.support import actions
from tests.support.peer import one_peer, peers
from tests.support.postgres import shared_server

KEY = "agent:main:main"
TIMES = 25


class Serializable(PostgresBackend):
    """A database whose owner made every transaction serializable."""

    @property
    def url(self) -> str:
        return f"{super().url}&options=-c%20default_transaction_isolation%3Dserializable"


@contextmanager
def place(
    root: Path, kind: type[PostgresBackend] = PostgresBackend, *, sound: bool = True
) -> Iterator[PostgresBackend]:
    """Lend a schema, which is dropped at the end. sound: the store is whole then."""
    made = kind(root, shared_server())
    try:
        yield made
        if sound:
            made.check()
    finally:
        made.drop()


def _many_add(backend: PostgresBackend) -> None:
    with backend.open() as store, peers(3) as group:
        store.create(KEY, {"n": 0})
        group.run(increment, backend, KEY, TIMES, 0.001, "relaxed")
        assert (store[KEY]["n"], store[KEY].rev) == (3 * TIMES, 3 * TIMES + 1)


def processes_lose_no_update(root: Path) -> None:
    """Three processes add to one counter: each addition is there."""
    with place(root) as backend:
        _many_add(backend)


def no_isolation_level_of_the_server_matters(root: Path) -> None:
    """The same where transactions are serializable by default: nobody is refused."""
    with place(root, Serializable) as backend:
        _many_add(backend)


def a_waiter_sees_what_it_waited_for(root: Path) -> None:
    """Who waits for the lock acts on what the holder committed, though it began to wait before that."""
    with place(root) as backend, backend.open() as store:
        store.create(KEY, {"n": 0})
        with one_peer() as other, one_peer() as waiter:
            other.start(hold, backend, KEY)
            assert other.heard() == "holding"
            waiter.start(increment, backend, KEY, 1, 0.0, "commit")
            until_waiting(backend)
            other.tell()
            assert other.result() == 2
            waiter.result()
        assert store[KEY].data == {"n": 1, "held": 1}


def an_exception_from_outside_unlocks(root: Path, call: str = "update", step: int = 29) -> None:
    """At many bytecodes of a call: the server has no lock left, although the exception is kept, and no update is lost."""
    with place(root) as backend, backend.open(lock_timeout=interrupts.SOON_S) as store:
        store.create(KEY, {"n": 0})
        exceptions: list[BaseException] = []
        for position in range(1, 20_000, step):
            store.replace(KEY, {"n": 1})
            where = interrupts._strike(store, interrupts.CALLS[call], KEY, position, exceptions)
            began = time.monotonic()
            _lock_soon(backend, where)
            before = interrupts._number(store, KEY) or 0
            store.update(KEY, actions.add_one)
            assert interrupts._number(store, KEY) == before + 1, f"an update was lost after an exception at {where}"
            assert time.monotonic() - began < interrupts.SOON_S, f"slow after an exception at {where}"
            if not where:
                break
        assert position > step
        assert store.verify().ok


def an_exception_as_a_block_begins_unlocks(root: Path) -> None:
    """The `with` that entered the transaction never knows: it unlocks by itself, although the exception is kept."""
    real = PostgresTransaction.__enter__

    def entered(txn: PostgresTransaction) -> PostgresTransaction:
        real(txn)
        raise interrupts.FromOutside

    with place(root) as backend, backend.open(lock_timeout=interrupts.SOON_S) as store:
        store.create(KEY, {"n": 0})
        exceptions: list[BaseException] = []
        try:
            for call in ("update", "edit", "append", "delete"):
                with mock.patch.object(PostgresTransaction, "__enter__", entered):
                    try:
                        interrupts.CALLS[call](store, KEY)
                    except interrupts.FromOutside as error:
                        exceptions.append(error)
                _lock_soon(backend, call)
                store.update(KEY, actions.add_one)
            assert (len(exceptions), store[KEY]["n"]) == (4, 4)
        finally:
            exceptions.clear()  # and with them a lock that nobody let go: the schema is dropped next


def _lock_soon(backend: PostgresBackend, where: str) -> None:
    """Lock the row as another client: where the store closed its connection, the server needs a moment to notice."""
    from psycopg.errors import LockNotAvailable

    lock = f'SELECT 1 FROM "{backend.schema}".session WHERE key = %s FOR UPDATE NOWAIT'
    deadline = time.monotonic() + interrupts.SOON_S
    while True:
        try:
            kept(shared_server()).execute(lock, (KEY,))
        except LockNotAvailable:
            assert time.monotonic() < deadline, f"locked after an exception at {where}"
            time.sleep(0.001)
        else:
            return


def until_waiting(backend: PostgresBackend) -> None:
    """Wait until somebody waits for a lock in this schema."""
    deadline = time.monotonic() + 30.0
    with connect(shared_server()) as database:
        while time.monotonic() < deadline:
            found = database.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s",
                (f"%{backend.schema}%",),
            ).fetchone()[0]
            if found:
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits for the lock")


def absent_sessions_are_made_once(root: Path) -> None:
    """Processes that make the same absent sessions at the same time all get the same ones."""
    with place(root) as backend, backend.open(), peers(3) as group:
        for number in range(6):
            moment = time.monotonic() + 0.3
            for me, one in enumerate(group):
                one.start(race_to_make, moment, backend, f"{KEY}:{number}", me)
            found = {(version, str(data)) for version, data in (one.result() for one in group)}
            assert len(found) == 1, found


def the_tables_are_made_once(root: Path) -> None:
    """Processes that open a store which is not there yet, at the same moment, all find it."""
    with place(root) as backend, peers(3) as group:
        moment = time.monotonic() + 0.3
        for me, one in enumerate(group):
            one.start(open_at, moment, backend, f"k{me}")
        for one in group:
            one.result()
        with backend.open(create=False) as store:
            assert len(store) == len(group)
    import psycopg

    with place(root.with_name("again")) as backend, one_peer() as late:
        with psycopg.connect(backend.server) as first:  # it is in the middle of making the same
            first.execute(f"CREATE SCHEMA {backend.schema}")
            late.start(call, backend, "create", "k", {})
            until_waiting(backend)
        late.result()


class Impatient(PostgresBackend):
    """A store that frees a session after a moment."""

    @property
    def url(self) -> str:
        return f"{super().url}&hold_timeout=0.6"


def a_stopped_holder_is_let_go_and_refused(root: Path) -> None:
    """A client that stands still loses its lock, and its commit with it; the others go on."""
    with place(root, Impatient) as backend, backend.open(lock_timeout=8.0) as store:
        store.create(KEY, {"n": 0})
        with one_peer() as other:
            other.start(hold, backend, KEY)
            assert other.heard() == "holding"
            other.stop()
            store.patch(KEY, {"n": 1})
            other.resume()
            other.tell()
            try:
                other.result()
            except HoldExpired as error:
                assert error.key == KEY
            else:
                raise AssertionError("it was let commit")
        assert store[KEY].data == {"n": 1}


def a_commit_waits_for_the_disk_as_asked(root: Path) -> None:
    """A durable commit waits for the disk though the server was told not to; a relaxed one does not."""
    with place(root) as backend, backend.open() as store:
        store.create(KEY, {})
        with connect(backend.server) as database:
            database.execute(_WATCH.format(s=backend.schema))
        off = backend.with_options("synchronous_commit=off")
        for url, durability, wanted in (
            (off, "commit", "on"),
            (backend.url, "relaxed", "off"),
            (backend.url, "commit", "on"),
        ):
            with Store(url, durability=durability) as other:
                other.patch(KEY, {"n": wanted + durability + url[-3:]})
            with connect(backend.server) as database:
                seen = database.execute(f"SELECT how FROM {backend.schema}.seen ORDER BY n DESC LIMIT 1").fetchone()[0]
            assert seen == wanted, (durability, seen)


def a_history_that_became_shorter_is_no_damage(root: Path) -> None:
    """A standby that took over may lack what this process has seen. It reads and writes what is there, as after a backup."""
    with place(root) as backend, backend.open() as store:
        store.create(KEY, {"n": 0})
        before = store.patch(KEY, {"n": 1})
        s = backend.schema
        with connect(backend.server) as database:
            database.execute(f"CREATE TABLE {s}.before AS SELECT * FROM {s}.session")
            for read_last, verb in ((True, store.get), (False, lambda key: store.patch(key, {"m": 1}))):
                store.patch(KEY, {"n": 2})
                database.execute(f"""BEGIN; DELETE FROM {s}.line WHERE n > 2; DELETE FROM {s}.session;
                    INSERT INTO {s}.session SELECT * FROM {s}.before; COMMIT""")
                assert verb(KEY)["n"] == 1, "a change that is lost is shown"
                assert (store[KEY].version == before.version) is read_last


_WATCH = """
CREATE TABLE {s}.seen (n bigint GENERATED ALWAYS AS IDENTITY, how text);
CREATE FUNCTION {s}.see() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO {s}.seen (how) VALUES (current_setting('synchronous_commit')); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER see AFTER INSERT ON {s}.line DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION {s}.see();
"""
