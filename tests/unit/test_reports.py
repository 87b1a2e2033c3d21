"""Reports: what counts as well done."""

from __future__ import annotations

import pytest

from shardstore.reports import ArchivedFile, CompactReport, Problem, PurgeReport, Skipped, VerifyReport


@pytest.mark.parametrize(("skipped", "ok"), [((), True), ((False,), True), ((True,), False), ((False, True), False)])
def test_a_busy_session_is_no_failure_of_compact(skipped: tuple[bool, ...], ok: bool) -> None:
    """What failed is one; what was in use is not."""
    report = CompactReport(False, (), 0, tuple(Skipped("shards/x", None, "why", failed=failed) for failed in skipped))
    assert report.ok is ok


def test_whatever_purge_left_is_a_failure() -> None:
    """A file in the archive is in nobody's way."""
    kept = ArchivedFile("archive", "archive/x", None, 1, 0.0)
    assert PurgeReport(False, (kept,), 1).ok
    assert not PurgeReport(False, (kept,), 1, (Skipped("archive/y", None, "why"),)).ok


@pytest.mark.parametrize(("repaired", "ok"), [((), True), ((True,), True), ((True, False), False), ((False,), False)])
def test_verify_is_well_when_no_damage_is_left(repaired: tuple[bool, ...], ok: bool) -> None:
    """Repaired problems and notes are no damage."""
    problems = tuple(Problem("shards/x", None, "damaged", "detail", repaired=one) for one in repaired)
    assert VerifyReport(problems, (Problem("x", None, "foreign", "detail"),)).ok is ok
