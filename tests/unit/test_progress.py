"""What a long call reports of how far it has got."""

from __future__ import annotations

from shardstore._progress import track


def test_each_item_is_reported_before_it_and_the_end_after_the_last() -> None:
    told: list[tuple[int, int]] = []
    seen = [(item, list(told)) for item in track("ab", lambda *step: told.append(step))]
    assert seen == [("a", [(0, 2)]), ("b", [(0, 2), (1, 2)])]
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_nothing_to_do_is_done_at_once() -> None:
    told: list[tuple[int, int]] = []
    assert list(track([], lambda *step: told.append(step))) == []
    assert told == [(0, 0)]


def test_nobody_has_to_be_told() -> None:
    assert list(track([1, 2], None)) == [1, 2]
