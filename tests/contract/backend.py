"""What the contract needs to know of a backend: how to open it, here and elsewhere, and whether it was written to."""

from __future__ import annotations

import atexit
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Self

from shardstore import Draft, Session, Store
from tests.contract.awaited import AwaitedStore
from tests.support import disk, leftovers, pooler
from tests.support.actions import add_one, in_child, sleep_until, wait_for
from tests.support.peer import Peer, hear, one_peer, say
from tests.support.postgres import shared_server
from tests.support.sound import check_store


class Backend(ABC):
    """One place for one store. A kind of store is held to the contract by one subclass of this, named in BACKENDS."""

    in_files: ClassVar[bool]  # tests marked `files` are for it; they may use the path `root`
    modules: ClassVar[tuple[str, ...]] = ()  # of the contract, that are run on it by default; none: all
    leaves_out: ClassVar[tuple[str, ...]] = ()  # tests that are not for it
    asked_by: ClassVar[str] = ""  # a variable of the environment, without which it is left out
    shared_between_processes: ClassVar[bool]  # tests marked `processes` are for it; then it can be pickled

    def __init__(self, root: Path) -> None:
        """`root` is a path of this test's own where nothing is yet."""
        self.root = root

    @abstractmethod
    def open(self, **options: Any) -> Store:
        """Open the one store of this test, again each time."""

    @abstractmethod
    def written(self) -> object:
        """Return something that is equal only to a later one if nothing was written to the sessions in between."""

    @abstractmethod
    def committed(self) -> object:
        """Return the same without what a creation that did not happen may leave behind."""

    @abstractmethod
    def another(self, name: str) -> Self:
        """Return a place where no store is yet."""

    @abstractmethod
    def check(self) -> None:
        """Check the store when the test ends, as tests.support.sound does."""

    def drop(self) -> None:
        """Remove the store, and what `another` made, where the path `root` is not all there is."""


class FileBackend(Backend):
    """The store in local files."""

    in_files = True
    shared_between_processes = True

    def open(self, **options: Any) -> Store:
        return Store(self.root, **options)

    def written(self) -> object:
        return disk.fingerprint(self.root)

    def committed(self) -> object:
        # An empty file is the lock of a session that was never made.
        return {name: seen for name, seen in disk.fingerprint(self.root).items() if seen[-1]}

    def another(self, name: str) -> Self:
        return type(self)(self.root.with_name(name))

    def check(self) -> None:
        """Leave it to the fixture `root`, which checks the files too."""


class MemoryBackend(Backend):
    """The store in memory, which lives as long as this object."""

    in_files = False
    shared_between_processes = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._store: Store | None = None

    def open(self, **options: Any) -> Store:
        if self._store is None:
            self._store = Store.memory()
        return self._store.using(**options)

    def written(self) -> object:
        engine: Any = self.open().engine
        return {key: list(states) for key, states in engine.sessions.items()}

    committed = written

    def another(self, name: str) -> Self:
        return type(self)(self.root.with_name(name))

    def check(self) -> None:
        if self._store is not None:
            check_store(self._store)


