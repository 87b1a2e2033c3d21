"""The log of a session: an item of 1 KB and three fields in a commit, and the newest 20 items of logs of any length."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.measure import Summary, sample
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peers.base import Entry, Peer

NAME = "transcript"
ABOUT = "an item of 1 KB and 3 fields in one commit; the newest 20 items of logs of different length; one process"
NEIGHBOURS = 50
KEY = "agent:main:transcript"
TAIL = 20
RELAXED_STORES = ("shardstore", "sqlite")
DURABLE_STORES = ("shardstore-commit", "sqlite-full", "openai")
LENGTHS, QUICK_LENGTHS = (100, 5_000, 100_000), (100, 5_000)


def cases(stage: Stage) -> Iterator[Case]:
    """Yield appending at both levels, appending beside a patch alone, and tails."""
    yield Case(NAME, "append, relaxed", RELAXED_STORES, _append, stage.plan.seconds)
    yield Case(NAME, "append, durable", DURABLE_STORES, _append, max(stage.plan.seconds, stage.plan.window / 2))
    yield Case(NAME, "the fields alone, durable", DURABLE_STORES[:2], _patch, stage.plan.seconds)
    for length in QUICK_LENGTHS if stage.plan.quick else LENGTHS:
        stores = ("shardstore", "sqlite") if length > LENGTHS[1] else ("shardstore", "sqlite", "openai")
        yield Case(NAME, f"newest {TAIL} of {length:,}", stores, partial(_tail, length), stage.plan.seconds)


def item(number: int) -> Entry:
    """Return a message of about 1 KB."""
    return {"role": "assistant", "id": f"msg-{number:08}", "content": f"{number:08} " * 110}


def fields(number: int) -> Entry:
    """Return what changes beside each message."""
    return {"updatedAt": number, "totalTokens": number * 3, "status": "running" if number % 2 else "idle"}


@contextmanager
def _append(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        numbers = _begun(peer)

        def operation() -> None:
            number = next(numbers)
            peer.append_item(KEY, item(number), fields(number))

        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()


@contextmanager
def _patch(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        numbers = _begun(peer)
        yield lambda seconds: Summary.of(sample(lambda: peer.patch(KEY, fields(next(numbers))), seconds)).metrics()


@contextmanager
def _tail(length: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        numbers = _begun(peer)
        peer.append_items(KEY, [item(next(numbers)) for _ in range(length)])

        def operation() -> None:
            found = peer.tail(KEY, TAIL)
            if len(found) != TAIL:
                raise AssertionError(f"{store} gave {len(found)} of the newest {TAIL} items")

        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()


def _begun(peer: Peer) -> Iterator[int]:
    """Create the session and its neighbours; return the numbers of its items."""
    peer.fill(entries("1 KB", NEIGHBOURS))
    peer.create(KEY, fields(0))
    return iter(range(1, 1_000_000_000))
