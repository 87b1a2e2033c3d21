"""The lock excludes, and is bound to the file that the path names; nobody but its owner's end frees it."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shardstore import Draft, LockTimeout, NestedUpdate, Store
from tests.scenarios.lost_updates import raises
from tests.support import actions, disk
from tests.support.peer import hear, one_peer, peers, say

KEY = "agent:main:main"


@contextlib.contextmanager
def _foreign_lock(path: Path) -> Iterator[int]:
    """Hold a file's lock as any other program would."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _replaced(path: Path, change: dict[str, Any]) -> None:
    """Put a new file in a shard's place, as a rewrite by another process does: one more record, another inode."""
    data = path.read_bytes()
    last = disk.records(data)[-1]
    more = disk.line({"rev": last["rev"] + 1, "at": last["at"], "by": "other", "durable": True, "set": change})
    temp = path.with_name(f".tmp-0123456789abcdef~{path.name}")
    temp.write_bytes(data[: disk.end(data)] + more)
    temp.chmod(0o600)
    temp.rename(path)


def a_file_replaced_while_waiting(root: Path) -> None:
    """A writer that waited on a file which was replaced meanwhile writes to the new one, on top of what is in it."""
    with Store(root) as store, one_peer() as peer:
        store.create(KEY, {"a": 0, "b": 0})
        path = disk.shard(root, KEY)
        with _foreign_lock(path):
            peer.start(actions.timed_update, root, KEY, "a", 1)
            assert peer.heard() == "calling"
            time.sleep(0.1)
            _replaced(path, {"b": 1})
        assert peer.result()[0] == 3
        assert disk.state(path.read_bytes()) == {"a": 1, "b": 1}
        assert store[KEY].data == {"a": 1, "b": 1}


def a_file_replaced_between_updates(root: Path) -> None:
    """A warm reader and writer notice that the file behind the name is another one."""
    with Store(root) as store:
        store.create(KEY, {"a": 0, "b": 0})
        assert store[KEY]["b"] == 0
        _replaced(disk.shard(root, KEY), {"b": 1})
        assert store[KEY]["b"] == 1
        _replaced(disk.shard(root, KEY), {"b": 2})
        assert store.patch(KEY, {"a": 1}).data == {"a": 1, "b": 2}
        assert disk.state(disk.shard(root, KEY).read_bytes()) == {"a": 1, "b": 2}


def a_file_replaced_after_many_updates(root: Path) -> None:
    """As between updates, of a file looked at so often that another way of looking is taken for it."""
    with Store(root, durability="relaxed") as store:
        store.create(KEY, {"a": 0, "b": 0})
        path = disk.shard(root, KEY)
        for n in range(1, 100):
            store.patch(KEY, {"a": n})
        for n in range(1, 4):
            _replaced(path, {"b": n})
            assert store[KEY].data == {"a": 98 + n, "b": n}
            _replaced(path, {"b": -n})
            assert store.patch(KEY, {"a": 99 + n}).data == {"a": 99 + n, "b": -n}
            assert disk.state(path.read_bytes()) == {"a": 99 + n, "b": -n}
        os.link(path, root / "backup")
        kept = path.read_bytes()
        store.patch(KEY, {"a": 0})
        assert (root / "backup").read_bytes() == kept
        path.unlink()
        assert store.get(KEY) is None
        assert store.patch(KEY, {"a": 5}).data == {"a": 5}


def a_file_removed_while_waiting(root: Path) -> None:
    """A writer that waited on a file which was removed meanwhile does not write into nothing."""
    with Store(root) as store, one_peer() as peer:
        store.create(KEY, {"a": 0})
        path = disk.shard(root, KEY)
        with _foreign_lock(path):
            peer.start(actions.timed_update, root, KEY, "a", 1)
            assert peer.heard() == "calling"
            time.sleep(0.1)
            path.unlink()
        peer.result()
        assert path.exists()
        assert disk.state(path.read_bytes()) == {"a": 1}
        assert store[KEY].data == {"a": 1}


def a_hard_link_elsewhere_is_not_the_shard(root: Path) -> None:
    """A shard that was renamed away, and still has links, is not written to through the kept descriptor."""
    with Store(root) as store:
        store.create(KEY, {"a": 0})
        path = disk.shard(root, KEY)
        away = root / "moved-away"
        path.rename(away)
        before = away.read_bytes()
        store.patch(KEY, {"a": 1})
        assert away.read_bytes() == before
        assert disk.state(path.read_bytes()) == {"a": 1}
        away.unlink()


