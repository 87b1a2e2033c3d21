"""When a list refreshes: not before the lists since the last refresh have spent what one costs; the answer is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardstore import Store
from shardstore.index import rent
from shardstore.index.rent import Rent
from tests.index.actors import is_current
from tests.support.peer import one_peer

pytestmark = pytest.mark.lazy


def test_nothing_changed_is_nothing_to_refresh_for() -> None:
    assert not Rent().is_due("e", 1, 0)


def test_many_changes_are_refreshed_at_once() -> None:
    assert Rent().is_due("e", 1, 1000)
    assert not Rent().is_due("e", 1, 2)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(rent, "time", made)
    return made


def test_what_was_spent_adds_up_to_the_price_and_a_refresh_begins_anew(clock: Clock) -> None:
    mine = Rent()
    lists = 0
    while not mine.is_due("e", 1, 2):
        with mine.paid(2):
            clock.now += 2 * rent._EACH_S
        lists += 1
    assert lists == round(rent._PRICE_S / (2 * rent._EACH_S)) - 1
    assert not mine.is_due("e", 2, 2), "another process refreshed"


def test_the_price_is_what_it_was_lately(clock: Clock) -> None:
    """Where a refresh is slow, more is read before it."""
    slow, quick = Rent(), Rent()
    for mine, seconds in ((slow, 10 * rent._PRICE_S), (quick, 0.0)):
        for _ in range(10):
            with mine.bought(5):
                clock.now += seconds + 5 * rent._EACH_S
    assert slow._price > 5 * rent._PRICE_S
    assert quick._price < rent._PRICE_S / 5
    assert slow._each == quick._each == rent._EACH_S


def test_lists_are_right_before_and_after(root: Path) -> None:
    """Few changes are read at each list, by the process that made them and by others, until a refresh takes them in."""
    with Store(root, durability="relaxed") as store, one_peer() as peer:
        for n in range(50):
            store.create(f"k{n}", {"n": 0})
        assert len(store.list()) == 50
        seen = set()
        for n in range(1, 60):
            store.patch("k7", {"n": n})
            if n % 3 == 0:
                store.delete("k8")
            else:
                store.patch("k8", {"n": n})
            for found in ({row.key: row.fields["n"] for row in store.list()}, peer.run(_listed, root)):
                assert found["k7"] == n
                assert found.get("k8") == (None if n % 3 == 0 else n)
                assert len(found) == 50 - (n % 3 == 0)
            seen.add(is_current(root))
        assert seen == {True, False}


def _listed(root: str) -> dict[str, int]:
    with Store(root, read_only=True) as store:
        return {row.key: row.fields["n"] for row in store.list()}