class PostgresBackend(Backend):
    """The store in a schema of a PostgreSQL database, which is dropped when the test ends."""

    in_files = False
    shared_between_processes = True

    def __init__(self, root: Path, server: str | None = None, through: str | None = None) -> None:
        """`server` is what the tests ask themselves; the store goes there too, or `through` a pooler."""
        super().__init__(root)
        self.server = shared_server() if server is None else server
        self.through = through or self.server
        self.schema = f"t_{blake2b(str(root).encode(), digest_size=8).hexdigest()}"

    @property
    def url(self) -> str:
        """The URL of the store."""
        return f"{self.through}{'&' if '?' in self.through else '?'}schema={self.schema}"

    def with_options(self, *settings: str) -> str:
        """Return the URL with settings of the server for every connection."""
        return f"{self.url}&options={'%20'.join('-c%20' + one.replace('=', '%3D') for one in settings)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self.server, self.through)

    def open(self, **options: Any) -> Store:
        return Store(self.url, **options)

    def written(self) -> object:
        """A lock changes only xmax of a row; xmin names the transaction that wrote it."""
        return self._rows("session", "line", "item", "archive")

    def committed(self) -> object:
        return self.written()

    def _rows(self, *tables: str) -> dict[tuple[str, str], tuple[str, str]]:
        database = kept(self.server)
        if not database.execute("SELECT to_regclass(%s)", (f"{self.schema}.line",)).fetchone()[0]:
            return {}
        return {
            (table, place): (written, row)
            for table in tables
            for place, written, row in database.execute(
                f"SELECT ctid::text, xmin::text, t::text FROM {self.schema}.{table} t"
            ).fetchall()
        }

    def another(self, name: str) -> Self:
        return type(self)(self.root.with_name(name), self.server, self.through)

    def check(self) -> None:
        if self._rows("store"):
            with self.open(create=False) as store:
                before = self.written()
                check_store(store)
                assert self.written() == before, "checking a store changed its sessions"

    def drop(self) -> None:
        """Drop the schema; a failed test may have left a transaction open, whose connection is then ended."""
        from psycopg.errors import LockNotAvailable

        database = kept(self.server)
        database.execute("SET client_min_messages = warning")
        database.execute("SET lock_timeout = '1s'")
        drop = f"DROP SCHEMA IF EXISTS {self.schema} CASCADE"
        try:
            database.execute(drop)
        except LockNotAvailable:
            database.execute(
                "SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                " WHERE c.relnamespace = %s::regnamespace AND l.pid <> pg_backend_pid()",
                (self.schema,),
            )
            database.execute(drop)


class PooledBackend(PostgresBackend):
    """The same through PgBouncer. `make test-postgres` runs a part of the contract, `make test-pooler` all of it."""

    asked_by = pooler.VARIABLE
    modules = ("test_update", "test_create", "test_log", "test_query", "test_processes", "test_watch")


@contextmanager
def connect(server: str) -> Iterator[Any]:
    """Connect to a server, past the store."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as database:
        yield database


_kept: dict[tuple[int, str], Any] = {}


def kept(server: str) -> Any:
    """Return this process's connection to a server, past the store: each test looks three times, and drops a schema."""
    import psycopg

    mine = (os.getpid(), server)  # a forked child has its parent's
    if mine not in _kept or _kept[mine].closed:
        _kept[mine] = psycopg.connect(server, autocommit=True, prepare_threshold=None)
        leftovers.share(_kept[mine].fileno())
        atexit.register(_kept[mine].close)
    return _kept[mine]


class AwaitedBackend(FileBackend):
    """The store in files behind an AsyncStore. `make test-awaited` runs all of the contract, `make test` a part."""

    leaves_out = (  # exceptions that end a loop; what holds in one thread alone
        "test_an_exception_in_a_mutator_writes_nothing_and_frees_the_lock",
        "test_the_guard_is_gone_after_a_failed_mutator",
        "test_nesting_is_seen_by_another_task_of_the_same_thread",
    )
    modules = ("test_update", "test_replace_delete", "test_nested", "test_log")

    def open(self, **options: Any) -> Any:
        return AwaitedStore(super().open(**options))


BACKENDS: dict[str, type[Backend]] = {
    "awaited": AwaitedBackend,
    "files": FileBackend,
    "memory": MemoryBackend,
    "pooled": PooledBackend,
    "postgres": PostgresBackend,
}


class Elsewhere:
    """Reads the store as another process finds it, or, of a store that one process has to itself, another Store."""

    def __init__(self, peer: Peer | None, backend: Backend) -> None:
        self._peer, self._backend = peer, backend

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args) if self._peer is None else self._peer.run(function, *args)

    def get(self, key: str) -> Session | None:
        """Read a session."""
        session: Session | None = self._run(session_of, self._backend, key)
        return session

    def __getitem__(self, key: str) -> Session:
        """Read a session that is there."""
        session: Session = self._run(call, self._backend, "__getitem__", key)
        return session

    def history(self, key: str) -> list[Session]:
        """Read the states of a session."""
        states: list[Session] = self._run(call, self._backend, "history", key)
        return states