def a_rewrite_lets_nobody_in(root: Path) -> None:
    """From the rename to the end of a rewrite another writer stays outside: the new file was locked before it."""
    from shardstore._files.file import JournalFile

    sync_name = JournalFile.sync_name
    outcomes: list[str] = []
    with Store(root) as store, one_peer() as peer:
        store.create(KEY, {"n": 0, "blob": "x" * 30_000})

        def sync_slowly(self: JournalFile) -> None:
            outcomes.append(peer.run(_outcome_of_patch, root))
            sync_name(self)

        JournalFile.sync_name = sync_slowly  # type: ignore[method-assign]
        try:
            for n in range(1, 12):
                store.patch(KEY, {"n": n, "blob": f"{n:02}" * 15_000})
        finally:
            JournalFile.sync_name = sync_name  # type: ignore[method-assign]
        assert outcomes, "no rewrite happened"
        assert set(outcomes) == {"LockTimeout"}
        assert store[KEY].rev == 12


def _outcome_of_patch(root: str) -> str:
    try:
        with Store(root, lock_timeout=0.1) as store:
            store.patch(KEY, {"intruder": True})
    except LockTimeout:
        return "LockTimeout"
    return "written"


def a_live_holder_is_never_broken(root: Path, patience: float = 0.6) -> None:
    """A holder that is stopped, for far longer than the others' timeout, keeps its lock, and then commits."""
    with Store(root, lock_timeout=patience) as store, one_peer() as holder:
        store.create(KEY, {"a": 0})
        holder.start(actions.hold, root, KEY)
        assert holder.heard() == "holding"
        holder.stop()
        before = disk.fingerprint(root)
        for _ in range(3):
            begun = time.monotonic()
            try:
                store.patch(KEY, {"a": 1})
            except LockTimeout as error:
                assert error.waited >= patience * 0.9
                assert error.pid in {holder.pid, None}
            else:
                raise AssertionError("a live holder's lock was broken")
            assert patience * 0.9 <= time.monotonic() - begun < patience + 1.0
        assert disk.fingerprint(root) == before
        holder.resume()
        holder.tell()
        assert holder.result() == 2
        assert store.patch(KEY, {"a": 1}).data == {"a": 1, "held": 1}


def a_dead_holder_is_free_at_once(root: Path) -> None:
    """However a holder dies, the next update goes through at once and finds the state before."""
    with Store(root, lock_timeout=10.0) as store:
        store.create(KEY, {"a": 0})
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
            with one_peer() as holder:
                holder.start(actions.hold, root, KEY)
                assert holder.heard() == "holding"
                holder.signal(number)
                begun = time.monotonic()
                store.update(KEY, actions.add_one)
                assert time.monotonic() - begun < 8.0  # one that dumps its memory dies when that is done
        assert store[KEY].data == {"a": 0, "n": 3}


def readers_wait_for_nobody(root: Path) -> None:
    """While a stopped process holds a session's lock, readers in this and another process answer at once."""
    with Store(root, lock_timeout=2.0) as store, peers(2) as (holder, reader):
        store.create(KEY, {"a": 0})
        reader.run(actions.get_data, root, KEY)
        holder.start(actions.hold, root, KEY)
        assert holder.heard() == "holding"
        holder.stop()
        begun = time.monotonic()
        assert store[KEY].data == {"a": 0}
        assert reader.run(actions.get_data, root, KEY) == {"a": 0}
        assert [session.rev for session in store.history(KEY)] == [1]
        assert list(store) == [KEY]
        assert time.monotonic() - begun < 15.0
        holder.resume()
        holder.tell()
        holder.result()


def a_nested_update_raises_at_once(root: Path) -> None:
    """An update inside a mutator of the same session raises; also through another Store object and an alias."""
    alias = root.with_name("alias")
    with contextlib.ExitStack() as stack, Store(root, lock_timeout=3.0) as store:
        store.create(KEY, {})
        alias.symlink_to(root, target_is_directory=True)
        for path in (root, alias, os.path.relpath(root)):
            other = stack.enter_context(Store(path, lock_timeout=3.0))

            def nest(draft: Draft, other: Store = other) -> None:
                begun = time.monotonic()
                with raises(NestedUpdate):
                    other.patch(KEY, {"n": 1})
                assert time.monotonic() - begun < 1.0
                draft["outer"] = draft.get("outer", 0) + 1

            store.update(KEY, nest)
        assert store[KEY].data == {"outer": 3}


# Forks. These run in a peer: a forked child of the test run would inherit its threads' locks half taken.


