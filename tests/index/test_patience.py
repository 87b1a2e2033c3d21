"""Waiting for somebody else's rebuild."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardstore._files.index import patience
from shardstore._files.index.patience import Makers, Patience


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves."""
    now = [100.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_a_standstill_is_waited_for_once(tmp_path: Path, clock: list[float]) -> None:
    """A quarter of a second, by one call; the next gives up at once, until something moves."""
    makers = Makers(str(tmp_path))
    first = Patience(makers)
    while first.wait():
        pass
    assert 100.25 < clock[0] < 100.3
    assert not Patience(makers).wait()
    (tmp_path / "catalogue").touch()
    assert Patience(makers).wait()


def test_who_gets_on_is_waited_for(tmp_path: Path, clock: list[float]) -> None:
    """However long it takes, and by everybody: what one caller has seen is news to the other."""
    makers = Makers(str(tmp_path))
    one, other = Patience(makers), Patience(makers)
    for count in range(100):
        (tmp_path / f"file {count}").touch()
        assert one.wait()
        assert other.wait()
    assert clock[0] > 102


def test_no_directory_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody makes anything there, or it cannot be seen."""
    assert not Patience(Makers(str(tmp_path / "absent"))).wait()
