"""Prune: decides again inside the lock, and reports as done what was synced alone."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from shardstore import InvalidQuery, Store
from shardstore import _prune as module
from shardstore._files import disk
from shardstore._files.transaction import FileTransaction
from shardstore._retention import Retention
from shardstore.reports import PruneReport
from tests.support.actions import in_background

ALL = Retention(older_than=0.0)


def run(store: Store, rules: Retention = ALL, **options: Any) -> PruneReport:
    given = {"purge": False, "trust_clock": True, "dry_run": False, "progress": None, "scan_progress": None}
    return module.prune(store.engine, rules, **{**given, **options})


@pytest.fixture
def filled(store: Store) -> Store:
    """Return a store of three sessions."""
    for key in "abc":
        store.create(key, {"n": 1})
    return store


def test_a_session_that_changed_since_it_was_chosen_stays(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Retention.plan
    monkeypatch.setattr(Retention, "plan", lambda self, found: (plan(self, found), filled.patch("b", {"n": 2}))[0])
    report = run(filled)
    assert [one.key for one in report.actions] == ["a", "c"]
    assert [(one.key, one.why, one.failed) for one in report.skipped] == [("b", "changed since it was chosen", False)]
    assert filled["b"]["n"] == 2


def test_a_session_in_use_stays(filled: Store) -> None:
    with filled.edit("b") as draft:
        report = in_background(run, filled)(30.0)
        draft["n"] = 3
    assert [one.key for one in report.actions] == ["a", "c"]
    assert [(one.key, one.failed) for one in report.skipped] == [("b", False)]
    assert report.skipped[0].why.startswith("in use")
    assert report.ok


def test_what_could_not_be_synced_is_no_action(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is gone after a power cut nobody knows."""

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, "sync_directory", fail)
    report = run(filled)
    assert report.actions == ()
    assert {(one.key, one.failed) for one in report.skipped} == {("a", True), ("b", True), ("c", True)}
    assert not report.ok


def test_an_error_on_one_session_leaves_the_others(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = FileTransaction.archive

    def failing(self: FileTransaction) -> None:
        if self.state.key == "b":
            raise OSError(errno.EIO, "Input/output error")
        archive(self)

    monkeypatch.setattr(FileTransaction, "archive", failing)
    report = run(filled)
    assert [one.key for one in report.actions] == ["a", "c"]
    assert [(one.key, one.failed) for one in report.skipped] == [("b", True)]
    assert filled["b"]["n"] == 1


@pytest.mark.parametrize("purge", [False, True])
def test_a_dry_run_reports_and_leaves_everything(filled: Store, purge: bool) -> None:
    report = run(filled, dry_run=True, purge=purge)
    assert [(one.action, one.key) for one in report.actions] == [("purge" if purge else "archive", k) for k in "abc"]
    assert (report.bytes_freed > 0) is purge, "what is archived stays on the disk"
    assert sorted(filled) == ["a", "b", "c"]


def test_a_purge_that_a_wrong_clock_may_have_asked_for(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, and nothing changed within the limit: refused, unless the caller vouches for the clock."""
    now = module.time.time()
    monkeypatch.setattr("time.time", lambda: now + 10 * 365 * 86_400)
    month = Retention(older_than=30 * 86_400.0)
    refused = run(filled, month, dry_run=True, purge=True, trust_clock=False).refused
    assert refused is not None and "clock" in refused
    with pytest.raises(InvalidQuery, match="clock"):
        run(filled, month, purge=True, trust_clock=False)
    assert sorted(filled) == ["a", "b", "c"]
    assert run(filled, month, dry_run=True, purge=False, trust_clock=False).refused is None, "the archive keeps it"
    assert run(filled, ALL, dry_run=True, purge=True, trust_clock=False).refused is None, "a wish for everything"
    some = Retention(older_than=30 * 86_400.0, keep=("a",))
    assert run(filled, some, dry_run=True, purge=True, trust_clock=False).refused is None, "not all of it goes"
    assert len(run(filled, month, purge=True).actions) == 3


def test_progress_counts_to_the_end(filled: Store) -> None:
    told: list[tuple[int, int]] = []
    run(filled, progress=lambda *done: told.append(done))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
