"""Many threads, many sessions, few descriptors."""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from pathlib import Path

import pytest

from shardstore import Store
from tests.support import actions
from tests.support.peer import one_peer


def test_threads_and_sessions_beyond_the_descriptors(root: Path) -> None:
    """With 64 descriptors, 8 threads update 400 sessions at random: nothing is lost and nothing stays open."""
    with one_peer() as peer:
        total, left = peer.run(_work_with_few_descriptors, str(root), 64, 2.5)
    with Store(root) as store:
        assert sum(session["n"] for session in map(store.get, store) if session is not None) == total
    assert total > 200
    assert left == []


def _work_with_few_descriptors(root: str, limit: int, duration: float) -> tuple[int, list[str]]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    stop = time.monotonic() + duration

    def work(seed: int) -> int:
        rng, done = random.Random(seed), 0
        while time.monotonic() < stop:
            store.update(f"k{int(rng.paretovariate(0.5)) % 400}", lambda draft: actions.add_one(draft, 0.0002))
            done += 1
            if rng.random() < 0.2:
                store.get(f"k{rng.randrange(400)}")
        return done

    with Store(root, durability="relaxed") as store:
        total = sum(wait(60.0) for wait in [actions.in_background(work, seed) for seed in range(8)])
    left = []
    if sys.platform == "linux":
        for fd in os.listdir("/proc/self/fd"):
            try:
                path = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                continue
            if root in path:
                left.append(path)
    return total, left


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_opening_and_closing_stores_leaks_nothing(root: Path) -> None:
    """100 stores opened, used and closed leave no descriptor, thread or memory map behind."""
    import threading

    with Store(root) as store:
        store.create("k", {})
        store.list()
    before = (len(os.listdir("/proc/self/fd")), threading.active_count())
    for n in range(100):
        with Store(root) as store:
            store.patch("k", {"n": n})
            if n % 10 == 0:
                store.list()
    after = (len(os.listdir("/proc/self/fd")), threading.active_count())
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1] + 1
    with open("/proc/self/maps") as maps:
        assert sum(str(root) in line for line in maps) <= 1
