"""Incidents in which everybody waited (#11950, #112618, #3092, #15507, #15628, #14411, #76881, #100425, #153666)."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from shardstore import Draft, LockTimeout, Store
from tests.scenarios import locks, lost_updates, populations
from tests.support import actions, disk
from tests.support.peer import peers


def test_11950_an_update_waits_for_nobody_but_its_own_session(root: Path) -> None:
    """72 sessions of 136 KB, 7 of them always held by others: 1,000 updates of another key, p99 below 10 ms."""
    populations.updates_do_not_wait_for_other_keys(root)


def test_11950_the_timeout_counts_from_the_call_and_names_the_owner(root: Path) -> None:
    """At the end of a queue of ten the error still comes on time and names the process at its head."""
    with Store(root, lock_timeout=0.5) as store, peers(3) as (holder, *queue):
        store.create("k", {"n": 0})
        holder.start(actions.hold, root, "k")
        assert holder.heard() == "holding"
        for peer in queue:
            peer.start(actions.timed_update, root, "k", "a", 1)
            assert peer.heard() == "calling"
        waited = []

        def attempt() -> int | None:
            begun = time.monotonic()
            with pytest.raises(LockTimeout) as caught:
                store.patch("k", {"n": 1})
            waited.append(time.monotonic() - begun)
            return caught.value.pid

        owners = {wait() for wait in [actions.in_background(attempt) for _ in range(8)]}
        assert owners <= {holder.pid, None}
        assert min(waited) >= 0.5
        assert max(waited) < 8 * 0.5 / 2  # one after the other it would take all of that
        holder.tell()
        assert holder.result() == 2
        assert {peer.result()[0] for peer in queue} == {3, 4} or store["k"].rev == 3  # both set the same value


def test_15628_release_is_one_step_for_every_waiter_in_the_process(root: Path) -> None:
    """64 threads on one key: nobody waits much longer than everybody's turn, and all get their turns."""
    lost_updates.threads_are_served_in_turn(root)


@pytest.mark.skipif(sys.platform != "linux", reason="the line before a lock is made of Linux's locks")
def test_who_had_a_turn_lets_a_waiter_go_first(root: Path) -> None:
    """Releasing and asking again at once does not overtake whoever waits."""
    lost_updates.who_had_a_turn_lets_a_waiter_go_first(root)


def test_15628_processes_are_served_in_turn(root: Path) -> None:
    """Processes queue in the kernel: none is left behind while another has turn after turn."""
    lost_updates.processes_are_served_in_turn(root)


def test_14411_one_sick_session_leaves_the_others_alone(root: Path) -> None:
    """One of 100 is held, damaged, truncated, inflated to 20 MB, made unreadable: the 99 show no error and no delay."""
    populations.one_sick_session_leaves_the_others_alone(root)


@pytest.mark.skipif(sys.platform != "linux", reason="replaces fdatasync")
def test_76881_a_slow_sync_holds_up_its_own_session_only(root: Path) -> None:
    """No shared lock is held across a sync: others write, and everybody reads, while one disk write takes its time."""
    populations.a_slow_sync_of_one_session_does_not_stop_others(root)


def test_153666_a_nested_update_raises_and_does_not_hang(root: Path) -> None:
    """Through the same object, another one, and a link: NestedUpdate within a second."""
    locks.a_nested_update_raises_at_once(root)


def test_100425_no_lock_is_held_across_an_await(root: Path) -> None:
    """A coroutine as mutator is refused, and the session is free for everybody afterwards."""

    async def mutate(draft: Draft) -> None:
        await asyncio.sleep(60)

    with Store(root, lock_timeout=0.5) as store:
        with pytest.raises(TypeError):
            store.update("k", mutate)  # type: ignore[arg-type,type-var]
        with peers(1) as (other,):
            assert other.run(actions.call, root, "patch", "k", {"n": 1}).rev == 1


def test_readers_wait_for_no_writer(root: Path) -> None:
    """A stopped process inside a mutator keeps nobody from reading its session."""
    locks.readers_wait_for_nobody(root)


def test_11950_bytes_per_update_depend_on_the_change_alone(root: Path) -> None:
    """Patching one field of a large entry appends that field (#78888: 11 patches a reply on a 17 KB row)."""
    lost_updates.a_patch_appends_itself_alone(root)
    with Store(root) as store:
        store.create("row", populations.entry(17_000))
        before = disk.end(disk.shard(root, "row").read_bytes())
        for n in range(11):
            store.patch("row", {"totalTokens": n})
        assert disk.end(disk.shard(root, "row").read_bytes()) - before < 11 * 200
