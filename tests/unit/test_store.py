"""The path of a hot update: how many Python calls it takes. What the verbs promise is in tests/contract."""

from __future__ import annotations

from pathlib import Path

from shardstore import Draft, Store
from tests.support.calls import fewest_calls

MOST = 20  # Python calls, the mutator and the draft's methods included


def test_a_hot_relaxed_update_takes_few_python_calls(root: Path) -> None:
    """A detour shows here before it shows in a benchmark."""

    def mutate(draft: Draft) -> None:
        draft["n"] = draft["n"] + 1

    with Store(root, durability="relaxed") as store:
        store.create("k", {"n": 0, "name": "x" * 1000})
        calls = fewest_calls(lambda: store.update("k", mutate))
        assert store["k"]["n"] == 330
    assert 5 < len(calls) <= MOST, [code.co_qualname for code in calls]
