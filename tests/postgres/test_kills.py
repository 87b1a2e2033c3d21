"""Clients and servers are killed in the middle of everything; each acknowledged update is there, and none twice.

Run by `make test-postgres`: each test has a server of its own, with fsync on.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from shardstore import CommitUncertain, ShardStoreError, Store, StoreUnavailable
from tests.contract.backend import connect
from tests.postgres.linear import check_histories, record
from tests.support.peer import Peer, peers
from tests.support.postgres import Cluster, own_cluster, server_or_skip

pytestmark = pytest.mark.cluster

WORKERS, SECONDS = 4, 20.0
KEYS = ("agent:a", "agent:b")


def work(url: str, me: str, key: str, notes: str) -> None:
    """In a peer: add one to a counter and to a count of one's own, and an item with an id, again and again."""
    with open(notes, "a", buffering=1) as out:
        store, n = None, 0
        while True:
            n += 1

            def turn(draft: Any) -> None:
                draft["n"] = draft.get("n", 0) + 1
                draft["by"] = {**draft.get("by", {}), me: draft.get("by", {}).get(me, 0) + 1}
                draft.log.append({"by": me, "n": n}, id=f"{me}:{n}")

            try:
                store = store or Store(url, lock_timeout=30.0)
                out.write(f"try {n}\n")
                store.update(key, turn)
                out.write(f"done {n}\n")
            except CommitUncertain:
                out.write(f"unknown {n}\n")
            except ShardStoreError as error:
                out.write(f"failed {n} {type(error).__name__}\n")
                time.sleep(0.02)


class Crew:
    """Workers, of which one dies now and then."""

    def __init__(self, url: str, place: Path) -> None:
        self._url, self._place = url, place
        self._alive: list[Peer] = []
        self.notes: list[tuple[str, str, Path]] = []  # of every worker there was: its name, its key, what it noted
        self.killed = 0

    def start(self) -> None:
        """Start one more."""
        me = f"w{len(self.notes)}"
        key = KEYS[len(self.notes) % len(KEYS)]
        notes = self._place / me
        notes.touch()
        self.notes.append((me, key, notes))
        self._alive.append(Peer())
        self._alive[-1].start(work, self._url, me, key, str(notes))

    def kill(self, count: int = 1) -> None:
        """Kill some of them, wherever they are."""
        for one in random.sample(self._alive, count):
            one.kill()
            one.close()
            self._alive.remove(one)
            self.killed += 1

    def end(self) -> None:
        """Kill all."""
        self.kill(len(self._alive))


def account(store: Store, crew: Crew) -> tuple[int, int]:
    """Compare what was noted with what is there; return how many updates were acknowledged, and how many uncertain."""
    acknowledged = uncertain = 0
    for key in KEYS:
        session = store[key]
        items = [(item["by"], item["n"]) for item in session.log]
        assert len(items) == len(set(items)), "an update was made twice"
        counted = sum(session.get("by", {}).values())
        assert session.get("n", 0) == counted == len(items)
        for me, _, notes in (one for one in crew.notes if one[1] == key):
            told: dict[str, set[int]] = {}
            for line in notes.read_text().splitlines():
                word, n, *_ = line.split()
                told.setdefault(word, set()).add(int(n))
            mine = {n for by, n in items if by == me}
            assert told.get("done", set()) <= mine, f"lost: {sorted(told['done'] - mine)}"
            assert not told.get("failed", set()) & mine, "what was said to have changed nothing is there"
            open_ended = told.get("try", set()) - told.get("done", set()) - told.get("failed", set())
            assert mine - told.get("done", set()) <= open_ended
            acknowledged += len(told.get("done", set()))
            uncertain += len(told.get("unknown", set()))
    return acknowledged, uncertain


def _run(cluster: Cluster, place: Path, disturb: Any) -> tuple[int, int, int]:
    url = f"{cluster.url}?schema=kills"
    with Store(url) as store:
        for key in KEYS:
            store.create(key, {})
    crew = Crew(url, place)
    try:
        for _ in range(WORKERS):
            crew.start()
        with Store(url) as store:
            _until(store, 1)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            disturb(crew)
    finally:
        crew.end()
    with Store(url, lock_timeout=30.0) as store:
        acknowledged, uncertain = account(store, crew)
        assert store.verify().ok
    return acknowledged, uncertain, crew.killed


