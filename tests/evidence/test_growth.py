"""Incidents of stores that grew without end, or were cleaned of what was needed (#55334, #15225, #85967, #119085 ...)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from shardstore import InvalidQuery, Store
from tests.scenarios import lost_updates, populations
from tests.support import actions, disk
from tests.support.peer import one_peer

LONG_AGO = time.time() - 30 * 86_400


def test_55334_a_cron_farm_does_not_grow(root: Path) -> None:
    """14 days of creates, compacted daily: the number of files is flat, and every removal is in the archive."""
    populations.growth_is_bounded(root)


def test_55334_a_hot_session_does_not_grow(root: Path) -> None:
    """5,000 patches of one session: its file stays within a few times its live size, without any compact."""
    with Store(root, durability="relaxed") as store:
        store.create("k", {"n": 0, "blob": "x" * 2_000})
        largest = 0
        for n in range(5_000):
            store.patch("k", {"n": n, f"f{n % 7}": "y" * 40})
            if n % 50 == 0:
                largest = max(largest, disk.shard(root, "k").stat().st_size)
        assert largest <= 65_536 * 3
        assert store["k"].rev == 5_001
    assert list((root / "shards").rglob(".tmp*")) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="needs Linux's count of written bytes")
def test_a_transcript_writes_little_more_than_its_items(root: Path) -> None:
    """An item of 1 KB and three fields, relaxed: the record, its copy in the log's file, and a share of the rewrites."""

    def written() -> int:
        return int(Path("/proc/self/io").read_text().partition("wchar: ")[2].split()[0])

    with Store(root, durability="relaxed") as store:
        before, count = written(), 1_500
        for n in range(count):
            store.append("k", [{"role": "user", "content": "x" * 1_000}], {"n": n, "tokens": 3 * n, "status": n % 2})
        assert (written() - before) / count < 2_500


def test_120521_a_no_op_writes_nothing(root: Path) -> None:
    """An identical 100 KB entry "written" by every verb leaves revision, bytes and times as they were."""
    lost_updates.no_change_writes_nothing(root)


