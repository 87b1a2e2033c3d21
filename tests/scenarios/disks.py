"""What is on the disk is proved before it is believed, and is only changed when the change can be kept."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any, Self

from shardstore import CommitUncertain, CorruptShard, Store, StoreFull, StoreIncomplete
from tests.scenarios.lost_updates import raises
from tests.support import actions, disk
from tests.support.peer import one_peer

KEY = "agent:main:main"
WRITERS = ("update", "patch", "create", "get_or_create", "replace", "delete", "edit")


def write_with(store: Store, verb: str, key: str) -> None:
    """Call one writing verb so that it would change an existing session, were it let."""
    if verb == "update":
        store.update(key, lambda draft: draft.update(a="new"))
    elif verb == "edit":
        with store.edit(key) as draft:
            draft["a"] = "new"
    elif verb == "delete":
        store.delete(key)
    else:
        getattr(store, verb)(key, {"a": "new"})


def a_changed_byte_is_refused(root: Path) -> None:
    """A byte changed inside a value, so that the line is still JSON, is damage for every reader and writer."""
    with Store(root) as store:
        for n in range(3):
            store.patch(KEY, {"a": f"value{n}"})
        path = disk.shard(root, KEY)
        disk.edit(path, path.read_bytes().replace(b"value1", b"valueX"))
        _refuses_everything(store, root, KEY)
    with Store(root) as store:
        _refuses_everything(store, root, KEY)


def a_file_of_another_key_is_refused(root: Path) -> None:
    """A copy of one session's shard in the place of another is never read or written as that other."""
    with Store(root) as store:
        store.create("a", {"owner": "a"})
        store.create("b", {"owner": "b"})
        a, b = disk.shard(root, "a"), disk.shard(root, "b")
        b.write_bytes(a.read_bytes())
        _refuses_everything(store, root, "b")
        assert store["a"].data == {"owner": "a"}
        assert store.patch("a", {"n": 1}).rev == 2


def noise_is_not_an_empty_session(root: Path) -> None:
    """What cannot be parsed is damage, never "no sessions yet": nothing is written over it, at any length."""
    for number, noise in enumerate(
        (b"{", b"garbage\n", b"[]\n", b"{}\n", b"\0" * 4096, os.urandom(5_000) + b"}\n", b"\n\n{}\n")
    ):
        key = f"k{number}"
        with Store(root) as store:
            for n in range(3):
                store.patch(key, {"a": n})
            path = disk.shard(root, key)
            path.write_bytes(noise + path.read_bytes())
            _refuses_everything(store, root, key)


def _refuses_everything(store: Store, root: Path, key: str) -> None:
    before = disk.fingerprint(root)
    for reader in (lambda: store.get(key), lambda: store[key], lambda: key in store, lambda: store.history(key)):
        with raises(CorruptShard):
            reader()
    for verb in WRITERS:
        with raises(CorruptShard):
            write_with(store, verb, key)
    assert disk.fingerprint(root) == before, "a damaged shard was written to"
    assert not store.verify().ok


def a_torn_tail_is_stepped_over(root: Path) -> None:
    """A commit that was cut short never happened: readers give the state before, the next writer keeps a copy."""
    for cut in (1, 20, 60):
        key = f"k{cut}"
        with Store(root) as store:
            store.create(key, {"n": 1})
            path = disk.shard(root, key)
            data = path.read_bytes()
            whole = disk.end(data)
            torn = disk.line({"rev": 2, "at": int(time.time() * 1_000), "by": "x", "durable": True, "set": {"n": 2}})[
                :-cut
            ]
            path.write_bytes(data[:whole] + torn)
            assert store[key].data == {"n": 1}
            assert path.read_bytes() == data[:whole] + torn, "a reader wrote"
            kept = set((root / "quarantine").iterdir())
            assert store.patch(key, {"n": 3}).rev == 2
            assert disk.state(path.read_bytes()) == {"n": 3}
            copies = set((root / "quarantine").iterdir()) - kept
            assert [copy.read_bytes().rstrip(b"\n") for copy in copies] == [torn.rstrip(b"\n")]


