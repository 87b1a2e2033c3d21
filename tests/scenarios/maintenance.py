"""What maintenance may not do to a session, and what is made good when a step of a writer fails."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from shardstore import Store, StoreIOError
from tests.scenarios.lost_updates import raises
from tests.support import actions, disk
from tests.support.peer import PeerDied, one_peer

KEY = "agent:main:main"


def compact_spares_what_changed_since_it_was_chosen(root: Path) -> None:
    """A session that is written between the plan and its turn stays, purge or not."""
    for purge in (False, True):
        with Store(root) as store, one_peer() as peer:
            for key in ("first", "second"):
                store.replace(key, {"n": 0})
            changed: list[int] = []

            def progress(
                done: int, total: int, store: Store = store, peer: Any = peer, changed: list[int] = changed
            ) -> None:
                if not changed:
                    changed.append(peer.run(actions.call, root, "patch", "second", {"n": 1}).rev)

            report = store.prune(max_entries=0, purge=purge, progress=progress)
            assert changed
            assert list(store) == ["second"]
            assert store["second"].data == {"n": 1}
            assert [skipped.key for skipped in report.skipped] == ["second"]


def list_knows_an_archived_session_whose_archiver_died(root: Path) -> None:
    """A process that dies the moment it has moved a session to archive/ leaves no row of it behind."""
    with Store(root) as store:
        for number in range(5):
            store.create(f"k{number}", {})
        assert len(store.list()) == 5
    with one_peer() as peer, raises(PeerDied):
        peer.run(_die_after_rename, str(root))
    # A list that looks for what was changed by hand would find it that way too.
    with mock.patch("shardstore._files.index.directories.Directories.check"), Store(root) as store:
        there = sorted(key for key in (f"k{number}" for number in range(5)) if key in store)
        assert len(there) == 4
        assert sorted(info.key for info in store.list()) == there
        assert store.count() == 4


def _die_after_rename(root: str) -> None:
    real = os.rename

    def rename(source: Any, target: Any) -> None:
        real(source, target)
        if "archive" in str(target):
            os.kill(os.getpid(), signal.SIGKILL)

    os.rename = rename  # type: ignore[assignment]
    with Store(root) as store:
        store.prune(max_entries=0)


def an_aborted_creation_removes_its_own_file_alone(root: Path) -> None:
    """A mutator fails while its new session's file was replaced by somebody else's: that one stays."""
    with Store(root) as store:
        store.create(KEY, {"theirs": True})
        path = disk.shard(root, KEY)
        theirs = path.read_bytes()
        store.prune(max_entries=0)
        assert KEY not in store

        def fail(draft: Any) -> None:
            temp = path.with_name(f".tmp-0123456789abcdef~{path.name}")
            temp.write_bytes(theirs)
            temp.chmod(0o600)
            temp.rename(path)
            raise LookupError

        with raises(LookupError):
            store.update(KEY, fail)
        assert store[KEY].data == {"theirs": True}
        assert store.patch(KEY, {"n": 1}).rev == 2

        def only_fail(draft: Any) -> None:
            raise LookupError

        with raises(LookupError):
            store.update("new", only_fail)
        assert "new" not in store
        assert len(disk.shards(root)) == 1  # its own empty file it does remove


def a_backup_by_hard_link_is_never_written_through(root: Path) -> None:
    """A second name of a session's file keeps what it had: patch, replace and delete leave it alone."""
    for durability in ("commit", "relaxed"):
        for verb, *arguments in (("patch", {"n": 2}), ("replace", {"n": 3}), ("delete",)):
            with Store(root, durability=durability) as store:  # type: ignore[arg-type]
                store.replace(KEY, {"n": 0})
                backup = root.with_name("backup.jsonl")
                os.link(disk.shard(root, KEY), backup)
                before = backup.read_bytes()
                getattr(store, verb)(KEY, *arguments)
                assert backup.read_bytes() == before, f"{verb} wrote into a backup"
                session = store.get(KEY)
                assert (None if session is None else session.data) == (arguments[0] if arguments else None)
                backup.unlink()


