"""Stats: figures that agree with the files, and cost no opened shard."""

from __future__ import annotations

from shardstore import Store
from shardstore._files import file
from shardstore._files.engine import FileEngine
from shardstore._files.maintenance.stats import stats
from tests.support import disk


def test_every_figure_of_a_small_store(store: Store, engine: FileEngine) -> None:
    """Live, deleted, archived, quarantined; a log file in archive/ is no second session, a copy is no shard."""
    for number in range(5):
        store.create(f"k{number}", {"n": number})
    store.delete("k0")
    with store.using(durability="relaxed") as quick:
        for number in range(300):
            quick.append("k1", [{"n": number, "text": "x" * 1_000}])
    assert len(store.prune(where={"n": ("in", [1, 2])}).actions) == 2
    engine.layout.quarantine.mkdir(exist_ok=True)
    (engine.layout.quarantine / "something").touch()
    shard = disk.shard(engine.root, "k3")
    copy = shard.with_name(shard.name + ".bak")
    copy.write_bytes(shard.read_bytes())
    found = stats(engine, refresh=True)
    assert (found.sessions, found.tombstones, found.archived, found.quarantined) == (2, 1, 2, 1)
    assert (found.damaged, found.index_unusable) == ((), None)
    ends = [disk.end(disk.shard(engine.root, key).read_bytes()) for key in ("k3", "k4")]
    assert found.bytes_live == sum(store[key].size for key in ("k3", "k4"))
    assert found.bytes_total == sum(ends)
    assert found.bytes_dead == found.bytes_total - found.bytes_live


def test_no_shard_is_opened_that_did_not_change(store: Store, engine: FileEngine) -> None:
    """A store of a million sessions is asked for its figures by a monitor every minute."""
    for number in range(5):
        store.create(f"k{number}", {})
    stats(engine, refresh=True)
    engine.pool.close_idle()
    stats(engine, refresh=True)
    assert [one.path for one in file.open_files if one.fd >= 0 and one.path.startswith(engine.location)] == []
