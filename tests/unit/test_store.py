"""The path of a hot update: how many Python calls it takes. What the verbs promise is in tests/contract."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from shardstore import Draft, Store

MOST = 20  # Python calls, the mutator and the draft's methods included


def test_a_hot_relaxed_update_takes_few_python_calls(root: Path) -> None:
    """Each call costs about as much as a system call's overhead; a detour shows here before it shows in a benchmark."""
    calls: list[str] = []

    def count(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)

    def mutate(draft: Draft) -> None:
        draft["n"] = draft["n"] + 1

    with Store(root, durability="relaxed") as store:
        store.create("k", {"n": 0, "name": "x" * 1000})
        for _ in range(300):
            store.update("k", mutate)
        fewest: list[str] = []
        for _ in range(20):  # now and then there is a look at the clock or the line
            calls.clear()
            sys.setprofile(count)
            store.update("k", mutate)
            sys.setprofile(None)
            made = [name for name in calls if name]
            fewest = made if not fewest or len(made) < len(fewest) else fewest
        assert store["k"]["n"] == 320
    print(len(fewest), dict(Counter(fewest)))
    assert 5 < len(fewest) <= MOST, fewest
