"""A standby: it is read, refuses writes by a typed error, and takes over; what that loses is named.

Run by `make test-postgres`: each test has servers of its own, with fsync on.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shardstore import CommitUncertain, Store, StoreIOError, WatchExpired
from tests.contract.backend import connect
from tests.postgres.proxy import Proxy, proxied
from tests.postgres.test_kills import KEYS, WORKERS, Crew, account
from tests.support.postgres import Cluster, own_cluster, server_or_skip

pytestmark = pytest.mark.cluster

KEY = "agent:main:main"


@contextmanager
def pair() -> Iterator[tuple[Cluster, Cluster, Proxy]]:
    """Run a server, a standby that follows it, and the network between them."""
    server_or_skip()
    with (
        own_cluster("fsync=on") as primary,
        proxied(primary.url) as network,
        own_cluster("fsync=on", follows=network.url(primary.url)) as standby,
    ):
        yield primary, standby, network


def url(*servers: Cluster) -> str:
    """Return the URL of a store on whichever of these servers takes writes."""
    hosts = ",".join(f"127.0.0.1:{one.port}" for one in servers)
    return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write&schema=failover"


def replica(standby: Cluster) -> str:
    """Return the URL of the store as the standby has it."""
    return f"{standby.url}?schema=failover"


def until(seen: Callable[[], object], what: str) -> None:
    """Wait for something that comes soon."""
    deadline = time.monotonic() + 60.0
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def shipped(primary: Cluster, standby: Cluster) -> None:
    """Wait until the standby has all that was committed."""
    with connect(primary.url) as one, connect(standby.url) as other:
        end = one.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
        until(
            lambda: other.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (end,)).fetchone()[0],
            "the standby does not follow",
        )


def test_a_standby_is_read_and_refuses_writes() -> None:
    with pair() as (primary, standby, _), Store(url(primary), indexed=["n"]) as store:
        for n in range(3):
            store.create(f"k{n}", {"n": n})
        store.append("k0", [{"text": "x" * 3000, "i": i} for i in range(120)])
        store.prune(where={"n": 2})
        shipped(primary, standby)
        with Store(replica(standby), read_only=True) as reader:
            _read_all(reader)
            token = reader.token()
            store.patch("k1", {"n": 5})
            shipped(primary, standby)
            assert [(one.key, one.kind) for one in reader.watch(since=token, timeout=0)] == [("k1", "changed")]
        with Store(replica(standby)) as writer:
            _read_all(writer)
            _refused(writer)
        with pytest.raises(StoreIOError, match="standby") as caught:
            Store(f"{standby.url}?schema=never_made")
        assert caught.value.errno == errno.EROFS


def _read_all(store: Store) -> None:
    assert sorted(store) == ["k0", "k1"]
    assert store["k0"].log[7]["i"] == 7
    assert [one.key for one in store.list(where={"n": (">=", 0)}, order_by="-n")] == ["k1", "k0"]
    assert store.history("k0")
    assert [one.key for one in store.archive.list()] == ["k2"]
    assert store.stats().sessions == 2
    assert store.verify().ok


def _refused(store: Store) -> None:
    """Every verb that writes says why it cannot, and nothing else."""
    verbs: list[Callable[[], object]] = [
        lambda: store.patch("k0", {"n": 1}),
        lambda: store.create("new", {}),
        lambda: store.delete("k0"),
        lambda: store.rename("k0", "k9"),
        lambda: store.append("k0", [{}]),
        lambda: store.create_many([("new", {})]),
        lambda: store.delete_all("k"),
        lambda: store.prune(where={"n": 0}),
        lambda: store.archive.restore("k2"),
        lambda: store.archive.purge(0),
        lambda: store.reindex(["m"]),
        lambda: store.erase_history("k0"),
    ]
    for n, verb in enumerate(verbs):
        with pytest.raises(StoreIOError, match="standby") as caught:
            verb()
            pytest.fail(f"verb {n} was let write")
        assert caught.value.errno == errno.EROFS, n


def test_a_watcher_of_a_standby_misses_no_late_commit() -> None:
    """A standby does not say which transactions are still open. One that commits late is news all the same, once."""
    with pair() as (primary, standby, _), Store(url(primary)) as store:
        store.create("late", {"n": 0})
        store.create("early", {"n": 0})
        shipped(primary, standby)
        with Store(replica(standby), read_only=True) as reader:
            watch = reader.watch()
            with store.edit("late") as draft:
                draft["n"] = 1  # its lock has given the transaction its number
                store.patch("early", {"n": 1})
                shipped(primary, standby)
                assert [one.key for one in watch.ready()] == ["early"]
                store.patch("early", {"n": 2})
                shipped(primary, standby)
                assert [(one.key, one.rev) for one in watch.ready()] == [("early", 3)]
                assert watch.ready() == []
            shipped(primary, standby)
            assert [one.key for one in watch.ready()] == ["late"]
            assert watch.ready() == []
            watch.close()


def test_an_asynchronous_standby_lacks_what_was_not_shipped() -> None:
    """What was acknowledged and not shipped is lost, and that alone. A client that goes on sees it, as no damage."""
    with pair() as (primary, standby, network), Store(url(primary, standby), lock_timeout=60.0) as store:
        acknowledged = [store.create(KEY, {"n": 0}).version]
        acknowledged += [store.patch(KEY, {"n": n}).version for n in range(1, 4)]
        watch = store.watch()
        store.create("other", {"n": 0})
        shipped(primary, standby)
        network.close()
        acknowledged += [store.patch(KEY, {"n": n}).version for n in range(4, 6)]
        store.delete("other")
        watch.ready()
        primary.kill()
        standby.promote()
        assert store[KEY]["n"] == 3, "the client knows a later state, which is lost"
        kept = [one.version for one in store.history(KEY)]
        assert [version for version in acknowledged if version not in kept] == acknowledged[4:]
        assert "other" in store
        assert [store.patch(KEY, {"n": n}).rev for n in range(7, 27)] == list(range(5, 25))
        with pytest.raises(WatchExpired):  # numbers of transactions that the watcher saw mean other ones by now
            watch.ready()
        assert store.verify().ok
        watch.close()


def test_a_synchronous_standby_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    """Writers of several processes go on at the standby that took over; each acknowledged update is there, and once."""
    with pair() as (primary, standby, _):
        place = url(primary, standby)
        with Store(place) as store:
            for key in KEYS:
                store.create(key, {})
        _wait_for_the_standby(primary)
        crew = Crew(place, tmp_path)
        try:
            for _ in range(WORKERS):
                crew.start()
            with Store(place, lock_timeout=60.0) as store:
                _until_all(store, 5)
                time.sleep(2.0)
                primary.kill()
                standby.promote()
                _until_all(store, max(store[key]["n"] for key in KEYS) + 5)
        finally:
            crew.end()
        with Store(replica(standby), lock_timeout=30.0) as store:
            acknowledged, _ = account(store, crew)
            assert store.verify().ok
    assert acknowledged > 20


def _wait_for_the_standby(primary: Cluster) -> None:
    """Have durable commits wait for the standby from now on."""
    with connect(primary.url) as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        admin.execute("SELECT pg_reload_conf()")
        until(
            lambda: admin.execute("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone()[0],
            "the standby is not synchronous",
        )


def _until_all(store: Store, count: int) -> None:
    until(lambda: all(store[key].get("n", 0) >= count for key in KEYS), "the writers stand still")


@pytest.mark.parametrize(
    ("end", "heeded"),
    [("cancel", True), ("cancel", False), ("terminate", True)],
    ids=["cancelled", "not heeded", "ended"],
)
def test_a_commit_whose_wait_for_the_standby_was_ended_is_uncertain(
    end: str, heeded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statement is cancelled, or its connection ended, during COMMIT: the server has committed it here alone.

    It says so by a warning. Where nobody heeds that, the change counts as acknowledged, and a failover would lose it.
    """
    if not heeded:
        monkeypatch.setattr("shardstore._postgres.wire._noting", lambda farewell, warnings: lambda result: None)
    with pair() as (primary, _, network), Store(url(primary)) as store:
        store.create(KEY, {"n": 0})
        _wait_for_the_standby(primary)
        network.close()
        outcome: list[object] = []

        def write() -> None:
            try:
                outcome.append(store.patch(KEY, {"n": 1}).rev)
            except CommitUncertain as error:
                outcome.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        with connect(primary.url) as admin:
            until(lambda: _ended(admin, end) or outcome, "nobody waits for the standby")
        writer.join()
        assert isinstance(outcome[0], CommitUncertain) is heeded
        assert store[KEY]["n"] == 1


def _ended(admin: Any, how: str) -> bool:
    """Cancel or end whoever waits for the standby; return whether there was one."""
    rows = admin.execute(f"SELECT pg_{how}_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchall()
    return bool(rows)
