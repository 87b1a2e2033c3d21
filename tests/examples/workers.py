"""What the other processes of these tests run."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from examples import branches, cleanup, lease, rate_limit
from shardstore import Draft, Store
from tests.support.peer import say

KEY = "job:1"


def own_by_turns(root: Path, name: str, seconds: float) -> int:
    """Claim a session again and again, write as its owner, and stop at times, or sleep for longer than the lease."""
    chance, end, refused = random.Random(name), time.monotonic() + seconds, 0
    with Store(root, durability="relaxed", lock_timeout=60) as store:
        while time.monotonic() < end:
            token = lease.claim(store, KEY, name, seconds=0.03)
            if token is None:
                time.sleep(0.002)
                continue

            def note(draft: Draft, token: int = token) -> None:
                draft.log.append([token, name])

            try:
                for _ in range(chance.randrange(1, 6)):
                    lease.write(store, KEY, token, note, seconds=0.03)
                    time.sleep(chance.choice([0, 0, 0, 0.05]))
                if chance.random() < 0.5:
                    lease.give_back(store, KEY, token)
            except lease.LeaseLost:
                refused += 1
    return refused


def own_and_hang(root: Path) -> None:
    """Claim the session and do nothing, until killed."""
    with Store(root) as store:
        began = time.monotonic()
        say((lease.claim(store, KEY, "dying", seconds=3), began))
        time.sleep(600)


class Clock:
    """The clock, which remembers what it said last."""

    said = 0.0

    def time(self) -> float:
        self.said = time.time()
        return self.said


def hammer_limit(root: Path, seconds: float) -> list[float]:
    """Call as often as allowed; return the times at which that was granted, as they were read inside the lock."""
    end, calls, clock = time.monotonic() + seconds, [], Clock()
    with pytest.MonkeyPatch.context() as patch, Store(root, durability="relaxed", lock_timeout=60) as store:
        patch.setattr(rate_limit, "time", clock)
        while time.monotonic() < end:
            wait = rate_limit.take(store, "limit", 20, 0.3)
            if wait:
                time.sleep(min(wait, 0.01))
            else:
                calls.append(clock.said)
    return calls


def talk_and_branch(root: Path, name: str, turns: int) -> None:
    """Append to the common chat, and go on in a branch of it."""
    with Store(root, lock_timeout=60) as store:
        for n in range(turns):
            said = branches.say(store, "chat", name, f"{name} {n}")
            mine = branches.branch(store, "chat", at=len(said.log), name=f"{name}-{n}")
            branches.say(store, mine, name, "aside")


def keep_busy(root: Path, name: str, seconds: float) -> int:
    """Create sessions that run, and end some of them, while others clean up."""
    end, done = time.monotonic() + seconds, 0
    with Store(root, durability="relaxed", lock_timeout=60) as store:
        n = 0
        while time.monotonic() < end:
            n += 1
            store.create(f"{name}:{n}", {"status": "running", "n": n})
            if n % 2:
                store.patch(f"{name}:{n}", {"status": "done"})
                done += 1
    return done


def clean_again(root: Path, seconds: float) -> list[str]:
    """Run the cleanup job all the time; note when each one runs in a log."""
    end, outcomes = time.monotonic() + seconds, []
    with Store(root, lock_timeout=60) as store:
        while time.monotonic() < end:
            outcomes.append(
                cleanup.clean(store, older_than=cleanup.timedelta(0), archive_for=cleanup.timedelta(days=1))
            )
    return outcomes


def write_pairs(root: Path, name: str, seconds: float) -> None:
    """Change sessions whose fields and log belong together; delete some; rewind some."""
    chance, end = random.Random(name), time.monotonic() + seconds
    with Store(root, durability="relaxed", lock_timeout=60) as store:
        while time.monotonic() < end:
            key = f"{name}:{chance.randrange(12)}"
            if chance.random() < 0.1:
                store.delete(key)
            else:
                store.update(key, lambda draft: _add(draft, rewind=chance.random() < 0.1))
            time.sleep(0.001)


def _add(draft: Draft, *, rewind: bool) -> None:
    if rewind:
        del draft.log[1:]
    draft.log.append("x" * 200)
    draft["length"] = len(draft.log)