def test_71356_reads_never_prune(root: Path) -> None:
    """Reading, listing, counting and verifying remove and change nothing, however old the sessions are."""
    with Store(root) as store:
        for n in range(10):
            store.create(f"k{n}", {"status": "done"})
        for n in range(5):
            store.delete(f"k{n}")
    for path in (root / "shards").rglob("*.jsonl"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    temp = disk.shard(root, "k9").with_name(f".tmp-0123456789abcdef~{disk.shard(root, 'k9').name}")
    temp.write_bytes(b"half a rewrite")
    os.utime(temp, (LONG_AGO, LONG_AGO))
    before = disk.fingerprint(root)
    with Store(root) as store:
        for n in range(10):
            store.get(f"k{n}")
            store.history(f"k{n}")
        assert len(store) == 5
        assert len(store.list()) == len(list(store)) == store.count() == 5
        store.stats()
        store.verify()
        store.prune(older_than=0, dry_run=True)
    assert disk.fingerprint(root) == before


def test_119085_cleaning_archives_what_it_removes(root: Path) -> None:
    """Every session that compact removes can be brought back, with its entry, also by a later process."""
    with Store(root) as store:
        entries = {f"k{n}": populations.entry(5_000, n) for n in range(6)}
        for key, entry in entries.items():
            store.create(key, entry)
        report = store.prune(older_than=0)
        assert {action.key for action in report.actions if action.action == "archive"} == set(entries)
        assert list(store) == []
    with Store(root) as store, one_peer() as other:
        for key, entry in entries.items():
            assert other.run(actions.call, root, "archive.restore", key).data == entry
            assert store[key].data == entry


def test_a_malformed_limit_disables_deletion(root: Path) -> None:
    """A limit that cannot be understood removes nothing: it is an error, before anything is touched."""
    with Store(root) as store:
        for n in range(5):
            store.create(f"k{n}", {"n": n})
        before = disk.fingerprint(root)
        for rules in ({"max_entries": "none"}, {"older_than": "soon"}, {"max_bytes": -5}, {"older_than": float("nan")}):
            with pytest.raises((InvalidQuery, TypeError)):
                store.prune(**rules)  # type: ignore[arg-type]
        assert disk.fingerprint(root) == before


def test_85967_dead_temps_are_swept(root: Path) -> None:
    """The temp of a rewrite whose process died is removed by compact, and reported; a living one's is not."""
    with Store(root) as store, one_peer() as writer:
        store.create("dead", {"a": 1})
        store.create("alive", {"a": 1})
        dead = _temp_of(root, "dead")
        writer.start(_hold_a_temp, str(_temp_of(root, "alive")))
        assert writer.heard() == "holding"
        report = store.compact()
        assert not dead.exists()
        assert _temp_of(root, "alive", make=False).exists(), "the temp of a running rewrite was swept"
        assert any(action.action == "sweep-temp" for action in report.actions)
        writer.tell()
        writer.result()


def _temp_of(root: Path, key: str, *, make: bool = True) -> Path:
    shard = disk.shard(root, key)
    temp = shard.with_name(f".tmp-0123456789abcdef~{shard.name}")
    if make:
        temp.write_bytes(shard.read_bytes()[:50])
        temp.chmod(0o600)
        os.utime(temp, (LONG_AGO, LONG_AGO))
    return temp


def _hold_a_temp(path: str) -> None:
    """In a peer: hold the lock of a temp, as a rewrite does from before its first byte to after the rename."""
    import fcntl

    from tests.support.peer import hear, say

    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    say("holding")
    hear()
    os.close(fd)


@pytest.mark.damages("the shard beside the temp")
def test_90503_temps_are_kept_while_their_primary_is_damaged(root: Path) -> None:
    """A dead temp may hold the last whole copy: while its shard is damaged, compact leaves both alone and says so."""
    with Store(root) as store:
        store.create("k", {"a": 1})
        store.create("other", {"a": 1})
        path, temp = disk.shard(root, "k"), _temp_of(root, "k")
        path.write_bytes(b"X" + path.read_bytes()[1:])
        before = (path.read_bytes(), temp.read_bytes())
        report = store.compact()
        assert (path.read_bytes(), temp.read_bytes()) == before
        assert not any(action.action == "sweep-temp" for action in report.actions)
        assert any("k~" in skipped.path for skipped in report.skipped)


def test_acpx_447_temp_names_are_unique(root: Path) -> None:
    """Rewrites by threads and by forked processes with equal histories never share a temp's name."""
    from shardstore._files.layout import parse_temp, shard_name, temp_name

    name = shard_name("k")
    made = [temp_name(name) for _ in range(200)]
    with one_peer() as peer:
        made += peer.run(_names_of_forks, name)
    assert len(set(made)) == len(made)
    assert {parse_temp(temp) for temp in made} == {name}


def _names_of_forks(name: str) -> list[str]:
    """In a peer: let forked children, who all inherit the same state, make names."""
    from shardstore._files.layout import temp_name

    temp_name(name)
    reader, writer = os.pipe()
    for child in [
        actions.in_child(lambda: os.write(writer, temp_name(name).encode() + b"\n") and None) for _ in range(8)
    ]:
        assert actions.wait_for(child) == 0
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        names = stream.read().decode().split()
    assert len(names) == 8
    return names


def test_a_rewrite_that_dies_leaves_the_session_as_it_was(root: Path) -> None:
    """Killed between writing the new file and naming it: the old journal counts, and compact sweeps the temp."""
    with Store(root) as store:
        store.create("k", {"n": 0, "blob": "x" * 30_000})
        for n in range(1, 4):
            store.patch("k", {"n": n, "blob": f"{n}" * 30_000})
        rev = store["k"].rev
        with one_peer() as writer:
            writer.start(_die_before_rename, str(root))
            assert writer.heard() == "dying"
            writer.kill()
        assert len(list((root / "shards").rglob(".tmp*"))) == 1
        assert store["k"].rev >= rev
        assert store.patch("k", {"n": "on"})["n"] == "on"
        report = store.compact()
        assert any(action.action == "sweep-temp" for action in report.actions)
        assert list((root / "shards").rglob(".tmp*")) == []
        assert store["k"]["n"] == "on"


def _die_before_rename(root: str) -> None:
    import signal

    from tests.support.peer import say

    def die(source: str, target: str) -> None:
        say("dying")
        os.kill(os.getpid(), signal.SIGKILL)

    os.rename = die  # type: ignore[assignment]
    with Store(root) as store:
        for n in range(20):
            store.patch("k", {"n": n, "blob": f"{n:02}" * 15_000})


def test_what_changed_since_it_was_chosen_stays(root: Path) -> None:
    """prune decides again inside each session's lock."""
    populations.what_changed_since_it_was_chosen_stays(root)
