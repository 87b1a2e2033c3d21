"""Incidents around the lock itself (#20431, #87537, #85404, #93383, #74346, #86801) and what a lock must never do."""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path

import pytest

from shardstore import Draft, Store
from tests.scenarios import disks, locks, populations
from tests.support import actions, disk
from tests.support.peer import peers


@pytest.mark.damages("a copied shard")
def test_20431_a_shard_proves_whose_it_is(root: Path) -> None:
    """Shard A copied over shard B is CorruptShard for every verb on B; nothing is overwritten; A works on."""
    disks.a_file_of_another_key_is_refused(root)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_20431_a_thread_that_dies_inside_a_mutator_frees_the_lock(root: Path, error: type[BaseException]) -> None:
    """SystemExit and KeyboardInterrupt out of a mutator leave nothing locked and nothing written."""
    with Store(root, lock_timeout=2.0) as store:
        store.create("k", {"n": 0})

        def die(draft: Draft) -> None:
            draft["n"] = 1
            raise error

        thread = threading.Thread(target=_swallow, args=(lambda: store.update("k", die),))
        thread.start()
        thread.join(10)
        begun = time.monotonic()
        assert store.patch("k", {"m": 1}).data == {"n": 0, "m": 1}
        assert time.monotonic() - begun < 1.0


def _swallow(function: object) -> None:
    try:
        function()  # type: ignore[operator]
    except BaseException:
        pass


def test_20431_a_thread_that_is_killed_while_it_waits_frees_its_place(root: Path) -> None:
    """An exception that is thrown into a waiting thread from outside leaves neither the gate nor the lock taken."""
    with Store(root, lock_timeout=5.0) as store:
        store.create("k", {"n": 0})
        for _ in range(5):
            with store.edit("k"):
                thread = threading.Thread(target=_swallow, args=(lambda: store.patch("k", {"never": 1}),))
                thread.start()
                time.sleep(0.02)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
                )
            thread.join(10)
            assert not thread.is_alive()
            begun = time.monotonic()
            store.patch("k", {"n": 1})
            store.update("k", lambda draft: draft.pop("never", None) and None)
            assert time.monotonic() - begun < 1.0


def test_20431_a_live_owners_lock_is_never_broken(root: Path) -> None:
    """A stopped owner keeps its lock for many times the others' timeout, and then commits."""
    locks.a_live_holder_is_never_broken(root)


def test_20431_a_dead_owners_lock_is_free_at_once(root: Path) -> None:
    """Killed by any signal: no waiting, no repair, no trace of the half-done update."""
    locks.a_dead_holder_is_free_at_once(root)


def test_87537_taking_a_lock_never_looks_stale(root: Path) -> None:
    """Processes create sessions in the same instant, round after round, some stopped half-way: no failure."""
    populations.simultaneous_creates_all_succeed(root)


def test_85404_concurrent_creates_of_one_session_converge(root: Path) -> None:
    """Eight processes call get_or_create in the same instant: one incarnation, one maker, everywhere."""
    Store(root).close()
    with peers(8) as group:
        for attempt in range(6):
            key, moment = f"k{attempt}", time.monotonic() + 0.05
            made = group.each(actions.call_at, [(moment, root, "get_or_create", key, {"maker": n}) for n in range(8)])
            assert len({session.version for session in made}) == 1
            assert len({session["maker"] for session in made}) == 1
            assert {session.rev for session in made} == {1}
            assert len(disk.journal(root, key)) == 1


def test_a_file_replaced_while_a_writer_waits(root: Path) -> None:
    """The lock counts for the file that the name means after locking, not for the one it meant before."""
    locks.a_file_replaced_while_waiting(root)


def test_a_file_replaced_after_many_updates(root: Path) -> None:
    """The second way of looking at a path, which a busy process takes, sees what the first sees."""
    locks.a_file_replaced_after_many_updates(root)


def test_a_file_replaced_between_two_updates(root: Path) -> None:
    """What is remembered of a file is not believed of its successor."""
    locks.a_file_replaced_between_updates(root)


def test_a_file_removed_while_a_writer_waits(root: Path) -> None:
    """No update goes into a file without a name."""
    locks.a_file_removed_while_waiting(root)


def test_a_renamed_file_is_not_written_through(root: Path) -> None:
    """A link count above zero proves nothing: a shard moved elsewhere is not the shard any more."""
    locks.a_hard_link_elsewhere_is_not_the_shard(root)


def test_a_rewrite_lets_nobody_in_between(root: Path) -> None:
    """The new file of a rewrite is locked before it has the name."""
    locks.a_rewrite_lets_nobody_in(root)


def test_fork_parent_and_child_exclude_each_other(root: Path) -> None:
    """A store that was open before a fork is two stores afterwards."""
    locks.parent_and_child_exclude_each_other(root)


def test_fork_a_child_does_not_keep_the_lock_of_a_dead_parent(root: Path) -> None:
    """The child closes what it inherited: the parent's death frees the lock."""
    locks.a_child_does_not_keep_a_dead_parents_lock(root)


def test_fork_a_child_made_inside_a_mutator_neither_writes_nor_unlocks(root: Path) -> None:
    """Returning in the child from its parent's mutator is an error there and nothing to the parent."""
    locks.a_child_forked_inside_a_mutator_changes_nothing(root)


def test_fork_closes_each_inherited_descriptor_once(root: Path) -> None:
    """Nothing that the child opens afterwards is closed under its hands."""
    locks.a_fork_closes_each_descriptor_once(root)


def test_the_lock_is_the_one_that_other_programs_take(root: Path) -> None:
    """filelock.FileLock on the shard's path and the store exclude each other."""
    locks.the_lock_is_the_file_lock_that_others_use(root)


def test_93383_no_lock_file_is_ever_left_or_needed(root: Path) -> None:
    """After contention and deaths the store holds shards and nothing that is named after a lock or a pid."""
    locks.a_dead_holder_is_free_at_once(root)
    names = [path.name for path in (root / "shards").rglob("*") if path.is_file()]
    assert len(names) == 1
    assert names[0].endswith(".jsonl")


def test_never_two_winners(root: Path) -> None:
    """Read, compare, rename without a lock let 16 of 16 win: of 16 that expect one version exactly one does."""
    with Store(root) as store, peers(4) as group:
        for attempt in range(6):
            key = f"k{attempt}"
            seen = store.create(key, {"winner": None})
            moment = time.monotonic() + 0.05
            for n, peer in enumerate(group):
                peer.start(_race_to_replace, moment, str(root), key, seen.version, n)
            won = [name for peer in group for name in peer.result()]
            assert len(won) == 1, won
            assert store[key].data == {"winner": won[0]}
            assert store[key].rev == 2


def _race_to_replace(moment: float, root: str, key: str, version: str, me: int) -> list[str]:
    """In a peer: four threads try to replace what they all read; return who won."""
    from shardstore import Conflict

    with Store(root) as store:

        def attempt(name: str) -> list[str]:
            actions.sleep_until(moment)
            try:
                store.replace(key, {"winner": name}, expect=version)
            except Conflict:
                return []
            return [name]

        waits = [actions.in_background(attempt, f"{me}-{n}") for n in range(4)]
        return [name for wait in waits for name in wait()]
