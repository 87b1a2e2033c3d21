"""What people do to a store, and what it must make of that. Each protection here has a mutation in mutations/people.py."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from shardstore import (
    CorruptShard,
    DamagedSessions,
    InvalidQuery,
    LockTimeout,
    NestedUpdate,
    ShardStoreError,
    Store,
    StoreBusy,
    StoreIncomplete,
    UnsafeStore,
)
from shardstore._files import file as files
from tests.scenarios.lost_updates import raises
from tests.support import actions, disk, mutate
from tests.support.peer import one_peer

KEY, OTHER = "agent:main:main", "agent:main:other"
DAY_S = 86_400
PATIENCE = 3.0 if os.environ.get(mutate.VARIABLE) else 30.0  # seconds: what takes longer hangs; a mutant often does


def directory_of(root: Path, key: str) -> Path:
    """Return the directory that a key's file belongs in, whether it is there or not."""
    import hashlib

    return root / "shards" / hashlib.blake2b(key.encode(), digest_size=16).hexdigest()[:2]


def kinds(store: Store, **options: Any) -> list[tuple[str, str]]:
    """Return (kind, path) of each problem that verify names."""
    return [(problem.kind, problem.path) for problem in store.verify(**options).problems]


def in_a_child(function: Callable[[], Any]) -> None:
    """Run a function in a forked child. AssertionError where it fails, or hangs."""
    assert actions.wait_for(actions.in_child(function), PATIENCE) == 0


# A store that is half there


def a_directory_made_again_is_named_until_repair(root: Path) -> None:
    """A writer makes the directory that it needs; verify names it for as long as nobody repaired."""
    with Store(root) as store:
        store.create(OTHER, {"n": 1})
        directory = directory_of(root, KEY)
        directory.rmdir()
        assert store.create(KEY, {"n": 1}).rev == 1
        named = [("incomplete", f"shards/{directory.name}")]
        assert kinds(store) == named
        assert kinds(store) == named, "named until a repair"
        assert kinds(store, repair=True) == named
        assert kinds(store) == []
        assert (store[KEY]["n"], store[OTHER]["n"]) == (1, 1)


def readers_of_a_lost_directory_do_not_answer_absent(root: Path) -> None:
    """Sessions may have been in there: reads raise, in this process and in a fresh one; nothing is made."""
    for lost in ("prefix", "shards"):
        with Store(root) as store:
            store.patch(KEY, {"n": 1})
            store.patch(OTHER, {"n": 1})
            directory = directory_of(root, KEY) if lost == "prefix" else root / "shards"
            directory.rename(root.parent / "away")
            for opened in (store, Store(root, read_only=True)):
                for read in (
                    lambda s=opened: s.get(KEY),
                    lambda s=opened: KEY in s,
                    lambda s=opened: s.history(KEY),
                    lambda s=opened: s[KEY],
                ):
                    with raises(StoreIncomplete):
                        read()
            with raises(StoreIncomplete):
                store.patch(KEY, {"n": 2}, create=False)
            with raises(StoreIncomplete):
                store.delete(KEY)
            assert not directory.exists()
            (root.parent / "away").rename(directory)
            assert store[KEY]["n"] == 1
            assert store.verify().ok


# Line endings


def a_converted_file_is_read_named_and_normalised(root: Path) -> None:
    """Every line ends in CR LF: nothing is lost, verify names it, a repair writes it back."""
    with Store(root) as store:
        for number in range(3):
            store.patch(KEY, {"n": number, "text": "a\r\nb"})
    path = disk.shard(root, KEY)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with Store(root) as store:
        assert (store[KEY].rev, store[KEY].data) == (3, {"n": 2, "text": "a\r\nb"})
        assert [one.rev for one in store.history(KEY)] == [1, 2, 3]
        assert [problem.kind for problem in store.verify().problems] == ["line-endings"]
        assert all(problem.repaired and not problem.lost for problem in store.verify(repair=True).problems)
        assert b"\r\n" not in disk.shard(root, KEY).read_bytes()
        assert store[KEY].data == {"n": 2, "text": "a\r\nb"}
        assert store.verify().ok


# Backups put back


