"""All workers of a test run hammer one store; whoever finishes last checks that nothing was lost and removes it."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shardstore import LockTimeout, Store
from tests.conftest import verify, working_directory
from tests.stress.conftest import PARTS
from tests.support import actions
from tests.support.peer import peers

WORKERS_HELPERS = 2  # processes each part starts beside its own threads
SECONDS = 3.0
FEWEST = 6  # updates of shared sessions that each of a part's four threads and processes does
SHARED = [f"shared:{n}" for n in range(6)]


@pytest.fixture
def arena(request: pytest.FixtureRequest, testrun_uid: str) -> Path:
    """Return the directory that all parts of this run share, named by the run."""
    del request
    base = Path(working_directory() or tempfile.gettempdir(), f"shardstore-hammer-{testrun_uid}")
    base.mkdir(mode=0o700, exist_ok=True)
    return base


@contextmanager
def _ledger(arena: Path) -> Iterator[dict[str, Any]]:
    """Read and write what the parts have done, one at a time, by a lock that has nothing to do with the store's."""
    fd = os.open(arena / "ledger.json", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        book = json.loads(
            os.pread(fd, 1 << 20, 0) or b'{"begun": 0, "done": 0, "failed": false, "added": {}, "private": {}}'
        )
        yield book
        data = json.dumps(book).encode()
        os.ftruncate(fd, 0)
        os.pwrite(fd, data, 0)
    finally:
        os.close(fd)


@pytest.mark.hammer
@pytest.mark.parametrize("part", range(4))
def test_all_workers_hammer_one_store(request: pytest.FixtureRequest, arena: Path, part: int) -> None:
    """Nothing that any process of any worker was told is committed is missing at the end, and the store is whole."""
    expected = request.config.stash[PARTS]
    with _ledger(arena) as book:
        book["begun"] += 1
    root = arena / "sessions"
    added: dict[str, int] = {}
    private: dict[str, Any] = {}
    failed = True
    try:
        with peers(WORKERS_HELPERS) as group:
            stop = time.monotonic() + SECONDS  # once they run: on a busy machine that alone may take seconds
            for helper, peer in enumerate(group):
                peer.start(hammer, str(root), f"{part}-{helper}", stop)
            threads = [actions.in_background(hammer, str(root), f"{part}-t{n}", stop) for n in range(2)]
            outcomes = [wait(60.0) for wait in threads] + [peer.result() for peer in group]
        for counts, mine in outcomes:
            private.update(mine)
            for key, count in counts.items():
                added[key] = added.get(key, 0) + count
        assert sum(added.values()) > 20, "hardly anything was done"
        failed = False
    finally:
        with _ledger(arena) as book:
            book["done"] += 1
            book["failed"] = book["failed"] or failed
            book["private"].update(private)
            for key, count in added.items():
                book["added"][key] = book["added"].get(key, 0) + count
            last = book["done"] == expected
            whole = not book["failed"]
            totals, everything = dict(book["added"]), dict(book["private"])
        if last:
            try:
                if whole:
                    check(root, totals, everything)
            finally:
                shutil.rmtree(arena)


def check(root: Path, totals: dict[str, int], private: dict[str, Any]) -> None:
    """Compare the store with what everybody was told."""
    with Store(root) as store:
        for key, total in totals.items():
            assert sum(store[key]["by"].values()) == total, f"{key}: {store[key]['n']} of {total}"
            assert store[key]["n"] == total
        alive = {key: value for key, value in private.items() if value is not None}
        for key, value in private.items():
            session = store.get(key)
            assert (None if session is None else session["value"]) == value, key
        assert set(store) == set(alive) | set(totals)
        listed = {info.key: info.rev for info in store.list()}
        assert listed == {key: store[key].rev for key in listed}
        assert set(listed) == set(alive) | set(totals)
    verify(root)


def hammer(root: str, me: str, stop: float) -> tuple[dict[str, int], dict[str, Any]]:
    """Run a busy host's mix of operations until the time is up; return what was acknowledged."""
    rng = random.Random(me)
    added: dict[str, int] = {}
    private: dict[str, Any] = {}
    with Store(root, durability=rng.choice(["commit", "relaxed"]), lock_timeout=30.0) as store:
        number = 0
        while time.monotonic() < stop or sum(added.values()) < FEWEST:  # a busy machine may take the whole time
            number += 1
            what = rng.random()
            if what < 0.55:
                key = rng.choice(SHARED)
                try:
                    store.update(key, lambda draft: _add(draft, me, rng))
                except LockTimeout:
                    raise AssertionError("30 s were not enough") from None
                added[key] = added.get(key, 0) + 1
            elif what < 0.75:
                key = f"private:{me}:{rng.randrange(30)}"
                store.patch(key, {"value": number, "blob": "x" * rng.choice([10, 1_000, 20_000])})
                private[key] = number
                assert store[key]["value"] == number
            elif what < 0.80:
                key = f"private:{me}:{rng.randrange(30)}"
                assert store.delete(key) is (private.get(key) is not None)
                private[key] = None
            elif what < 0.95:
                key = rng.choice(SHARED)
                session = store.get(key)
                if session is not None:
                    assert sum(session["by"].values()) == session["n"], "a torn entry"
            elif what < 0.99:
                seen = {info.key: info.fields["value"] for info in store.list(prefix=f"private:{me}:")}
                assert seen == {key: value for key, value in private.items() if value is not None}
            else:
                assert store.compact().ok
    return added, private


def _add(draft: Any, me: str, rng: random.Random) -> None:
    seen = draft.get("n", 0)
    by = draft.setdefault("by", {})
    if rng.random() < 0.1:
        time.sleep(0.001)
    by[me] = by.get(me, 0) + 1
    draft["n"] = seen + 1
    draft["padding"] = "p" * rng.randrange(3_000)
