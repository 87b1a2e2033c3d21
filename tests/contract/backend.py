"""What the contract needs to know of a backend: how to open it, here and elsewhere, and whether it was written to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardstore import Session, Store
from tests.support import disk
from tests.support.actions import add_one, in_child, sleep_until, wait_for
from tests.support.peer import Peer


class FileBackend:
    """The store in local files. Another backend gives the same three methods and can be pickled."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, **options: Any) -> Store:
        """Open the one store of this test, again each time."""
        return Store(self.root, **options)

    def written(self) -> object:
        """Return something that is equal only to a later one if nothing was written to the sessions in between."""
        return disk.fingerprint(self.root)


class MemoryBackend:
    """The store in one object. Every Store of a test is a view of the first one."""

    def __init__(self) -> None:
        self._first = Store.memory()

    def open(self, **options: Any) -> Store:
        """Open the one store of this test, again each time."""
        unknown = set(options) - {"durability", "lock_timeout", "actor"}
        if unknown:
            pytest.skip(f"a store in memory has no {', '.join(sorted(unknown))}")
        return self._first.using(**options)

    def written(self) -> object:
        """Return every revision of every session."""
        return {key: list(states) for key, states in self._first.engine.sessions.items()}  # type: ignore[attr-defined]

    def close(self) -> None:
        """Let go of it."""
        self._first.close()


class Elsewhere:
    """Reads the store as another process finds it, which remembers nothing of it."""

    def __init__(self, peer: Peer, backend: FileBackend) -> None:
        self._peer, self._backend = peer, backend

    def get(self, key: str) -> Session | None:
        """Read a session."""
        session: Session | None = self._peer.run(session_of, self._backend, key)
        return session

    def __getitem__(self, key: str) -> Session:
        """Read a session that is there."""
        session: Session = self._peer.run(call, self._backend, "__getitem__", key)
        return session

    def history(self, key: str) -> list[Session]:
        """Read the states of a session."""
        states: list[Session] = self._peer.run(call, self._backend, "history", key)
        return states


def call(backend: FileBackend, verb: str, *args: Any, **kwargs: Any) -> Any:
    """In a peer: call one verb."""
    with backend.open() as store:
        return getattr(store, verb)(*args, **kwargs)


def call_at(moment: float, backend: FileBackend, verb: str, *args: Any, **kwargs: Any) -> Any:
    """In a peer: call one verb at a moment that all processes share."""
    with backend.open() as store:
        sleep_until(moment)
        return getattr(store, verb)(*args, **kwargs)


def open_at(moment: float, backend: FileBackend, key: str) -> None:
    """In a peer: open the store, which may not exist yet, at a moment that all processes share; make a session."""
    sleep_until(moment)
    with backend.open() as store:
        store.create(key, {})


def race_to_make(moment: float, backend: FileBackend, key: str, me: int) -> tuple[str, dict[str, Any]]:
    """In a peer: get_or_create with a function of its own at the given moment; return version and entry."""
    with backend.open() as store:
        sleep_until(moment)
        session = store.get_or_create(key, lambda: {"maker": me})
        return session.version, session.data


def increment(backend: FileBackend, key: str, times: int, pause: float, durability: str) -> None:
    """In a peer: add 1 to a field again and again."""
    with backend.open(durability=durability) as store:
        for _ in range(times):
            store.update(key, lambda draft: add_one(draft, pause))


def compare_and_swap(backend: FileBackend, key: str, times: int) -> None:
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


def outcome_at(moment: float, backend: FileBackend, verb: str, *args: Any) -> str:
    """In a peer: call one verb at the given moment; return the class of its value or error."""
    try:
        return type(call_at(moment, backend, verb, *args)).__name__
    except Exception as error:
        return type(error).__name__


def fork_and_increment(backend: FileBackend, key: str, times: int) -> list[int]:
    """In a peer: fork two children of a process with an open, warm store; all three add to one counter."""
    with backend.open() as store:
        store.update(key, add_one)

        def work() -> None:
            for _ in range(times):
                store.update(key, lambda draft: add_one(draft, 0.001))

        children = [in_child(work), in_child(work)]
        work()
        return [wait_for(pid) for pid in children]


def fork_actors(backend: FileBackend, key: str) -> tuple[str, str, int]:
    """In a peer: update in a forked child with the default actor; return parent's pid, what is recorded, child's pid."""
    import os

    with backend.open() as store:
        store.patch(key, {"a": 1})
        mine = store[key].actor
        pid = in_child(lambda: store.patch(key, {"a": 2}))
        assert wait_for(pid) == 0
        assert mine == str(os.getpid())
        return mine, store[key].actor, pid


def session_of(backend: FileBackend, key: str) -> Session | None:
    """In a peer: read a session and send it back whole."""
    with backend.open() as store:
        return store.get(key)