def what_was_put_back_is_read_at_once(root: Path) -> None:
    """A process that has the session open reads a restored file, and goes on from it, not from what it remembers."""
    with Store(root) as store, one_peer() as peer:
        store.patch(KEY, {"n": 1})
        saved = disk.shard(root, KEY).read_bytes()
        store.patch(KEY, {"n": 2})
        newer = store[KEY].version
        assert peer.run(actions.get_data, root, KEY) == {"n": 2}
        path = disk.shard(root, KEY)
        fresh = path.with_name("restored")
        fresh.write_bytes(saved)
        fresh.chmod(0o600)
        fresh.rename(path)
        assert store[KEY].data == {"n": 1}
        assert store.patch(KEY, {"m": 1}).data == {"n": 1, "m": 1}
        assert store[KEY].version != newer
        with raises(ShardStoreError):
            store.replace(KEY, {}, expect=newer)


# Acknowledged things that are gone


def a_backup_of_equal_length_is_seen_at_once(root: Path) -> None:
    """Also by a writer in a hurry, which does not look at the time: the record in it is another one."""
    with mock.patch.object(files, "HOT_NS", 60 * 10**9):
        _put_back_in_place(root, "x" * 500, times=False)


def a_backup_of_equal_length_is_seen_by_its_time(root: Path) -> None:
    """Where the records end alike for long, the file's time tells, which `cp -a` sets back."""
    _put_back_in_place(root, "x" * 5_000, times=True)


def _put_back_in_place(root: Path, note: str, *, times: bool) -> None:
    """Write one of two histories of equal length over the other one, into the same file."""
    with Store(root, durability="relaxed") as store:
        store.create(KEY, {"n": 0, "note": ""})
        path = disk.shard(root, KEY)
        before = path.read_bytes()
        store.patch(KEY, {"n": 1, "note": note})
        backup, status = path.read_bytes(), path.stat()
        disk.edit(path, before)
    time.sleep(1.1 if times else 0)
    with Store(root, durability="relaxed") as store:
        store.patch(KEY, {"n": 2, "note": note})
        assert len(path.read_bytes()) == len(backup)
        with path.open("rb+") as file:
            file.write(backup)
        if times:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            time.sleep(2 * disk.CHECK_S)
            assert store[KEY]["n"] == 1
        assert store.update(KEY, add_ten)["n"] == 11
        assert store.verify().ok


def add_ten(draft: Any) -> None:
    draft["n"] += 10


def emptied(path: Path) -> int:
    """Empty a file; return the revision that is left."""
    path.write_bytes(b"")
    return 0


def zeroed(path: Path) -> int:
    """Fill a file with NULs."""
    path.write_bytes(bytes(path.stat().st_size))
    return 0


def cut_back(path: Path) -> int:
    """Cut a file back to its first record."""
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    return 1


def removed(path: Path) -> int:
    """Remove a file."""
    path.unlink()
    return 0


LOSSES = (emptied, zeroed, cut_back, removed)


def lost_revisions_are_named(root: Path) -> None:
    """verify names what the lists knew better, as lost, until a repair; the store goes on meanwhile."""
    for lose in LOSSES:
        key = f"{KEY}:{lose.__name__}"
        with Store(root) as store:
            for number in range(3):
                store.patch(key, {"n": number})
            store.compact()  # the index takes it in; a list would read the file again
        path = disk.shard(root, key)
        saved = path.read_bytes()
        left = lose(path)
        with Store(root) as store:
            report = store.verify()
            found = [(one.kind, one.key, one.lost) for one in report.problems]
            assert found == [("lost", key, True)], found
            assert f"{left + 1} to 3 are missing" in report.problems[0].detail
            assert {info.key: info.rev for info in store.list()}.get(key, 0) == left
            assert [one.kind for one in store.verify().problems] == ["lost"], "named until a repair"
            path.write_bytes(saved)
            store.compact()  # finds what was changed in place
            assert "lost" not in [one.kind for one in store.verify().problems], "the file was put back"
            lose(path)
            store.list()
            assert store.patch(key, {"more": 1}).rev == left + 1


