"""One reply of an agent: 11 small patches of its own entry, two routing patches, a dozen reads in between."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.measure import Summary, sample
from bench.peers import RELAXED_STORES
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import HOT, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peers.base import Entry, Peer

NAME = "turn"
ABOUT = "one reply: 11 patches, 2 routing patches and 12 reads of one 15 KB entry, one process, relaxed"
NEIGHBOURS = 50
ROUTE = {"lastChannel": "telegram", "lastTo": "telegram:-1003718841002"}
PATCHES: tuple[Entry, ...] = (
    {"systemSent": True}, {"abortedLastRun": False}, {"modelProvider": "anthropic", "model": "claude-opus-4-6"},
    {"inputTokens": 3}, {"outputTokens": 911}, {"cacheRead": 88_211}, {"cacheWrite": 500}, {"contextTokens": 200_000},
    {"thinkingLevel": "low"}, {"totalTokensFresh": True}, {"compactionCount": 1},
)  # fmt: skip


def cases(stage: Stage) -> Iterator[Case]:
    """Yield the one case there is."""
    yield Case(NAME, "one reply", RELAXED_STORES, _stand, stage.plan.seconds)


def reply(peer: Peer, number: int) -> None:
    """Change the session entry as a host does while it answers once."""
    peer.patch(HOT, {**ROUTE, "lastInteractionAt": number})
    for place, fields in enumerate(PATCHES):
        # A patch that changes nothing may be free: every one of these changes something.
        peer.patch(HOT, {**fields, "updatedAt": 1_771_290_458_500 + number * 16 + place})
        peer.field(HOT, "model")
    peer.patch(HOT, {**ROUTE, "lastInteractionAt": number + 1})
    peer.field(HOT, "totalTokens")


@contextmanager
def _stand(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        peer.fill(entries("15 KB", NEIGHBOURS))
        numbers = iter(range(1_000_000_000))
        yield lambda seconds: Summary.of(sample(lambda: reply(peer, next(numbers) * 2), seconds)).metrics()
