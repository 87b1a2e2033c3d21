"""Processes killed while tasks and threads share syncs: whatever was acknowledged is there, and nothing needs help."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shardstore import Store
from tests.support.peer import environment

from .harness import exhaustive

TASKS, THREADS = 12, 4
VICTIM = """
import asyncio, os, sys, threading
from shardstore import Store
from shardstore.aio import AsyncStore

def acknowledged(name, number):
    os.write(1, f"{name} {number}\\n".encode())

async def task(store, name):
    for number in range(1, 1_000_000):
        await store.update("k", lambda draft, number=number: draft.update({name: number}))
        acknowledged(name, number)

def thread(store, name):
    for number in range(1, 1_000_000):
        store.patch("k", {name: number})
        acknowledged(name, number)

async def main():
    with Store(sys.argv[1]) as sync:
        store = AsyncStore(sync)
        for n in range(int(sys.argv[3])):
            threading.Thread(target=thread, args=(sync, f"thread{n}"), daemon=True).start()
        await asyncio.gather(*[task(store, f"task{n}") for n in range(int(sys.argv[2]))])

asyncio.run(main())
"""


def kill_once(root: Path, seconds: float) -> int:
    """Let a process run for so long once it has acknowledged something, kill it, and judge; return its last number."""
    command = [sys.executable, "-c", VICTIM, str(root), str(TASKS), str(THREADS)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        try:
            lines = [victim.stdout.readline()]
            time.sleep(seconds)
        finally:
            victim.kill()
        lines += victim.stdout.read().splitlines()
    last: dict[str, int] = {}
    for line in lines:
        if len(line.split()) == 2:  # the newest may have been cut
            name, number = line.split()
            last[name] = max(int(number), last.get(name, 0))
    with Store(root) as store:
        found = store["k"]
        missing = {name: number for name, number in last.items() if found[name] < number}
        assert not missing, f"acknowledged and missing: {missing}"
        assert store.verify().ok
        assert store.list()[0].version == found.version
        assert store.patch("k", dict.fromkeys([*found], 0)).rev == found.rev + 1
    return max(last.values())


def test_a_few_kills(root: Path) -> None:
    """Each run goes on where the killed one was."""
    assert sum(kill_once(root, seconds) for seconds in (0.02, 0.2, 0.4)) > 3


@exhaustive
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(root: Path, seed: int) -> None:
    """The same at random moments."""
    rng = random.Random(seed)
    for _ in range(15):
        kill_once(root, rng.random())