def a_marked_session_that_was_cut_back_is_named(root: Path) -> None:
    """Written since the last refresh, so lists read its file; but it never goes back behind what they knew before."""
    with Store(root) as store:
        for number in range(3):
            store.patch(KEY, {"n": number})
        store.compact()
        store.patch(KEY, {"n": 3})
        path = disk.shard(root, KEY)
        disk.edit(path, path.read_bytes().split(b"\n")[0] + b"\n")
        for _ in range(2):
            problems = store.verify().problems
            assert [(one.kind, one.key, one.lost) for one in problems] == [("lost", KEY, True)]
            assert "revisions 2 to 3 are missing" in problems[0].detail
        store.verify(repair=True)
        assert store.verify().ok
        assert store.list()[0].rev == 1


def lost_revisions_are_not_back_by_their_numbers(root: Path) -> None:
    """Two revisions are lost, and two others take their numbers."""
    with Store(root) as store:
        for number in range(3):
            store.patch(KEY, {"n": number})
        store.compact()
        path = disk.shard(root, KEY)
        saved = path.read_bytes()
        disk.edit(path, saved.split(b"\n")[0] + b"\n")
        assert [one.kind for one in store.verify().problems] == ["lost"]
        for number in range(7, 10):
            store.patch(KEY, {"n": number})
        assert [one.kind for one in store.verify().problems] == ["lost"]
        disk.edit(path, saved)
        store.compact()
        assert store.verify().ok


def a_lost_directory_is_no_reason_to_forget(root: Path) -> None:
    """Lists leave its sessions out and say so; what they knew is there when it is back."""
    with Store(root) as store:
        for key in (KEY, OTHER):
            store.patch(key, {"n": 1})
        store.compact()
        store.patch(KEY, {"n": 2})
        away = root.parent / "away"
        directory_of(root, KEY).rename(away)
        time.sleep(2 * disk.CHECK_S)
        for _ in range(2):
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                assert [info.key for info in store.list()] == [OTHER]
            assert [one.category for one in seen] == [DamagedSessions]
            store.compact()
            assert ("lost", KEY) in [(one.kind, one.key) for one in store.verify().problems]
        away.rename(directory_of(root, KEY))
        time.sleep(2 * disk.CHECK_S)
        assert {info.key: info.fields["n"] for info in store.list()} == {KEY: 2, OTHER: 1}
        assert store.verify().ok


def a_changed_byte_in_the_newest_record_is_named(root: Path) -> None:
    """get steps over the record; verify and inspect say so, and nobody calls it deleted."""
    with Store(root) as store:
        for number in range(3):
            store.patch(KEY, {"n": number})
        path = disk.shard(root, KEY)
        data = path.read_bytes()
        start = data.rstrip(b"\n").rindex(b"\n") + 1
        disk.edit(path, data.replace(b'"n":2', b'"n":7'))
        size = len(data.rstrip(b"\n")) - start
        assert store[KEY].rev == 2
        notes = [note for note in store.verify().notes if note.kind == "torn"]
        assert len(notes) == 1
        assert f"{size} bytes after revision 2 are no whole record" in notes[0].detail
        assert any(f"{size} bytes after revision 2" in line for line in store.engine.remarks(KEY))
        store.patch(KEY, {"n": 9})  # cuts the tail off


# Values behind a right checksum


def numbers_out_of_bounds_are_one_sessions_damage(root: Path) -> None:
    """A number that no clock or counter gives is CorruptShard for that session; everything else goes on."""
    head = {"rev": 1, "at": 1_763_800_000_000_000, "by": "x", "id": "ab" * 12, "key": KEY}
    with Store(root) as store:
        store.patch(KEY, {"n": 0})
        store.patch(OTHER, {"n": 0})
        path = disk.shard(root, KEY)
        for odd in (
            {"at": 2**63}, {"at": 253_402_300_800_000_000}, {"at": -1}, {"rev": 2**63}, {"rev": 2**53},
            {"rev": 0}, {"rev": 7, "created": 2**63}, {"rev": 7, "created": -(10**17)}, {"at": 10**30},
        ):  # fmt: skip
            disk.edit(path, disk.line({**head, **odd, "put": {"n": 1}}))
            with raises(CorruptShard):
                store.get(KEY)
            with raises(CorruptShard):
                store.patch(KEY, {"n": 2})
            store.compact(), store.stats()
            assert [one.kind for one in store.verify().problems] == ["damaged"], odd
            assert [info.key for info in store.list()] == [OTHER], odd
            assert store.prune(older_than=DAY_S, dry_run=True).actions == ()
            assert store.patch(OTHER, {"n": 1})["n"] == 1
        store.verify(repair=True)
        assert store.verify().ok


