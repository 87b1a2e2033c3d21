"""When a list refreshes: not before the lists since the last refresh have spent what one costs; the answer is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardstore import Store
from shardstore._files.index import rent
from shardstore._files.index.look import IndexLock
from shardstore._files.index.rent import Rent
from tests.index.actors import is_current
from tests.support.peer import one_peer

pytestmark = pytest.mark.lazy


TICK_S = 2.0**-14  # exact in sums


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Rent:
    """Give a new Rent whose assumptions are 16 ticks for a refresh and one for a shard."""
    monkeypatch.setattr(rent, "_PRICE_S", 16 * TICK_S)
    monkeypatch.setattr(rent, "_EACH_S", TICK_S)
    monkeypatch.setattr(rent, "_LAYING_S", 0.0)
    made = Rent()
    made.follow("e", 1)
    return made


def test_nothing_changed_is_nothing_to_refresh_for(mine: Rent) -> None:
    mine.paid(1000.0, 0.0, 1)
    assert not mine.is_due(0)


def test_many_changes_are_refreshed_at_once(mine: Rent) -> None:
    assert mine.is_due(16)
    assert not mine.is_due(15)


def test_the_number_of_changes_is_bounded_whatever_they_cost(mine: Rent) -> None:
    mine._price = float("inf")
    assert not mine.is_due(rent._CHANGED_MAX)
    assert mine.is_due(rent._CHANGED_MAX + 1)


def test_what_was_spent_adds_up_to_the_price_and_a_refresh_begins_anew(mine: Rent) -> None:
    lists = 0
    while not mine.is_due(2):
        mine.paid(2 * TICK_S, 0.0, 2)
        mine.follow("e", 1)
        lists += 1
    assert lists == 7, "with the next one it would be the price"
    mine.follow("e", 2)
    assert not mine.is_due(2), "somebody refreshed"


def test_laying_rows_over_the_catalogue_is_a_part_of_the_rent(mine: Rent) -> None:
    """What an answer takes more where anything changed than where nothing did."""
    for _ in range(50):
        mine.paid(0.0, 10 * TICK_S, 0)
    mine.paid(TICK_S, 24 * TICK_S, 1)
    assert 14 * TICK_S < mine._spent < 16 * TICK_S
    assert mine._laying > 2 * TICK_S
    assert mine.is_due(1)


def test_the_price_is_what_it_was_lately(mine: Rent) -> None:
    """Where a refresh is slow, more is read before it; what it reads is not part of its price."""
    for _ in range(50):
        mine.bought(100 * TICK_S + 5 * TICK_S, 5)
    assert mine._price == pytest.approx(100 * TICK_S, rel=0.01)
    for _ in range(50):
        mine.bought(5 * TICK_S, 5)
    assert mine._price == pytest.approx(0.0, abs=0.01 * TICK_S)
    assert mine._each == TICK_S


def test_a_refresh_that_was_not_done_has_no_price(root: Path) -> None:
    """Where somebody else has the index lock, a refresh returns at once: that is not what one costs."""
    with Store(root) as store:
        store.create("a", {"n": 0})
        store.list()
        reader = store._engine.index._answers
        lock = IndexLock.take(reader.place)
        assert lock is not None
        with lock:
            before = reader._rent._price
            assert not reader._refresh(1)
            assert reader._rent._price == before


def test_lists_are_right_before_and_after(root: Path) -> None:
    """Few changes are read at each list, by the process that made them and by others, until a refresh takes them in."""
    with Store(root, durability="relaxed") as store, one_peer() as peer:
        store._engine.index._answers._rent._laying = 0.0
        store._engine.index._answers._rent._each = rent._PRICE_S / 7  # two changed: every few lists, however fast it is
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