def a_symlinked_shard_is_refused(root: Path) -> None:
    """A symbolic link in a shard's place is neither read nor written through, wherever it leads."""
    with Store(root) as store:
        for number, there in enumerate((True, False)):
            key, outside = f"k{number}", root.parent / f"outside{number}.jsonl"
            store.create(key, {"a": 1})
            path = disk.shard(root, key)
            data = path.read_bytes()
            path.unlink()
            if there:
                outside.write_bytes(data)
            path.symlink_to(outside)
            _refuses_everything(store, root, key)
            assert outside.exists() is there
            assert not there or outside.read_bytes() == data


def a_failed_sync_is_uncertain_and_never_retried(root: Path) -> None:
    """When fdatasync fails the call raises CommitUncertain; no second sync pretends that all is well."""
    calls: list[int] = []
    real = os.fdatasync

    def fail_once(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    with Store(root) as store:
        store.create(KEY, {"n": 0})
        store.patch(KEY, {"n": 1})
        os.fdatasync = fail_once
        try:
            with raises(CommitUncertain):
                store.patch(KEY, {"n": 2})
        finally:
            os.fdatasync = real
        assert len(calls) == 1, "the failed sync was tried again"
        assert store[KEY]["n"] in {1, 2}
        assert store.patch(KEY, {"n": 3})["n"] == 3
        assert [session["n"] for session in store.history(KEY)][-1] == 3


class Trace:
    """Record, in order, the calls that decide what survives a power cut, by the name of the file they concern."""

    NAMES = ("fdatasync", "fsync", "rename", "replace", "link", "unlink", "pwrite", "write")

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._real: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for name in self.NAMES:
            self._real[name] = getattr(os, name)
            setattr(os, name, self._wrap(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def _wrap(self, name: str) -> Any:
        real = self._real[name]

        def traced(*args: Any, **kwargs: Any) -> Any:
            where = args[0] if isinstance(args[0], int) else os.fspath(args[0])
            path = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else where
            self.calls.append((name, str(path)))
            return real(*args, **kwargs)

        return traced

    def of(self, *names: str) -> list[str]:
        """The traced names that are among `names`, in order."""
        return [name for name, _ in self.calls if name in names]


def a_durable_commit_is_synced_before_it_returns(root: Path) -> None:
    """A commit is written and then synced; a new session's directory, and a deletion, are synced as well."""
    with Store(root) as store:
        store.create("other", {})
        with Trace() as trace:
            store.create(KEY, {"n": 0})
        path = str(disk.shard(root, KEY))
        assert _last(trace, "pwrite", path) < _last(trace, "fdatasync", path)
        assert ("fsync", os.path.dirname(path)) in trace.calls
        for change in (lambda: store.patch(KEY, {"n": 1}), lambda: store.delete(KEY)):
            with Trace() as trace:
                change()
            assert _last(trace, "pwrite", path) < _last(trace, "fdatasync", path)
    with Store(root, durability="relaxed") as store, Trace() as trace:
        store.patch("other", {"n": 1})
        assert trace.of("fdatasync", "fsync") == []


def a_durable_record_follows_synced_bytes(root: Path) -> None:
    """Relaxed commits, and the file's name, may be in memory alone: a durable record is not written before they are synced.

    Else a power cut could leave the durable record, and a hole where they were.
    """
    with one_peer() as writer:
        writer.run(actions.increment, root, KEY, 3, durability="relaxed")
    with Store(root) as store:
        path = disk.shard(root, KEY)
        directory = str(path.parent)
        for _ in range(2):
            with Trace() as trace:
                store.patch(KEY, {"a": os.urandom(4).hex()})
            calls = [call for call in trace.calls if call[1] in {str(path), directory}]
            written = calls.index(("pwrite", str(path)))
            assert ("fdatasync", str(path)) in calls[:written], calls
            assert ("fsync", directory) in calls[:written] or directory == "synced", calls
            with store.using(durability="relaxed") as relaxed:
                relaxed.patch(KEY, {"b": os.urandom(4).hex()})
            directory = "synced"  # once by each descriptor


def a_lost_directory_is_named_until_it_is_repaired(root: Path) -> None:
    """A directory of sessions vanishes, and a writer makes it again: that sessions are missing stays known."""
    with Store(root) as store:
        store.create(KEY, {"n": 1})
        directory = disk.shard(root, KEY).parent
        away = root / "away"
        directory.rename(away)
        with raises(StoreIncomplete):
            store.get(KEY)
        store.patch(KEY, {"n": 2})
        assert store[KEY].rev == 1
        for _ in range(2):
            problems = store.verify().problems
            assert [(one.path, one.repaired) for one in problems] == [(f"shards/{directory.name}", False)]
        assert store.verify(repair=True).problems
        assert store.verify().ok
        assert store[KEY].data == {"n": 2}
        for path in away.iterdir():
            path.unlink()
        away.rmdir()


def a_rewrite_is_synced_before_it_is_renamed(root: Path) -> None:
    """The new file is on the medium before it gets the name, and the name before the call returns; relaxed as well."""
    for durability in ("commit", "relaxed"):
        key = f"k-{durability}"
        with Store(root, durability=durability) as store:  # type: ignore[arg-type]
            store.create(key, {"blob": "x" * 40_000})
            with Trace() as trace:
                for n in range(8):
                    store.patch(key, {"blob": f"{n}" * 40_000})
            path = disk.shard(root, key)
            renames = [number for number, (name, _) in enumerate(trace.calls) if name in {"rename", "replace"}]
            assert renames, "no rewrite happened"
            for number in renames:
                temp = trace.calls[number][1]
                assert os.path.dirname(temp) == str(path.parent)
                before = [call for call in trace.calls[:number] if call[1] == temp]
                assert before[-1][0] in {"fdatasync", "fsync"}, before
                assert ("fsync", str(path.parent)) in trace.calls[number:]


def _last(trace: Trace, name: str, path: str) -> int:
    found = [number for number, call in enumerate(trace.calls) if call == (name, path)]
    assert found, f"no {name} of {path} in {trace.calls}"
    return found[-1]


def a_batch_is_synced_before_it_is_counted(root: Path) -> None:
    """create_many syncs each new file and its directory, and what an earlier run left; delete_all each directory."""
    keys = [f"k{number}" for number in range(4)]
    with Store(root) as store:
        store.using(durability="relaxed").create(keys[0], {})
        with Trace() as trace:
            assert store.create_many([(key, {}) for key in keys], on_exists="skip") == 3
        for key in keys:
            path = disk.shard(root, key)
            assert key == keys[0] or _last(trace, "pwrite", str(path)) < _last(trace, "fdatasync", str(path))
            assert ("fdatasync", str(path)) in trace.calls
            assert ("fsync", str(path.parent)) in trace.calls
        parents = [str(disk.shard(root, key).parent) for key in keys]
        with Trace() as trace:
            assert store.delete_all("k") == 4
        last = max(number for number, (name, _) in enumerate(trace.calls) if name == "unlink")
        assert all(("fsync", parent) in trace.calls[last:] for parent in parents)


def a_failed_sync_of_a_batch_is_uncertain(root: Path) -> None:
    """When one sync of a group fails nothing of the group is acknowledged, and what is there is read again."""
    real = os.fdatasync

    def fail(fd: int) -> None:
        if "k1" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    with Store(root) as store:
        os.fdatasync = fail
        try:
            with raises(CommitUncertain):
                store.create_many([(f"k{number}", {}) for number in range(4)])
        finally:
            os.fdatasync = real
        assert store.create_many([(f"k{number}", {}) for number in range(4)], on_exists="skip") == 0
        assert len(store.get_many([f"k{number}" for number in range(4)])) == 4


def many_directories_are_synced_by_one_call(root: Path) -> None:
    """Where syncfs is believed, it is called after the last write; its failure acknowledges nothing."""
    from shardstore._files import syncfs

    calls: list[int] = []

    def sync_all(fd: int) -> None:
        calls.append(len(disk.shards(root)))
        if len(calls) > 1:
            raise OSError(errno.EIO, "Input/output error")

    real = syncfs.is_trusted, syncfs.sync_all
    syncfs.is_trusted, syncfs.sync_all = (lambda _fd: True), sync_all
    try:
        with Store(root) as store:
            assert store.create_many([(f"k{number}", {}) for number in range(40)]) == 40
            assert calls == [40], "synced once, when all was written"
            with raises(CommitUncertain):
                store.create_many([(f"l{number}", {}) for number in range(40)])
    finally:
        syncfs.is_trusted, syncfs.sync_all = real


def a_full_disk_changes_nothing(root: Path) -> None:
    """When a file may not grow, a commit raises StoreFull, leaves the state as it was, and later ones succeed."""
    with Store(root) as store:
        store.create(KEY, {"n": 0, "blob": "x" * 3_000})
    with one_peer() as peer:
        peer.run(_fill_up, str(root))
    with Store(root) as store:
        assert store[KEY]["n"] == 1
        assert len(store[KEY]["blob"]) == 3_000
        assert store.patch(KEY, {"blob": "y" * 20_000}).rev == 3
    disk.check(root)


def _fill_up(root: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Store(root) as store:
        path = disk.shard(root, KEY)
        for limit in (4_096, 6_000, 8_191):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            before = disk.end(path.read_bytes())
            with raises(StoreFull):
                store.patch(KEY, {"blob": "y" * 20_000})
            assert len(store[KEY]["blob"]) == 3_000
            assert disk.end(path.read_bytes()) == before
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.patch(KEY, {"n": 1})


def time_never_goes_back(root: Path) -> None:
    """A session whose last change lies in the future, by a clock set back since, is never given an earlier time."""
    with Store(root) as store:
        store.create(KEY, {"n": 0})
        path = disk.shard(root, KEY)
        data = path.read_bytes()
        later = time.time_ns() // 1_000 + 3_600_000_000
        path.write_bytes(
            data[: disk.end(data)] + disk.line({"rev": 2, "at": later, "by": "x", "durable": True, "set": {"n": 1}})
        )
        stamps = [store[KEY].updated_at, *(store.patch(KEY, {"n": n}).updated_at for n in range(2, 5))]
        assert stamps == sorted(stamps)
        assert all(record["at"] >= later for record in disk.journal(root, KEY)[1:])
        store.delete(KEY)
        assert store.create(KEY, {}).created_at >= stamps[-1]


def modes_are_private_from_the_first_write(root: Path) -> None:
    """Under umask 000 no file is ever made readable for others, and no directory open to them."""
    before = os.umask(0)
    try:
        with Store(root) as store:
            for n in range(5):
                store.create(f"k{n}", {"blob": "x" * 40_000})
            for n in range(8):
                store.patch("k0", {"blob": f"{n}" * 40_000})
            store.delete("k1")
            a_torn = disk.shard(root, "k2")
            data = a_torn.read_bytes()
            a_torn.write_bytes(data[: disk.end(data)] + b'{"crc":"00000000","torn')
            store.patch("k2", {"n": 1})
            store.list()
            store.prune(where={"n": 1})
            store.list()
    finally:
        os.umask(before)
    assert any((root / "quarantine").iterdir())
    for directory, _, files in os.walk(root):
        assert os.stat(directory).st_mode & 0o7777 == 0o700, directory
        for name in files:
            assert os.stat(os.path.join(directory, name)).st_mode & 0o7777 == 0o600, os.path.join(directory, name)


def a_killed_writer_leaves_a_whole_store(root: Path, rounds: int = 6) -> None:
    """Writers killed at any moment: what they had acknowledged is there, at most the one under way beside it."""
    for number in range(rounds):
        key = f"k{number}"
        with one_peer() as writer:
            writer.start(actions.keep_patching, root, key, "n")
            acknowledged = 0
            stop = time.monotonic() + 0.02 + 0.03 * number
            while time.monotonic() < stop or not acknowledged:
                acknowledged = writer.heard()
            writer.kill()
        with Store(root) as store:
            assert acknowledged <= store[key]["n"]
            assert store[key].rev == store[key]["n"]
            assert store.verify().ok
            assert store.patch(key, {"m": 1}).rev == store[key].rev
