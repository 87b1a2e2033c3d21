"""A parent and its children, and somebody who has nothing to do with them.

Each child: created, model patched, 11 patches, finished, and one increment on the parent. The children are
worked on by up to 16 processes, every child doing something each 50 ms. A bystander updates a session of its own
every 2 ms, three times: alone; while the same fan-out runs in another store, which shows what the machine's two cores
alone cost it; and while it runs in the bystander's own store.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.crew import Crew
from bench.measure import NS_PER_S, Summary, clock, paced
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import HOT, bump, entries, entry, other

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from bench.peers.base import Peer

NAME = "fanout"
ABOUT = "a parent with 15, 50, 192 children, and the p99 of a bystander: alone, beside another store, disturbed"
STORES = ("shardstore", "sqlite", "lmdb-nosync", "diskcache", "perfile", "onefile")
WORKERS = 16
CHILD_STEP_S = 0.05
BYSTANDER_STEP_S = 0.002
PARENT = HOT
BYSTANDER = other(1)
STEPS = 15  # of one child, as in `step`


def cases(stage: Stage) -> Iterator[Case]:
    """Yield the numbers of children."""
    for children in stage.plan.children:
        yield Case(NAME, f"{children} children", STORES, partial(_stand, children), stage.plan.window)


def step(peer: Peer, child: str, number: int) -> int:
    """Run the n-th step of a child; return 1 when it was the increment on the parent."""
    if number == 0:
        peer.create(child, entry("1 KB"))
    elif number == STEPS - 1:
        peer.update(PARENT, bump)
        return 1
    elif number == STEPS - 2:
        peer.patch(child, {"status": "done", "endedAt": number})
    else:
        peer.patch(child, {"totalTokens": number, "model": f"model-{number}"})
    return 0


def raise_children(peer: Peer, rank: int, names: list[list[str]], seconds: float) -> int:
    """Work on this process' children in turn, one step each 50 ms; return how often the parent was told. A job.

    A child that is done is followed by a new one, so the load is the same to the end.
    """
    mine = names[rank]
    told = 0
    end = clock() + int(seconds * NS_PER_S)
    for number in range(1_000_000):
        for name in mine:
            begun = clock()
            if begun >= end:
                return told
            life, age = divmod(number, STEPS)
            told += step(peer, f"{name}:{life}", age)
            spare = CHILD_STEP_S / len(mine) - (clock() - begun) / NS_PER_S
            if spare > 0:
                time.sleep(spare)
    return told


def stand_by(peer: Peer, rank: int, seconds: float) -> array[int]:
    """Update the bystander's session at a steady pace; return the latencies. A worker's job."""
    return paced(lambda: peer.update(BYSTANDER, bump), seconds, BYSTANDER_STEP_S)


@contextmanager
def _stand(children: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    workers = min(children, WORKERS)
    rounds = iter(range(1_000_000))
    with (
        stage.fresh() as here, stage.fresh() as elsewhere,
        opened(store, here) as peer, opened(store, elsewhere) as other_peer,
    ):  # fmt: skip
        peer.fill(entries("1 KB", 2))
        other_peer.fill(entries("1 KB", 2))
        with (
            Crew(store, here, 1) as bystander,
            Crew(store, here, workers) as crew,
            Crew(store, elsewhere, workers) as strangers,
        ):

            def disturb(whom: Crew, seconds: float) -> tuple[Any, int]:
                prefix = f"agent:main:subagent:{next(rounds)}"
                names = [[f"{prefix}-{n}" for n in range(rank, children, workers)] for rank in range(workers)]
                whom.start(raise_children, names, seconds)
                latencies = bystander.run(stand_by, seconds * 0.9)[0]
                return latencies, sum(whom.finish())

            def go(seconds: float) -> Metrics:
                before = int(str(peer.field(PARENT, "totalTokens")))
                alone = bystander.run(stand_by, seconds)[0]
                beside, _ = disturb(strangers, seconds)
                disturbed, told = disturb(crew, seconds)
                lost = told - (int(str(peer.field(PARENT, "totalTokens"))) - before)
                summaries = {"alone_": alone, "beside_": beside, "disturbed_": disturbed}
                parts = [Summary.of(taken).metrics(name) for name, taken in summaries.items()]
                return {**parts[0], **parts[1], **parts[2], "children_done": float(told), "lost": float(lost)}

            yield go
