"""Claim a session with a lease, which a dead owner loses.

A lease is held for some seconds and can be renewed. The next owner gets a larger number, its token. An owner
writes only by `write`, which refuses an older token. So an owner that was stopped for longer than its lease harms
nothing when it goes on.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from shardstore import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore import Draft, Session


class LeaseLost(Exception):
    """Somebody else has the session by now, or it was given back."""


def claim(store: Store, key: str, owner: str, seconds: float) -> int | None:
    """Return a token, or None where somebody else holds the session."""
    token = 0

    def take(draft: Draft) -> None:
        nonlocal token
        lease = draft.get("lease", {"token": 0, "until": 0.0})
        if lease["until"] > time.time():
            return
        token = lease["token"] + 1
        draft["lease"] = {"owner": owner, "token": token, "until": time.time() + seconds}

    store.update(key, take)
    return token or None


def write(store: Store, key: str, token: int, fn: Callable[[Draft], Any], *, seconds: float = 0.0) -> Session:
    """Update the session as its owner, and renew the lease where `seconds` are given. Raises LeaseLost."""

    def change(draft: Draft) -> None:
        _check(draft, token)
        fn(draft)
        if seconds:
            draft["lease"]["until"] = time.time() + seconds

    return store.update(key, change, create=False)


def give_back(store: Store, key: str, token: int) -> None:
    """End the lease at once. The token stays, so that no later one is the same."""

    def end(draft: Draft) -> None:
        _check(draft, token)
        draft["lease"] = {"owner": "", "token": token, "until": 0.0}

    store.update(key, end, create=False)


def _check(draft: Draft, token: int) -> None:
    if draft["lease"]["token"] != token or not draft["lease"]["until"]:
        raise LeaseLost(f"{draft.key} has another owner by now")


if __name__ == "__main__":
    with Store("sessions") as store:
        owner = f"worker-{os.getpid()}"
        token = claim(store, "chat:42", owner, seconds=30)
        if token is None:
            print("somebody else is at it")
        else:
            write(store, "chat:42", token, lambda draft: draft.update(step=1), seconds=30)
            give_back(store, "chat:42", token)
            print("done, with token", token)
