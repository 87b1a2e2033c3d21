"""The report counts what was left out, hides no failure, and finds its place in the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .exhaust import spread
from .harness import REPOSITORY
from .table import BEGIN, END, put, tables


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 100])
def test_a_spread_holds_everything_once(count: int) -> None:
    """Whatever the count; and the first quarter of it reaches into each quarter of the whole."""
    order = spread(count)
    assert sorted(order) == list(range(count))
    if count >= 16:
        assert {4 * n // count for n in order[: count // 4]} == {0, 1, 2, 3}


def test_failures_skips_and_what_was_left_out_are_said(tmp_path: Path) -> None:
    """A part without a row says that nothing ran; a mutant that lives says so."""
    rows = [
        {"part": "run", "commit": "abc", "date": "2026-01-01", "system": "S", "python": "3", "cores": 2, "whole": False},
        {"part": "end", "node": "tests/torture/test_a.py::test_x", "outcome": "failed", "seconds": 1.0},
        {"part": "end", "node": "tests/torture/test_a.py::test_y", "outcome": "skipped", "seconds": 0, "reason": "no z"},
        {"part": "outage", "mutant": "no-crc", "durability": "commit", "workload": "w", "states": 3, "complaints": 0},
    ]  # fmt: skip
    path = tmp_path / "report"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    text = tables(path)
    for said in ("NOT A WHOLE RUN", "not finished", "FAILED: test_x", "Skipped, no z", "NOT CAUGHT", "nothing ran"):
        assert said in text


def test_the_page_has_its_place(tmp_path: Path) -> None:
    """Tables are put between the marks, twice as well as once; a page without marks is refused."""
    page = tmp_path / "page.md"
    page.write_text((REPOSITORY / "docs" / "internals" / "reliability.md").read_text())
    put("one", page)
    put("two", page)
    assert f"{BEGIN}\n\ntwo\n\n{END}" in page.read_text()
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no place"):
        put("three", page)