# Re-entrancy


def a_signal_handler_gets_an_answer_or_a_typed_error(root: Path) -> None:
    """Whatever a handler calls in the middle of whatever else: an answer, or NestedUpdate or StoreBusy, at once."""
    in_a_child(lambda: _interrupted_calls(root, handled=2_000))


def _interrupted_calls(root: Path, handled: int) -> None:
    with Store(root, durability="relaxed", lock_timeout=5.0) as store:
        for key in (KEY, OTHER):
            store.patch(key, {"n": 0})
        store.list(), store.verify(), store.compact()
        inner = [
            lambda: store.get(KEY), lambda: store.patch(OTHER, {"n": 1}), lambda: store.list(limit=1),
            lambda: store.patch(KEY, {"n": 1}), lambda: store.history(KEY), lambda: store.compact(dry_run=True),
        ]  # fmt: skip
        outer = [
            lambda: store.patch(KEY, {"m": time.monotonic()}), lambda: store.get(KEY), store.list,
            lambda: store.patch(OTHER, {"m": time.monotonic()}),
        ]  # fmt: skip
        slow: list[float] = []
        calls = [0]

        def handler(*_: object) -> None:
            began = time.monotonic()
            with contextlib.suppress(NestedUpdate, StoreBusy):
                inner[calls[0] % len(inner)]()
            calls[0] += 1
            slow.append(time.monotonic() - began)
            signal.setitimer(signal.ITIMER_REAL, 0.0003 + calls[0] % 7 * 0.0001)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0003)
        end = time.monotonic() + PATIENCE / 2
        turn = 0
        while calls[0] < handled and time.monotonic() < end:  # counted: a busy machine runs few of them a second
            outer[turn // 20 % len(outer)]()
            turn += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert calls[0] > 20
        assert max(slow) < 3.0, "a handler's call waited for the code beneath it"


def a_handler_inside_an_update_of_the_same_session_is_refused(root: Path) -> None:
    """The session beneath is being updated: waiting for it would never end."""
    with Store(root, lock_timeout=2.0) as store:
        store.patch(KEY, {"n": 0})
        seen: list[str] = []

        def handler(*_: object) -> None:
            began = time.monotonic()
            try:
                store.patch(KEY, {"n": 1})
            except (NestedUpdate, LockTimeout) as error:
                seen.append(type(error).__name__)
            seen.append("at once" if time.monotonic() - began < 1.0 else "late")

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            store.update(KEY, lambda draft: (os.kill(os.getpid(), signal.SIGUSR1), time.sleep(0.01), None)[2])
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == ["NestedUpdate", "at once"], seen


# Exceptions from outside


class Outside(Exception):
    """A soft time limit."""


def an_exception_from_outside_leaves_nothing_locked(root: Path) -> None:
    """A handler raises at random moments of an update: the session is free for everybody afterwards."""
    in_a_child(lambda: _limited_calls(root, seconds=2.0))


def _limited_calls(root: Path, seconds: float) -> None:
    import random

    chance = random.Random(5)

    def handler(*_: object) -> None:
        raise Outside

    signal.signal(signal.SIGALRM, handler)
    ignored: list[object] = []
    sys.unraisablehook = ignored.append
    with Store(root, durability="relaxed", lock_timeout=0.5) as store:
        store.patch(KEY, {"n": 0})
        low = high = raised = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            high += 1
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 1.5e-4))
                store.update(KEY, actions.add_one)
                low += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Outside:
                raised += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
            else:
                continue
            assert _is_free(disk.shard(root, KEY)), "the lock stayed"
            seen = store[KEY]["n"]
            assert low <= seen <= high, "lost, or counted twice"
            low = high = seen
        assert raised > 20
        # The exception itself may arrive inside a finalizer: that one is printed by the interpreter.
        assert all(one.exc_type is Outside for one in ignored), ignored  # type: ignore[attr-defined]


def _is_free(path: Path) -> bool:
    import fcntl

    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


# Fork


class SlowImport:
    """Makes the import of one module take a while, and says when it has begun."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begun = threading.Event()

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Wait at the right name; find nothing."""
        if name == self.name:
            self.begun.set()
            time.sleep(0.5)


