"""Repairs that give something up keep what they replace, and name what is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios import repairs

pytestmark = pytest.mark.damages("files of a session are taken away or overwritten")


def test_a_log_that_comes_back_after_a_repair(root: Path) -> None:
    """Its journal is in quarantine/, and compact does not sweep it."""
    repairs.a_log_that_comes_back_late_is_put_together_again(root)


def test_a_session_whose_file_was_overwritten_by_anothers(root: Path) -> None:
    """It is named as lost until a repair."""
    repairs.a_session_under_anothers_file_is_named(root)


def test_a_damaged_session_that_was_cut_back_too(root: Path) -> None:
    """What is missing behind the damage is named."""
    repairs.what_a_salvaged_session_lacks_at_its_end_is_named(root)


def test_a_session_whose_place_something_else_has(root: Path) -> None:
    """It is named as lost, and not only moved away."""
    repairs.something_else_in_a_sessions_place_is_named(root)
