"""Times and versions: times of one process rise, a wrong clock is corrected once, and a version names one content."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from shardstore import Conflict, Store
from shardstore._journal import record

A_DAY = timedelta(days=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets the clock of this process forward or back, in seconds."""
    real = time.time_ns

    def move(seconds: float) -> None:
        shift = int(seconds * 1e9)
        monkeypatch.setattr(record.time, "time_ns", lambda: real() + shift)

    return move


def test_the_commits_of_one_process_have_rising_times(store: Store) -> None:
    """Across sessions too: sorted by time they are in the order in which they were made."""
    made = [store.update(f"s{n % 7}", lambda draft, n=n: draft.update(n=n)) for n in range(300)]  # type: ignore[misc]
    times = [session.updated_at for session in made]
    assert times == sorted(set(times))


def test_times_rise_though_the_clock_is_set_back_by_hours(store: Store, clock: Callable[[float], None]) -> None:
    before = store.patch("k", {"n": 0}).updated_at
    clock(-5 * 3600)
    times = [store.patch("k", {"n": n}).updated_at for n in range(1, 5)]
    assert [before, *times] == sorted({before, *times})
    assert times[-1] - before < timedelta(seconds=1)


def test_a_time_more_than_a_day_ahead_is_stepped_back_from_once(store: Store, clock: Callable[[float], None]) -> None:
    """The clock was years ahead and is right again: the next commit has the right time, and times rise from there."""
    clock(3 * 365 * 86400)
    ahead = store.patch("k", {"n": 0}).updated_at
    clock(0)
    times = [store.patch("k", {"n": n}).updated_at for n in range(1, 5)]
    assert ahead - times[0] > 1000 * A_DAY
    assert times == sorted(set(times))
    history = [session.updated_at for session in store.history("k")]
    assert sum(earlier > later for earlier, later in itertools.pairwise(history)) == 1


def test_a_version_names_one_content(store: Store) -> None:
    """Of everything that a session ever was, no two contents share a version; archive and restore keep it."""
    seen: dict[str, Any] = {}
    for n in range(5):
        for data in ({"n": n}, {"n": n, "m": 0}, {"n": n}):
            session = store.replace("k", data)
            assert seen.setdefault(session.version, session.data) == session.data
        if n % 2:
            assert store.prune(max_entries=0).actions
            assert store.archive.restore("k").version == session.version
        else:
            store.compact()
            assert store["k"].version == session.version
            store.delete("k")
    old = store.replace("k", {"n": 0})
    store.patch("k", {"n": 1})
    for version, data in seen.items():
        if data != {"n": 1}:
            with pytest.raises(Conflict):
                store.replace("k", {}, expect=version)
    with pytest.raises(Conflict):
        store.replace("k", {}, expect=old)