def a_child_forked_during_a_late_import_works(root: Path) -> None:
    """The import's lock would belong to a thread that the child does not have: the fork waits for the import."""
    with Store(root) as store:
        store.patch(KEY, {"n": 0})
        name = "shardstore._files.maintenance.verify"
        sys.modules.pop(name, None)
        slow = SlowImport(name)
        sys.meta_path.insert(0, slow)  # type: ignore[arg-type]
        try:
            wait = actions.in_background(store.verify)
            assert slow.begun.wait(PATIENCE)
            child = actions.in_child(lambda: (store.verify(), store.patch(KEY, {"n": 1})))
            assert wait().ok
            assert actions.wait_for(child, PATIENCE) == 0
        finally:
            sys.meta_path.remove(slow)  # type: ignore[arg-type]
        assert store[KEY]["n"] == 1


# Clocks


@contextlib.contextmanager
def clock_ahead(seconds: float) -> Iterator[None]:
    """Put the clock forward."""
    nanoseconds, plain = time.time_ns, time.time
    with (
        mock.patch("time.time_ns", lambda: nanoseconds() + int(seconds * 1e9)),
        mock.patch("time.time", lambda: plain() + seconds),
    ):
        yield


def one_write_under_a_wrong_clock_does_not_stay(root: Path) -> None:
    """The next write under a right clock brings the session back to the present; verify named it before."""
    with Store(root) as store:
        for key in (KEY, OTHER):
            store.patch(key, {"n": 1})
        with clock_ahead(50 * 365 * DAY_S):
            store.patch(KEY, {"n": 2})
        assert [note.kind for note in store.verify().notes] == ["future"]
        assert store.patch(KEY, {"n": 3}).updated_at.timestamp() < time.time() + 60
        time.sleep(0.01)
        store.patch(OTHER, {"n": 2})
        assert [info.key for info in store.list()] == [OTHER, KEY]
        time.sleep(0.2)
        assert {one.key for one in store.prune(older_than=0.1, dry_run=True).actions} == {KEY, OTHER}
        store.delete(KEY)
        assert abs(store.create(KEY, {}).updated_at.timestamp() - time.time()) < 60


def a_purge_of_everything_is_refused(root: Path) -> None:
    """Everything is older than the limit: so it looks when the clock has jumped, too."""
    with Store(root) as store:
        for key in (KEY, OTHER):
            store.patch(key, {"n": 1})
        with clock_ahead(400 * DAY_S):
            assert store.prune(older_than=30 * DAY_S, purge=True, dry_run=True).refused
            with raises(InvalidQuery):
                store.prune(older_than=30 * DAY_S, purge=True)
            assert len(store) == 2
            store.patch(OTHER, {"n": 2})
            assert [one.key for one in store.prune(older_than=30 * DAY_S, purge=True).actions] == [KEY]
        with clock_ahead(900 * DAY_S):
            assert len(store.prune(older_than=30 * DAY_S, purge=True, trust_clock=True).actions) == 1


# Root and groups


def a_rewrite_keeps_the_mode(root: Path) -> None:
    """A group may read this one session: it may do so after a rewrite. (Owner and group: tests/people.)"""
    with Store(root) as store:
        for number in range(400):
            store.patch(KEY, {"n": number, "text": "x" * 100})
        disk.shard(root, KEY).chmod(0o640)
        assert [action.action for action in store.compact().actions] == ["rewrite"]
        assert disk.shard(root, KEY).stat().st_mode & 0o777 == 0o640


def a_refused_directory_is_left_untouched(root: Path) -> None:
    """Others may write to it: it is refused before anything is made in it."""
    root.mkdir()
    root.chmod(0o777)
    with raises(UnsafeStore):
        Store(root)
    assert list(root.iterdir()) == []


# Ends of resources


