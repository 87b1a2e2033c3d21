"""Numbers behind a right checksum that no clock and no counter gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardstore import Store
from tests.scenarios import people
from tests.scenarios.people import KEY, OTHER
from tests.support import disk
from tests.support.everything import ask_everything

HEAD = {"rev": 1, "at": 1_763_800_000_000_000, "by": "x", "id": "ab" * 12, "key": KEY}


def test_numbers_out_of_bounds(root: Path) -> None:
    """CorruptShard for that session alone."""
    people.numbers_out_of_bounds_are_one_sessions_damage(root)


@pytest.mark.damages("a record that another program wrote")
@pytest.mark.parametrize(
    "odd",
    [
        {"at": 0}, {"at": 253_402_300_799_999_999}, {"rev": 2**53 - 1, "created": 0},
        {"rev": 2**53 - 2, "created": 253_402_300_799_999_999},
    ],
)  # fmt: skip
def test_the_outermost_numbers(root: Path, odd: dict[str, int]) -> None:
    """What lies just inside the bounds is read by everything, times as datetimes included."""
    with Store(root) as store:
        store.patch(KEY, {"n": 0})
        store.patch(OTHER, {"n": 0})
        disk.edit(disk.shard(root, KEY), disk.line({**HEAD, **odd, "put": {"n": 1}}))
        session = store[KEY]
        assert session.data == {"n": 1}
        assert (session.updated_at.year >= 1970, session.created_at.year <= 9999) == (True, True)
        store.compact()
        assert {info.key: info.updated_at for info in store.list()}[KEY] == session.updated_at
        ask_everything(store)
        if session.rev < 2**53 - 1:
            assert store.patch(KEY, {"n": 2})["n"] == 2


@pytest.mark.damages("a record that another program wrote")
def test_a_change_behind_a_good_record(root: Path) -> None:
    """The first record is good, the second one is not: damage of that session, and everything else goes on."""
    with Store(root) as store:
        store.patch(OTHER, {"n": 0})
        for odd in ({"rev": 3}, {"at": 2**63}, {"at": -5}, {"rev": 2**60}, {"rev": 2.0}, {"at": 1e15}):
            store.delete(KEY)
            store.replace(KEY, {"n": 0})
            path = disk.shard(root, KEY)
            change = {"rev": 2, "at": HEAD["at"] + 10**12, "by": "x", **odd, "set": {"n": 1}}
            whole = disk.line({**HEAD, "put": {"n": 0}}) + disk.line(change)
            disk.edit(path, whole + b"\n" * 100)
            assert [one.kind for one in store.verify().problems] == ["damaged"], odd
            ask_everything(store)
            assert [info.key for info in store.list()] == [OTHER]
            store.verify(repair=True)
