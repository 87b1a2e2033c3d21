"""Commits that share a sync: each is acknowledged only when a sync that began after it was written has ended."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from unittest import mock

from shardstore import CommitUncertain, Draft, Session, Store
from shardstore._files import synced
from tests.support import disk

KEY = "agent:main:main"
_NAME = f"~{hashlib.blake2b(KEY.encode(), digest_size=16).hexdigest()}.jsonl"
LIMIT = 10.0  # seconds after which a scenario fails instead of hanging


class Syncs:
    """Which revisions of the session are known to be on the medium, judged by the syncs of its file."""

    def __init__(self, root: Path) -> None:
        self.count = 0
        self.safe: set[int] = set()
        self.before: Callable[[], None] = lambda: None  # called in each sync, when it has begun
        self.fails = False
        self._root = root
        self._real = os.fdatasync

    def __enter__(self) -> Self:
        os.fdatasync = self._sync
        return self

    def __exit__(self, *_: object) -> None:
        os.fdatasync = self._real

    def _sync(self, fd: int) -> None:
        if not os.readlink(f"/proc/self/fd/{fd}").endswith(_NAME):
            self._real(fd)
            return
        self.count += 1
        seen = {record["rev"] for record in disk.journal(self._root, KEY)}
        self.before()
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        self._real(fd)
        self.safe |= seen


@contextmanager
def running(calls: list[Callable[[], Any]]) -> Iterator[list[Any]]:
    """Run each call in a thread of its own; their results, or errors, are in the list when the block is over."""
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            results[number] = calls[number]()
        except BaseException as error:  # looked at by the scenario
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        for thread in threads:
            thread.join(LIMIT)
        assert not any(thread.is_alive() for thread in threads)


def wait_until(condition: Callable[[], bool], limit: float = LIMIT) -> None:
    """Wait until something is so. Fails after so many seconds."""
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.0005)


def queue_of(store: Store) -> Any:
    """Return the threads that wait for the session."""
    engine: Any = store.engine
    return engine.pool.shard(KEY).mutex.queue


def adds(number: int) -> Callable[[Draft], None]:
    def add(draft: Draft) -> None:
        draft["seen"] = [*draft.get("seen", []), number]

    return add


def together(store: Store, mutators: list[Callable[[Draft], Any]], then: Callable[[], None]) -> list[Any]:
    """Have one thread for each mutator wait for the session, in this order, and then let them all go."""
    results: list[Any] = []
    queue, began, full = queue_of(store), threading.Event(), threading.Event()

    def call(mutator: Callable[[Draft], Any]) -> Callable[[], Session]:
        return lambda: store.update(KEY, mutator)

    def hold() -> None:
        with store.using(durability="relaxed").edit(KEY):
            began.set()
            wait_until(lambda: len(queue) == len(mutators))
            full.set()
            then()

    with running([hold]) as held:
        assert began.wait(LIMIT)
        waits: list[Any] = []
        for number, mutator in enumerate(mutators):
            block = running([call(mutator)])
            waits.append((block, block.__enter__()))
            wait_until(lambda number=number: len(queue) > number or full.is_set())  # type: ignore[misc]
        for block, found in waits:
            block.__exit__(None, None, None)
            results += found
    assert held == [None], held
    return results


def patient() -> Any:
    """Have no commit sync for itself because a busy machine takes milliseconds to wake the next thread."""
    return mock.patch.object(synced, "WAIT_S", 30.0)


def commits_that_wait_share_a_sync(root: Path) -> None:
    """Eight threads that wait for one session: each has a record, in their order, and far fewer syncs than records."""
    with patient(), Store(root) as store, Syncs(root) as syncs:
        store.create(KEY, {})
        syncs.count = 0
        found = together(store, [adds(number) for number in range(8)], lambda: None)
        assert [session.rev for session in found] == list(range(2, 10)), found
        assert store[KEY]["seen"] == list(range(8))
        assert [session["seen"][-1] for session in found] == list(range(8))
        assert syncs.safe >= set(range(2, 10))
        assert syncs.count <= 4, f"{syncs.count} syncs for 8 records"
        assert len(disk.journal(root, KEY)) == 9


def each_is_acknowledged_after_its_sync(root: Path) -> None:
    """When a call returns, a sync that began after its record was written has ended."""
    early: list[int] = []
    with Store(root) as store, Syncs(root) as syncs:
        store.create(KEY, {})

        def update_often() -> None:
            for number in range(15):
                rev = store.update(KEY, adds(number)).rev
                if rev not in syncs.safe:
                    early.append(rev)

        with running([update_often] * 6) as found:
            pass
        assert found == [None] * 6, found
        assert not early, f"revisions {early} were acknowledged before a sync"
        assert store[KEY].rev == 91


def a_record_written_during_a_sync_waits_for_the_next(root: Path) -> None:
    """A sync says nothing of what was written after it began, though it ended later."""
    inside, go = threading.Event(), threading.Event()

    def slow(draft: Draft) -> None:
        inside.set()
        assert go.wait(LIMIT)
        draft["slow"] = True

    def second_is_written() -> bool:
        return len(disk.journal(root, KEY)) == 3

    with Store(root) as store, Syncs(root) as syncs:
        store.create(KEY, {})
        safe: dict[str, bool] = {}

        def while_it_syncs() -> None:
            syncs.before = lambda: None
            go.set()
            wait_until(second_is_written)
            time.sleep(0.02)  # the second one comes to its sync

        def change(draft: Draft) -> None:
            wait_until(lambda: len(queue_of(store)) == 1)
            syncs.before = while_it_syncs
            draft["first"] = True

        def one() -> None:
            safe["first"] = store.update(KEY, change).rev in syncs.safe

        def two() -> None:
            safe["second"] = store.update(KEY, slow).rev in syncs.safe

        with running([one]):
            wait_until(lambda: store.engine.pool.shard(KEY).mutex.is_free() is False)  # type: ignore[attr-defined]
            with running([two]):
                pass
        assert safe == {"first": True, "second": True}, safe


def a_slow_mutator_delays_nobody_before_it(root: Path) -> None:
    """A commit is acknowledged though the mutator that comes behind it does not end."""
    go = threading.Event()

    def slow(draft: Draft) -> None:
        assert go.wait(3 * LIMIT)
        draft["slow"] = True

    with Store(root) as store:
        store.create(KEY, {})

        def quick(draft: Draft) -> None:
            wait_until(lambda: len(queue_of(store)) == 1)
            draft["quick"] = True

        with running([lambda: store.update(KEY, quick)]) as first:
            wait_until(lambda: store.engine.pool.shard(KEY).mutex.is_free() is False)  # type: ignore[attr-defined]
            with running([lambda: store.update(KEY, slow)]):
                try:
                    wait_until(lambda: first[0] is not None, LIMIT / 2)
                    assert isinstance(first[0], Session), first
                finally:
                    go.set()


def an_exception_touches_its_own_call_alone(root: Path) -> None:
    """A mutator that raises writes nothing; those before and behind it are committed and acknowledged."""

    def fails(_draft: Draft) -> None:
        raise LookupError("mine")

    with Store(root) as store, Syncs(root) as syncs:
        store.create(KEY, {})
        found = together(store, [adds(0), fails, adds(1), fails], lambda: None)
        assert [type(one) for one in found] == [Session, LookupError, Session, LookupError]
        assert store[KEY]["seen"] == [0, 1]
        assert {found[0].rev, found[2].rev} <= syncs.safe


def a_failed_sync_fails_all_that_share_it(root: Path) -> None:
    """Nobody who waited for that sync is acknowledged; then the file is read again, and the next commit succeeds."""
    with Store(root) as store, Syncs(root) as syncs:
        store.create(KEY, {})

        def break_it() -> None:
            syncs.fails = True

        found = together(store, [adds(number) for number in range(4)], break_it)
        assert [type(one) for one in found] == [CommitUncertain] * 4, found
        syncs.fails = False
        before = store[KEY].get("seen", [])
        session = store.update(KEY, adds(9))
        assert session["seen"] == [*before, 9]
        assert session.rev in syncs.safe
        assert store.verify().ok


def only_the_first_of_a_group_follows_synced_bytes(root: Path) -> None:
    """A record says `durable` where all bytes before it were synced; those that follow it in its group do not."""
    with patient(), Store(root) as store, Syncs(root):
        store.create(KEY, {})
        together(store, [adds(number) for number in range(4)], lambda: None)
        store.patch(KEY, {"last": True})
        flags = [record.get("durable", False) for record in disk.journal(root, KEY)]
        assert flags[0]
        assert flags[-1]
        assert not all(flags), flags