def test_killed_clients_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    server_or_skip()

    def disturb(crew: Crew) -> None:
        time.sleep(random.uniform(0.2, 0.8))
        crew.kill()
        crew.start()

    with own_cluster("fsync=on") as cluster:
        acknowledged, _, killed = _run(cluster, tmp_path, disturb)
    assert acknowledged > 20
    assert killed > WORKERS + 5


def test_a_killed_server_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """It is killed whole, and started again; the clients wait for it, and are told what is uncertain."""
    server_or_skip()
    kills = []

    def disturb(_crew: Crew) -> None:
        time.sleep(random.uniform(2.0, 4.0))
        cluster.kill()
        cluster.start("fsync=on")
        kills.append(1)

    with own_cluster("fsync=on") as cluster:
        acknowledged, _, _ = _run(cluster, tmp_path, disturb)
    assert acknowledged > 20
    assert len(kills) >= 2


def test_killed_backends_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """One after the other is ended by an administrator, wherever it is."""
    server_or_skip()

    def disturb(_crew: Crew) -> None:
        time.sleep(random.uniform(0.05, 0.3))
        with connect(cluster.url) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
                " WHERE application_name LIKE 'shardstore%' ORDER BY random() LIMIT 1) one"
            )

    with own_cluster("fsync=on") as cluster:
        acknowledged, _, _ = _run(cluster, tmp_path, disturb)
    assert acknowledged > 20


def test_calls_wait_for_a_server_that_restarts(tmp_path: Path) -> None:
    """An update and a read that begin while it is away succeed; one with no time to wait says so at once."""
    server_or_skip()
    with own_cluster() as cluster, Store(f"{cluster.url}?schema=outage", lock_timeout=30.0) as store:
        store.create("k", {"n": 0})
        cluster.stop()
        with pytest.raises(StoreUnavailable):
            Store(f"{cluster.url}?schema=outage")
        with store.using(lock_timeout=0) as hasty, pytest.raises(StoreUnavailable):
            hasty.patch("k", {"n": 9})
        for call, wanted in ((lambda: store.patch("k", {"n": 1}).rev, 2), (lambda: store["k"]["n"], 1)):
            again = threading.Timer(0.5, cluster.start)
            again.start()
            try:
                assert call() == wanted
            finally:
                again.join()
                cluster.stop()


def test_a_history_of_several_processes_is_linearizable(tmp_path: Path) -> None:
    """Reads and updates of five processes fit into one order; a server that restarts in the middle changes nothing."""
    server_or_skip()
    with own_cluster("fsync=on") as cluster:
        url = f"{cluster.url}?schema=linear"
        Store(url).close()
        with peers(5) as group:
            for me, one in enumerate(group):
                one.start(record, url, me, 60)
            time.sleep(1.0)
            cluster.kill()
            cluster.start("fsync=on")
            histories = [one.result() for one in group]
        check_histories(histories)


def test_stopped_clients_are_let_go(tmp_path: Path) -> None:
    """Clients that stand still in the middle of everything hold nobody up for longer than hold_timeout."""
    server_or_skip()
    with own_cluster() as cluster:
        url = f"{cluster.url}?schema=stopped&hold_timeout=1"
        with Store(url, lock_timeout=20.0) as store:
            for key in KEYS:
                store.create(key, {})
            crew = Crew(url, tmp_path)
            try:
                for _ in range(WORKERS):
                    crew.start()
                for turn in range(1, 5):
                    _until(store, 3 * turn)
                    stopped = random.sample(crew._alive, 2)
                    for one in stopped:
                        one.stop()
                    for key in KEYS:
                        store.update(key, lambda draft: draft)
                    for one in stopped:
                        one.signal(signal.SIGCONT)
            finally:
                crew.end()
            assert account(store, crew)[0] > 10


def _until(store: Store, count: int) -> None:
    """Wait until both counters have come so far, which takes long on a busy machine."""
    deadline = time.monotonic() + 60.0
    while not all(store[key].get("n", 0) >= count for key in KEYS):
        assert time.monotonic() < deadline
        time.sleep(0.05)