def parent_and_child_exclude_each_other(root: Path) -> None:
    """A warm store that is inherited through fork excludes parent and child as any two processes."""
    with one_peer() as peer:
        assert peer.run(_increment_around_fork, str(root), 150) == [0, 0]
    with Store(root) as store:
        assert store[KEY]["n"] == 451, f"{451 - store[KEY]['n']} of 451 updates were lost"


def _increment_around_fork(root: str, times: int) -> list[int]:
    with Store(root) as store:
        store.update(KEY, actions.add_one)

        def work() -> None:
            for _ in range(times):
                store.update(KEY, lambda draft: actions.add_one(draft, 0.0005))

        children = [actions.in_child(work), actions.in_child(work)]
        work()
        return [actions.wait_for(child) for child in children]


def a_child_does_not_keep_a_dead_parents_lock(root: Path) -> None:
    """A parent that forks inside its mutator and dies there frees the lock, though its child lives on."""
    with Store(root, lock_timeout=3.0) as store:
        store.create(KEY, {"a": 0})
        with one_peer() as parent:
            parent.start(_fork_inside, str(root))
            child = parent.heard()
            try:
                parent.kill()
                begun = time.monotonic()
                assert store.patch(KEY, {"a": 1}).rev == 2
                assert time.monotonic() - begun < 1.0
                os.kill(child, 0)
            finally:
                os.kill(child, signal.SIGKILL)


def _fork_inside(root: str) -> None:
    def fork(draft: Draft) -> None:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        say(child)
        hear()

    Store(root).update(KEY, fork)


def a_child_forked_inside_a_mutator_changes_nothing(root: Path) -> None:
    """A child that returns from its parent's mutator commits nothing and does not drop the parent's lock."""
    with Store(root, lock_timeout=0.5) as store, one_peer() as parent:
        store.create(KEY, {"a": 0})
        parent.start(_fork_and_return, str(root))
        assert parent.heard() == 0, "the child's update returned as if it had written"
        before = disk.fingerprint(root)
        with raises(LockTimeout):
            store.patch(KEY, {"intruder": True})
        assert disk.fingerprint(root) == before
        parent.tell()
        assert parent.result() == 2
        assert store[KEY].data == {"a": 0, "by": "parent"}


def _fork_and_return(root: str) -> int:
    """Return in both processes from one mutator; say 0 when the child's update raised an error of the store."""
    from shardstore import ShardStoreError

    mine = os.getpid()

    def mutate(draft: Draft) -> None:
        child = os.fork()
        draft["by"] = "parent" if child else "child"
        if child:
            say(actions.wait_for(child))
            hear()

    status = 1
    try:
        rev = Store(root).update(KEY, mutate).rev
        status = 2
    except ShardStoreError:
        status = 0
    finally:
        if os.getpid() != mine:
            os._exit(status)
    return rev


def a_fork_closes_each_descriptor_once(root: Path) -> None:
    """A child closes what it inherited once: a second close of the same number would hit a file of somebody else's."""
    with one_peer() as peer:
        assert peer.run(_fork_and_watch, str(root)) == [0, 0]


def _fork_and_watch(root: str) -> list[int]:
    import sys

    complaints: list[object] = []
    sys.unraisablehook = complaints.append
    with Store(root) as store:
        for n in range(20):
            store.patch(f"k{n}", {"n": n})

        def child() -> None:
            ends = [os.pipe() for _ in range(30)]
            for n in range(20):
                assert store.patch(f"k{n}", {"m": n})["n"] == n
            store.close()
            gc.collect()
            for reader, writer in ends:
                os.write(writer, b"x")
                assert os.read(reader, 1) == b"x"
            assert not complaints, complaints

        statuses = [actions.wait_for(actions.in_child(child))]

        def fork_inside(draft: Draft) -> None:
            statuses.append(actions.wait_for(actions.in_child(child)))
            draft["forked"] = True

        store.update("inside", fork_inside)
        assert not complaints, complaints
        return statuses


def the_lock_is_the_file_lock_that_others_use(root: Path) -> None:
    """A foreign filelock.FileLock on the shard's path excludes, and is excluded."""
    from filelock import FileLock, Timeout

    with Store(root, lock_timeout=0.2) as store:
        store.create(KEY, {"a": 0})
        path = disk.shard(root, KEY)
        with FileLock(path, timeout=1), raises(LockTimeout):
            store.patch(KEY, {"a": 1})
        with store.edit(KEY) as draft, raises(Timeout):
            draft["a"] = 2
            FileLock(path, timeout=0.2, is_singleton=False).acquire()
        assert path.exists()
