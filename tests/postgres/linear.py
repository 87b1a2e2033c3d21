"""A history of reads and updates of several processes, and whether one order explains it.

Each update adds one and returns what it added to, so every value is written once: an order exists exactly if no value
was seen by a call that ended before the update that wrote it began, and no call saw less than what was finished before
it began.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from shardstore import CommitUncertain, ShardStoreError, Store, StoreUnavailable

KEY = "agent:linear"


class Call(NamedTuple):
    """One call: what it did and when, by the clock that all processes of a machine share."""

    kind: str  # "read", "add", "unknown"
    began: float
    ended: float
    value: int  # that was read, or was there after the addition; 0 where unknown


def record(url: str, me: int, times: int) -> list[Call]:
    """In a peer: read and add in turn; return the history."""
    found: list[Call] = []
    with _opened(url) as store:
        while len(found) < times:
            began = time.monotonic()
            try:
                if len(found) % 3 == me % 3:
                    session = store.get(KEY)
                    found.append(Call("read", began, time.monotonic(), 0 if session is None else session["n"]))
                else:
                    session = store.update(KEY, lambda draft: draft.update(n=draft.get("n", 0) + 1))
                    found.append(Call("add", began, time.monotonic(), session["n"]))
            except CommitUncertain:
                found.append(Call("unknown", began, float("inf"), 0))
            except ShardStoreError:
                time.sleep(0.02)
    return found


def _opened(url: str) -> Store:
    while True:
        try:
            return Store(url, lock_timeout=30.0)
        except StoreUnavailable:  # the server is starting again
            time.sleep(0.05)


def check_histories(histories: list[list[Call]]) -> None:
    """Raise AssertionError where no order explains what the calls saw."""
    calls = sorted((call for history in histories for call in history), key=lambda call: call.began)
    adds = {call.value: call for call in calls if call.kind == "add"}
    assert len(adds) == sum(call.kind == "add" for call in calls), "two additions had the same outcome"
    unknown = sum(call.kind == "unknown" for call in calls)
    top = max(call.value for call in calls)
    assert top - len(adds) <= unknown, f"{top} additions, of which {len(adds)} are known and {unknown} uncertain"
    for call in calls:
        if call.kind == "unknown":
            continue
        done = max((value for value, add in adds.items() if add.ended < call.began), default=0)
        least = done + 1 if call.kind == "add" else done
        assert call.value >= least, f"{call} saw less than {least}, which was there before it began"
        seen = max((c.value for c in calls if c.kind == "read" and c.ended < call.began), default=0)
        assert call.value >= seen, f"{call} saw less than {seen}, which was read before it began"
        wrote = adds.get(call.value)
        assert wrote is None or wrote.began < call.ended, f"{call} saw what was written later"
