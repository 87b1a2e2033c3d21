"""The values that every engine shares, and the order of times."""

from __future__ import annotations

import pytest

from shardstore import _model as model
from shardstore._model import ABSENT, DAY_US, NEVER_WAS, State, order_time

NOW = 1_763_800_000_000_000


@pytest.fixture(autouse=True)
def no_commit_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "newest_commit", [0])


def test_what_was_never_made() -> None:
    assert not ABSENT.exists
    assert ABSENT.version == NEVER_WAS
    assert ABSENT.size == 2, "as {} has"


def test_a_version_names_incarnation_revision_and_content() -> None:
    state = State({"n": b"1"}, "k", 7, "a" * 24, "0a1b2c3d", NOW, NOW, "me", 6)
    assert state.version == f"{'a' * 24}.7-0a1b2c3d"
    assert state.size == len('{"n":1}')
    assert not state._replace(fields=None).exists
    assert state._replace(fields={}, entry_bytes=0).size == len("{}")


@pytest.mark.parametrize(
    ("now", "last", "given"),
    [
        (NOW, 0, NOW),
        (NOW, NOW - 1, NOW),
        (NOW, NOW, NOW + 1),
        (NOW, NOW + 5, NOW + 6),
        (NOW, NOW + DAY_US, NOW + DAY_US + 1),
        (NOW, NOW + DAY_US + 1, NOW),
    ],
)
def test_a_commit_is_later_than_the_last_unless_that_was_from_a_wrong_clock(now: int, last: int, given: int) -> None:
    assert order_time(now, last) == given


def test_the_times_of_one_process_rise_across_sessions() -> None:
    """Three sessions, a clock that goes back by an hour: every commit is later than the one before it."""
    times = [order_time(NOW - 3_600_000_000 * n, 0) for n in range(10)]
    assert times == [NOW + n for n in range(10)]
    assert order_time(NOW - 2 * DAY_US, 0) == NOW - 2 * DAY_US, "a clock that was a day ahead is corrected"