def hold(backend: Backend, key: str) -> int:
    """In a peer: keep the session's lock until told to go on; then set a field and return the new rev."""
    with backend.open() as store:

        def wait(draft: Draft) -> None:
            say("holding")
            hear()
            draft["held"] = draft.get("held", 0) + 1

        session = store.update(key, wait)
        return session.rev


@contextmanager
def holder(backend: Backend, key: str) -> Iterator[Peer]:
    """Have another process hold the lock of a session until told."""
    with one_peer() as peer:
        peer.start(hold, backend, key)
        assert peer.heard() == "holding"
        yield peer


def call(backend: Backend, verb: str, *args: Any, **kwargs: Any) -> Any:
    """In a peer: call one verb."""
    with backend.open() as store:
        return getattr(store, verb)(*args, **kwargs)


def call_at(moment: float, backend: Backend, verb: str, *args: Any, **kwargs: Any) -> Any:
    """In a peer: call one verb at a moment that all processes share."""
    with backend.open() as store:
        sleep_until(moment)
        return getattr(store, verb)(*args, **kwargs)


def open_at(moment: float, backend: Backend, key: str) -> None:
    """In a peer: open the store, which may not exist yet, at a moment that all processes share; make a session."""
    sleep_until(moment)
    with backend.open() as store:
        store.create(key, {})


def race_to_make(moment: float, backend: Backend, key: str, me: int) -> tuple[str, dict[str, Any]]:
    """In a peer: get_or_create with a function of its own at the given moment; return version and entry."""
    with backend.open() as store:
        sleep_until(moment)
        session = store.get_or_create(key, lambda: {"maker": me})
        return session.version, session.data


def increment(backend: Backend, key: str, times: int, pause: float, durability: str) -> None:
    """In a peer: add 1 to a field again and again."""
    with backend.open(durability=durability) as store:
        for _ in range(times):
            store.update(key, lambda draft: add_one(draft, pause))


def compare_and_swap(backend: Backend, key: str, times: int) -> None:
    """In a peer: add 1 `times` times with get and replace(expect) alone, reading again after each Conflict."""
    from shardstore import Conflict

    with backend.open() as store:
        done = 0
        while done < times:
            seen = store[key]
            try:
                store.replace(key, {"n": seen["n"] + 1}, expect=seen)
            except Conflict:
                continue
            done += 1


def outcome_at(moment: float, backend: Backend, verb: str, *args: Any) -> str:
    """In a peer: call one verb at the given moment; return the class of its value or error."""
    try:
        return type(call_at(moment, backend, verb, *args)).__name__
    except Exception as error:
        return type(error).__name__


def fork_and_increment(backend: Backend, key: str, times: int) -> list[int]:
    """In a peer: fork two children of a process with an open, warm store; all three add to one counter."""
    with backend.open() as store:
        store.update(key, add_one)

        def work() -> None:
            for _ in range(times):
                store.update(key, lambda draft: add_one(draft, 0.001))

        children = [in_child(work), in_child(work)]
        work()
        return [wait_for(pid) for pid in children]


def fork_actors(backend: Backend, key: str) -> tuple[str, str, int]:
    """In a peer: update in a forked child with the default actor; return parent's pid, what is recorded, child's pid."""
    import os

    with backend.open() as store:
        store.patch(key, {"a": 1})
        mine = store[key].actor
        pid = in_child(lambda: store.patch(key, {"a": 2}))
        assert wait_for(pid) == 0
        assert mine == str(os.getpid())
        return mine, store[key].actor, pid


def session_of(backend: Backend, key: str) -> Session | None:
    """In a peer: read a session and send it back whole."""
    with backend.open() as store:
        return store.get(key)
