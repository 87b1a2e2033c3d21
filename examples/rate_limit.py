"""A rate limit across processes: together they make at most `limit` calls in any `seconds`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shardstore import Store

if TYPE_CHECKING:
    from shardstore import Draft


def take(store: Store, key: str, limit: int, seconds: float) -> float:
    """Return 0.0 where a call may be made now, else how many seconds to wait before asking again.

    The session holds the times of the last calls, at most `limit` of them. The clock is read inside the lock, and never
    taken to go back.
    """
    wait = 0.0

    def ask(draft: Draft) -> None:
        nonlocal wait
        calls = draft.get("calls", [])
        now = max(time.time(), calls[-1] if calls else 0.0)
        if len(calls) >= limit and now - calls[-limit] <= seconds:
            wait = calls[-limit] + seconds - now + 0.001
            return
        draft["calls"] = [*calls, now][-limit:]

    store.update(key, ask)
    return wait


def call_when_allowed(store: Store, key: str, limit: int, seconds: float) -> None:
    """Wait until a call may be made."""
    while wait := take(store, key, limit, seconds):
        time.sleep(wait)


if __name__ == "__main__":
    # "relaxed": a power cut may forget a few calls, and no call waits for the disk.
    with Store("sessions", durability="relaxed") as store:
        for n in range(3):
            call_when_allowed(store, "limit:search", limit=2, seconds=0.2)
            print("call", n)
