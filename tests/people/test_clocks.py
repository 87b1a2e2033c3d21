"""Clocks that were wrong once: years ahead, years behind, and set right again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shardstore import InvalidQuery, Store
from tests.scenarios import people
from tests.scenarios.people import DAY_S, KEY, OTHER, clock_ahead


def test_one_write_far_ahead(root: Path) -> None:
    """It does not pin the session to the future."""
    people.one_write_under_a_wrong_clock_does_not_stay(root)


def test_a_purge_of_everything(root: Path) -> None:
    """It is refused unless the caller says that the clock is right."""
    people.a_purge_of_everything_is_refused(root)


def test_every_session_written_ahead_comes_back(root: Path) -> None:
    """Each session by its own next write; until then verify names each, and its order stays that of the revisions."""
    keys = [f"k{number}" for number in range(5)]
    with Store(root) as store:
        with clock_ahead(3 * 365 * DAY_S):
            for key in keys:
                store.patch(key, {"n": 1})
        assert len([note for note in store.verify().notes if note.kind == "future"]) == 5
        for key in keys:
            store.patch(key, {"n": 2})
        assert not [note for note in store.verify().notes if note.kind == "future"]
        assert [one.rev for one in store.history(keys[0])] == [1, 2]
        assert all(abs(info.updated_at.timestamp() - time.time()) < 60 for info in store.list())


def test_less_than_a_day_ahead_keeps_the_order(root: Path) -> None:
    """A clock that is a few hours off never makes a session's time go back."""
    with Store(root) as store:
        with clock_ahead(3600 * 5):
            ahead = store.patch(KEY, {"n": 1}).updated_at
        assert store.patch(KEY, {"n": 2}).updated_at > ahead


def test_a_clock_far_behind(root: Path) -> None:
    """A machine that starts in 1970: writes go on, revisions order everything, and nothing is named once it is right."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        with clock_ahead(-50 * 365 * DAY_S):
            store.patch(KEY, {"n": 2})
            store.patch(OTHER, {"n": 1})
        assert store.patch(KEY, {"n": 3}).rev == 3
        assert store[KEY].updated_at.timestamp() > time.time() - 60
        assert [info.key for info in store.list(limit=1)] == [KEY]


@pytest.mark.parametrize("purge", [True, False])
def test_a_prune_with_one_new_session_goes_on(root: Path, purge: bool) -> None:
    """Somebody writes under the present clock, so the clock is no reason to refuse."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        with clock_ahead(90 * DAY_S):
            store.patch(OTHER, {"n": 1})
            assert store.prune(older_than=30 * DAY_S, purge=purge, dry_run=True).refused is None
            assert [one.key for one in store.prune(older_than=30 * DAY_S, purge=purge).actions] == [KEY]


def test_archiving_everything_is_not_refused(root: Path) -> None:
    """What is archived can be brought back."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        with clock_ahead(400 * DAY_S):
            assert len(store.prune(older_than=30 * DAY_S).actions) == 1
        assert store.archive.restore(KEY)["n"] == 1


def test_the_other_rules_beside_a_limit_of_time(root: Path) -> None:
    """A purge by count and age that takes everything is refused as well; one by count alone is meant as it is."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        with clock_ahead(400 * DAY_S):
            with pytest.raises(InvalidQuery):
                store.prune(older_than=30 * DAY_S, max_entries=5, purge=True)
            assert len(store.prune(max_entries=0, purge=True).actions) == 1