def a_lock_that_cannot_be_given_back_is_closed(root: Path) -> None:
    """The kernel refuses to unlock: the update counts all the same, and nobody waits for the lock afterwards."""
    from shardstore._files.locks import flock

    class Refusing:
        LOCK_EX, LOCK_NB, LOCK_UN = fcntl.LOCK_EX, fcntl.LOCK_NB, fcntl.LOCK_UN

        @staticmethod
        def flock(fd: int, operation: int) -> None:
            if operation == fcntl.LOCK_UN:
                raise OSError(5, "input/output error")
            fcntl.flock(fd, operation)

    with Store(root) as store, one_peer() as peer:
        flock.fcntl = Refusing  # type: ignore[assignment]  # before the file is opened, which prepares the call
        try:
            store.create(KEY, {"n": 0})
            assert store.patch(KEY, {"n": 1}).rev == 2
        finally:
            flock.fcntl = fcntl
        assert peer.run(actions.timed_update, str(root), KEY, "n", 2, 2.0)[0] == 3
        assert store.patch(KEY, {"n": 3}).rev == 4


def a_torn_tail_behind_new_records_is_kept(root: Path) -> None:
    """Another process committed and died half way through its next commit: the first counts, the second is put aside."""
    with Store(root, durability="relaxed") as store:
        store.create(KEY, {"n": 0})
        store.patch(KEY, {"n": 1})
        path = disk.shard(root, KEY)
        data = path.read_bytes()
        last = disk.records(data)[-1]
        whole = disk.line({"rev": 3, "at": last["at"], "by": "other", "set": {"n": 2}})
        torn = disk.line({"rev": 4, "at": last["at"], "by": "other", "set": {"long": "x" * 300}})[:-20]
        room = path.stat().st_size
        path.write_bytes((data[: disk.end(data)] + whole + torn).ljust(room, b"\n"))
        assert store.patch(KEY, {"m": 1}).data == {"n": 2, "m": 1}
        assert [session.rev for session in store.history(KEY)] == [1, 2, 3, 4]
        kept = list((root / "quarantine").iterdir())
        assert [torn in file.read_bytes() for file in kept] == [True]
    disk.check(root)


def _torn(root: Path, key: str, make: Callable[[bytes], bytes]) -> None:
    """Change a session's file as a power cut may have left it."""
    path = disk.shard(root, key)
    path.write_bytes(make(path.read_bytes()))


def appends_that_reached_the_disk_out_of_order_are_a_tear(root: Path) -> None:
    """Of relaxed appends a later one is there and a sector before it is not: what stands before both counts."""
    with Store(root, durability="relaxed") as store:
        store.create(KEY, {"n": 0})
        first = disk.end(disk.shard(root, KEY).read_bytes())
        store.patch(KEY, {"long": "x" * 3_000})
        store.patch(KEY, {"n": 1})
    for gap in (b"\0" * 512, b"\n" * 512):
        data = disk.shard(root, KEY).read_bytes()
        _torn(root, KEY, lambda data, gap=gap: data[:1024] + gap + data[1536:])  # type: ignore[misc]
        assert first < 1024
        with Store(root) as store:
            assert store[KEY].data == {"n": 0}
        _torn(root, KEY, lambda _, data=data: data)  # type: ignore[misc]


def a_first_commit_cut_at_a_sector_is_a_tear(root: Path) -> None:
    """The first commit of a session reached the disk up to a sector's end, and its last newline: it never happened."""
    with Store(root, durability="relaxed") as store:
        store.create(KEY, {"long": "x" * 3_000})
    _torn(root, KEY, lambda data: data[:1024] + b"\n" * (len(data) - 1024))
    with Store(root) as store:
        assert KEY not in store
        assert store.create(KEY, {"n": 1}).rev == 1


def restore_waits_for_whoever_has_the_archived_file(root: Path) -> None:
    """While another program holds the lock of an archived file it is not brought back, and stays where it is."""
    with Store(root) as store:
        store.create(KEY, {"n": 1})
        store.prune(max_entries=0)
        (archived,) = (root / "archive").iterdir()
        fd = os.open(archived, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with raises(StoreIOError):
                store.archive.restore(KEY)
            assert archived.exists()
            assert KEY not in store
        finally:
            os.close(fd)
        assert store.archive.restore(KEY).data == {"n": 1}
