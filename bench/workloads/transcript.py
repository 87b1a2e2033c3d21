"""The log of a session: an item of 1 KB and three fields in a commit, and the newest 20 items of logs of any length."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.crew import Crew
from bench.measure import NS_PER_S, Summary, clock, sample
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import entries, other
from bench.workloads.memory import resident

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from bench.peers.base import Entry, Peer

NAME = "transcript"
ABOUT = "an item of 1 KB and 3 fields in one commit; tails, whole logs, opening beside a log, first use of ids, memory"
NEIGHBOURS = 50
KEY = "agent:main:transcript"
TAIL = 20
RELAXED_STORES = ("shardstore", "sqlite")
OURS = ("shardstore",)
DURABLE_STORES = ("shardstore-commit", "sqlite-full", "openai")
LENGTHS, QUICK_LENGTHS = (100, 5_000, 100_000), (100, 5_000)
LONG, QUICK_LONG = 50_000, 2_000  # items of 1 KB: 50 MB
PROCESSES = 8
KEYS = [other(number) for number in range(1, PROCESSES + 1)]
MEMORY = """
from shardstore import Store
store = Store(root + '/store', durability='relaxed')
def work(n):
    for i in range(n):
        store.append('agent:main:transcript', [{'id': f'msg-{i:08}', 'content': f'{i:08} ' * 110}], {'n': i})
work(2_000); before = resident(); work(count); print(before, resident())
"""


def cases(stage: Stage) -> Iterator[Case]:
    """Yield appending at both levels, appending beside a patch alone, and tails."""
    yield Case(NAME, "append, relaxed", RELAXED_STORES, _append, stage.plan.seconds)
    yield Case(NAME, "append, durable", DURABLE_STORES, _append, max(stage.plan.seconds, stage.plan.window / 2))
    yield Case(NAME, "the fields alone, durable", DURABLE_STORES[:2], _patch, stage.plan.seconds)
    for length in QUICK_LENGTHS if stage.plan.quick else LENGTHS:
        stores = ("shardstore", "sqlite") if length > LENGTHS[1] else ("shardstore", "sqlite", "openai")
        yield Case(NAME, f"newest {TAIL} of {length:,}", stores, partial(_tail, length, TAIL), stage.plan.seconds)
    long = QUICK_LONG if stage.plan.quick else LONG
    yield Case(NAME, f"all of {long:,}", ("shardstore", "sqlite"), partial(_tail, long, long), stage.plan.seconds)
    for length in (0, long):
        yield Case(NAME, f"open beside {length:,} items", OURS, partial(_open, length), stage.plan.seconds)
    yield Case(NAME, f"first use of ids, {long:,} items", OURS, partial(_first_id, long), stage.plan.seconds)
    yield Case(NAME, f"append, durable, {PROCESSES} processes", DURABLE_STORES, _crowd, stage.plan.window)
    yield Case(NAME, f"{stage.plan.operations:,} appends", OURS, _memory, 0.0, min(3, stage.plan.rounds))


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
def _tail(length: int, count: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, opened(store, root) as peer:
        _fill(peer, length)

        def operation() -> None:
            found = peer.tail(KEY, count)
            if len(found) != count:
                raise AssertionError(f"{store} gave {len(found)} of the newest {count} items")

        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()


@contextmanager
def _open(length: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    """Read the fields of a session that is not open, beside a log of this length."""
    with stage.fresh() as root, opened(store, root) as peer:
        _fill(peer, length)
        engine = peer.store.engine  # type: ignore[attr-defined]

        def operation() -> None:
            engine.pool.close_idle()
            peer.field(KEY, "status")

        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()


@contextmanager
def _first_id(length: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    """Find an item by its id where the process knows none: what the first use of ids costs."""
    with stage.fresh() as root, opened(store, root) as peer:
        peer.store.append(  # type: ignore[attr-defined]
            KEY, [item(number) for number in range(length)], fields(0), ids=[str(number) for number in range(length)]
        )

        def operation() -> None:
            session = peer.store[KEY]  # type: ignore[attr-defined]
            peer.store.engine.logs.forget(session._state.log.settled.file)  # type: ignore[attr-defined]
            if session.log.find("7") is None:
                raise AssertionError("an id is missing")

        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()


def append_until(peer: Peer, rank: int, seconds: float) -> tuple[array[int], int]:
    """Append to this process' session until the time is over: (latencies in ns, wall time in ns). A worker's job."""
    key, numbers, begun = KEYS[rank % len(KEYS)], iter(range(1, 1_000_000_000)), clock()

    def operation() -> None:
        number = next(numbers)
        peer.append_item(key, item(number), fields(number))

    return sample(operation, seconds), clock() - begun


@contextmanager
def _crowd(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    """Eight processes, each with a session of its own."""
    with stage.fresh() as root:
        with opened(store, root) as peer:
            peer.fill(entries("1 KB", PROCESSES + 1))
        with Crew(store, root, PROCESSES) as crew:

            def go(seconds: float) -> Metrics:
                results = crew.run(append_until, seconds)
                wall = max(wall for _, wall in results) / NS_PER_S
                return Summary.of([one for taken, _ in results for one in taken], wall).metrics()

            yield go


@contextmanager
def _memory(stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root:
        with opened(store, root) as peer:
            _begun(peer)
        yield lambda _: resident(MEMORY, root, stage.plan.operations)


def _fill(peer: Peer, length: int) -> None:
    numbers = _begun(peer)
    peer.append_items(KEY, [item(next(numbers)) for _ in range(length)])


def _begun(peer: Peer) -> Iterator[int]:
    """Create the session and its neighbours; return the numbers of its items."""
    peer.fill(entries("1 KB", NEIGHBOURS))
    peer.create(KEY, fields(0))
    return iter(range(1, 1_000_000_000))