def no_inode_at_a_rewrite_is_no_failed_update(root: Path) -> None:
    """A journal that cannot be rewritten grows a while longer: nothing is lost, and it is made good later."""
    with Store(root, durability="relaxed") as store:
        store.patch(KEY, {"n": 0})
        real = os.open

        def full(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & os.O_CREAT and ".tmp-" in os.fspath(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            return real(path, flags, *args, **kwargs)

        with mock.patch("os.open", full):
            for number in range(100):
                store.patch(KEY, {"n": number, "text": str(number) * 1000})
        assert store[KEY]["n"] == 99
        grown = disk.shard(root, KEY).stat().st_size
        store.patch(KEY, {"n": 100})
        assert disk.shard(root, KEY).stat().st_size < grown, "it is rewritten as soon as that works"


def idle_descriptors_are_given_up_first(root: Path) -> None:
    """This process has no descriptor left, and many open sessions: a cold one takes the place of an idle one."""
    in_a_child(lambda: _without_descriptors(root))


def _without_descriptors(root: Path) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with Store(root, durability="relaxed") as store:
        for number in range(50):
            store.patch(f"k{number}", {"n": number})
        store.list()
        held = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        assert store.patch("cold", {"n": 1}).rev == 1
        assert store["k7"]["n"] == 7
        for number in range(100):
            store.patch("k3", {"n": number, "text": "z" * 2000})
        for fd in held:
            os.close(fd)
        assert len(store.list()) == 51


def unstable_inode_numbers_end_at_the_timeout(root: Path) -> None:
    """On some FUSE file systems each look gives another inode: the lock is never that of the named file."""
    in_a_child(lambda: _unstable(root))


def _unstable(root: Path) -> None:
    from shardstore._files.locks.identity import PathIdentity

    with Store(root, lock_timeout=0.5) as store:
        store.patch(KEY, {"n": 0})
        real, count = PathIdentity.current, [0]

        def current(self: PathIdentity) -> tuple[int, int, int, int]:
            count[0] += 1
            links, inode, size, device = real(self)
            return links, inode + count[0], size, device

        began = time.monotonic()
        with (
            mock.patch.object(PathIdentity, "current", current),
            mock.patch.object(PathIdentity, "ask", lambda self: -1),
        ):
            with raises(LockTimeout):
                store.patch(KEY, {"n": 1})
        assert time.monotonic() - began < 3.0
        assert store.patch(KEY, {"n": 2})["n"] == 2


def a_wait_without_threads_keeps_the_timeout(root: Path) -> None:
    """No thread can be started (RLIMIT_NPROC, an interpreter that ends): a busy session is LockTimeout, or waited for."""
    with Store(root, lock_timeout=0.4) as store, one_peer() as peer:
        store.patch(KEY, {"n": 0})
        peer.start(actions.hold, root, KEY)
        peer.heard()
        with mock.patch("threading.Thread.start", _no_thread):
            began = time.monotonic()
            try:
                store.patch(KEY, {"n": 1})
            except LockTimeout:
                outcome = "LockTimeout"
            except RuntimeError as error:
                outcome = repr(error)
            assert (outcome, time.monotonic() - began < 3.0) == ("LockTimeout", True)
            peer.tell()
            peer.result()
            assert store.patch(KEY, {"n": 2})["n"] == 2


def _no_thread(_self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


# A stranger's files


def copies_are_no_sessions(root: Path) -> None:
    """Conflict copies and foreign files stay, are named, and count neither as sessions nor as deleted ones."""
    with Store(root) as store:
        for key in (KEY, OTHER):
            store.patch(key, {"n": 1})
        store.delete(OTHER)
        path = disk.shard(root, KEY)
        before = store.stats()
        assert (before.sessions, before.tombstones) == (1, 1)
        stem = path.name.removesuffix(".jsonl")
        made = [
            path.with_name(name)
            for name in (
                f"{path.name}~", f"{stem}.sync-conflict-20261126-120000-AAAAAAA.jsonl", f"{stem} 2.jsonl",
                f"{stem} (conflicted copy).jsonl", f"Copy of {path.name}", ".DS_Store", f"{path.name}.orig", "x.jsonl",
            )
        ]  # fmt: skip
        for copy in made:
            shutil.copy(path, copy)
        assert [info.key for info in store.list()] == [KEY]
        after = store.stats()
        assert (after.sessions, after.tombstones) == (1, 1), after
        report = store.verify(repair=True)
        assert not report.problems
        assert sum(note.kind == "foreign" for note in report.notes) == len(made)
        store.compact()
        assert all(copy.exists() for copy in made)
        for copy in made:
            copy.unlink()


def run_python(code: str, *args: object, timeout: float = 60.0) -> str:
    """Run a script in a fresh interpreter; return what it printed. AssertionError where it failed."""
    from tests.support.peer import environment

    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env=environment(), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
