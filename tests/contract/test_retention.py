"""compact, restore, verify and stats as a program calls them: nothing is removed that was not asked for, or unseen."""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta
from typing import Any

import pytest

from shardstore import (
    CompactReport,
    InvalidQuery,
    SessionExists,
    SessionNotFound,
    Store,
    StoreStats,
    VerifyReport,
)
from tests.contract.backend import Backend


@pytest.fixture
def filled(store: Store) -> Store:
    """Return a store of ten sessions, oldest first, the even ones done."""
    for n in range(10):
        store.create(f"s{n}", {"n": n, "status": "running" if n % 2 else "done", "blob": "x" * 1_000})
        time.sleep(0.003)
    return store


def test_compact_without_rules_removes_no_session(filled: Store) -> None:
    """Without a rule compact keeps every session and its state."""
    before = {key: (filled[key].version, filled[key].data) for key in filled}
    report = filled.compact()
    assert isinstance(report, CompactReport)
    assert report.ok
    assert not report.dry_run
    assert {key: (filled[key].version, filled[key].data) for key in filled} == before


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"max_entries": 4}, [6, 7, 8, 9]),
        ({"max_entries": 0}, []),
        ({"max_entries": 100}, range(10)),
        ({"older_than": timedelta(days=1)}, range(10)),
        ({"older_than": 3600.0}, range(10)),
        ({"older_than": timedelta(0)}, []),
        ({"where": {"status": "done"}}, [1, 3, 5, 7, 9]),
        ({"where": {"status": "done"}, "older_than": timedelta(days=1)}, range(10)),
        ({"prefix": "s3", "older_than": 0}, [0, 1, 2, 4, 5, 6, 7, 8, 9]),
        ({"where": {"status": "done"}, "keep": ["s0", "s4"]}, [0, 1, 3, 4, 5, 7, 9]),
        ({"older_than": 0, "keep": ["s*"]}, range(10)),
        ({"older_than": 0, "keep": ["s1*", "nothing"]}, [1]),
        ({"max_bytes": 10_000_000}, range(10)),
        ({"max_bytes": 0}, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("purge", [False, True], ids=["archive", "purge"])
def test_each_rule_removes_what_it_names(filled: Store, rules: dict[str, Any], left: Any, purge: bool) -> None:
    """A dry run reports exactly what the run then does; what is removed is archived unless purge is asked for."""
    time.sleep(0.01)
    keep = [f"s{n}" for n in left]
    gone = sorted({f"s{n}" for n in range(10)} - set(keep))
    plan = filled.prune(**rules, purge=purge, dry_run=True)
    assert plan.dry_run
    assert sorted(filled) == [f"s{n}" for n in range(10)]
    report = filled.prune(**rules, purge=purge)
    removing = "purge" if purge else "archive"
    for one in (plan, report):
        assert sorted(action.key for action in one.actions if action.action == removing) == gone
        assert all(action.size > 0 and action.why for action in one.actions if action.action == removing)
    assert sorted(filled) == keep
    assert sorted(info.key for info in filled.list()) == keep
    assert report.ok
    for key in gone:
        assert filled.get(key) is None
        if not purge:
            assert filled.archive.restore(key).key == key
            assert filled[key]["n"] == int(key[1:])
        else:
            with pytest.raises(SessionNotFound):
                filled.archive.restore(key)


@pytest.mark.parametrize(
    "rules",
    [
        {"older_than": -1},
        {"older_than": timedelta(seconds=-1)},
        {"older_than": float("nan")},
        {"older_than": float("inf")},
        {"older_than": "30d"},
        {"older_than": True},
        {"max_entries": -1},
        {"max_entries": 1.5},
        {"max_entries": "10"},
        {"max_entries": True},
        {"max_entries": float("nan")},
        {"max_bytes": -1},
        {"max_bytes": "1MB"},
        {"max_bytes": float("nan")},
        {"where": {"status": ("=~", "x")}},
        {"where": "done"},
        {"keep": "s1"},
        {"keep": [5]},
        {"keep": None, "older_than": 0},
        {"prefix": 5, "older_than": 0},
        {"older_than": 0, "max_entries": -5},
    ],
    ids=str,
)
def test_a_malformed_rule_removes_nothing(filled: Store, backend: Backend, rules: dict[str, Any]) -> None:
    """A rule that means nothing disables deletion and is an error; it never means "everything"."""
    before = backend.written()
    with pytest.raises((InvalidQuery, TypeError)):
        filled.prune(**rules)
    with pytest.raises((InvalidQuery, TypeError)):
        filled.prune(**rules, dry_run=True)
    assert backend.written() == before
    assert len(filled) == 10


def test_restore_brings_back_the_state(filled: Store) -> None:
    """A session that compact archived comes back with its entry; its old versions stay unknown or the same."""
    before = filled["s0"]
    filled.prune(older_than=0)
    restored = filled.archive.restore("s0")
    assert restored.data == before.data
    assert filled["s0"].data == before.data
    assert [info.key for info in filled.list()] == ["s0"]
    assert filled.patch("s0", {"n": "on"})["n"] == "on"


def test_restore_never_overwrites(filled: Store) -> None:
    """A session that is there is not replaced by an archived one."""
    filled.prune(older_than=0, keep=["s1"])
    filled.create("s0", {"new": True})
    for key in ("s0", "s1"):
        before = filled[key].version
        with pytest.raises(SessionExists):
            filled.archive.restore(key)
        assert filled[key].version == before


def test_restore_of_what_was_never_archived(filled: Store) -> None:
    """Restoring a key that the archive does not hold says so."""
    with pytest.raises(SessionNotFound):
        filled.archive.restore("never")


def test_compact_twice_changes_nothing_the_second_time(filled: Store, backend: Backend) -> None:
    """A second compact right after the first finds nothing to do."""
    for n in range(200):
        filled.patch("s0", {"n": n, "blob": "y" * 1_000})
    filled.delete("s1")
    filled.compact()
    before = backend.written()
    report = filled.compact()
    assert report.actions == ()
    assert report.bytes_freed == 0
    assert backend.written() == before


def test_compact_keeps_the_current_state_and_frees_the_rest(filled: Store, elsewhere) -> None:
    """Rewriting a grown journal changes neither revision, version, times nor entry."""
    for n in range(40):
        filled.patch("s0", {"n": n, "blob": f"{n:02}" * 1_000})
    before = filled["s0"]
    report = filled.compact()
    for reader in (filled, elsewhere):
        after = reader["s0"]
        assert (after.rev, after.version, after.data) == (before.rev, before.version, before.data)
        assert (after.created_at, after.updated_at, after.actor) == (before.created_at, before.updated_at, before.actor)
    assert any(action.action in {"rewrite", "trim"} and action.key == "s0" for action in report.actions)
    assert report.bytes_freed > 0
    assert filled.patch("s0", {"n": "on"}).rev == before.rev + 1


def test_compact_reports_progress(filled: Store) -> None:
    """progress is called with done and total, which never shrink, and ends at the total."""
    calls: list[tuple[int, int]] = []
    filled.compact(progress=lambda done, total: calls.append((done, total)))
    assert calls
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_compact_skips_a_busy_session_and_says_so(filled: Store, store_factory) -> None:
    """A session that is being updated is neither waited for nor touched, and stands under skipped."""
    from tests.support.actions import in_background

    with filled.edit("s0") as draft:
        draft["held"] = True
        report = in_background(lambda: store_factory().prune(older_than=0))()
        assert "s0" in {skipped.key for skipped in report.skipped}
        assert all(skipped.why for skipped in report.skipped)
    assert filled["s0"]["held"] is True
    assert list(filled) == ["s0"]


def test_versions_of_removed_sessions_never_come_back(filled: Store) -> None:
    """A session made anew after compact removed its key matches no old version."""
    old = filled["s0"].version
    filled.prune(older_than=0, purge=True)
    assert filled.create("s0", {"n": 0}).version != old


def test_verify_of_a_healthy_store(filled: Store) -> None:
    """verify of a healthy store finds nothing and counts what is there."""
    report = filled.verify()
    assert isinstance(report, VerifyReport)
    assert report.ok
    assert tuple(report.problems) == ()
    assert report.sessions == 10
    assert report.records >= 10
    assert filled.verify(repair=True).ok


def test_reports_cannot_be_changed(filled: Store) -> None:
    """Reports are frozen dataclasses, down to their tuples."""
    compact = filled.prune(older_than=0, dry_run=True)
    for report in (compact, filled.verify(), filled.stats(), compact.actions[0]):
        assert dataclasses.is_dataclass(report)
        name = dataclasses.fields(report)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(report, name, None)
    assert isinstance(compact.actions, tuple)
    assert isinstance(compact.skipped, tuple)


def test_stats_counts(filled: Store) -> None:
    """stats counts the sessions and the bytes that live and that do not."""
    stats = filled.stats()
    assert isinstance(stats, StoreStats)
    assert stats.sessions == 10
    assert stats.bytes_live >= 10 * 1_000
    assert stats.bytes_total >= stats.bytes_live
    filled.delete("s0")
    assert filled.stats().sessions == 9
