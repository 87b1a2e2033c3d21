"""The benchmark as it is run: real stores, real processes, small."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import crowd, mounts, runner
from bench.peers import DURABLE_STORES, RELAXED_STORES, SPECS
from bench.plan import Case, Plan, Stage
from bench.results import Results
from bench.sizes import HOT, SIZES, entry
from bench.workloads import WORKLOADS
from tests.conftest import working_directory

SOURCES = Path(__file__).parents[2]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Return a stage of the quick plan."""
    return Stage(Plan.brief(rounds=2, warm_up=0.001), tmp_path)


def run(tmp_path: Path, *arguments: str) -> Results:
    """Run the command in this process; return the raw results it wrote."""
    out = tmp_path / "raw.json"
    options = [
        "--quick",
        "--rounds",
        "1",
        "--seconds",
        "0.01",
        "--dir",
        working_directory() or str(tmp_path),
        "--out",
        str(out),
    ]
    command.main(["run", *arguments, *options])
    return Results.load(out)


@pytest.mark.parametrize("size", SIZES)
def test_entries_have_the_size_their_label_says(size):
    import orjson

    said = float(size.split()[0]) * (1 if size.endswith(" B") else 1_000)
    assert said * 0.9 <= len(orjson.dumps(entry(size))) <= said * 1.5


def test_a_run_prints_its_conditions_first_and_keeps_every_round(tmp_path, capsys):
    found = run(tmp_path, "touch", "--case", "update 1 KB", "--stores", "shardstore,sqlite")
    assert capsys.readouterr().out.startswith("machine ")
    assert {row.store for row in found.rows} == {"shardstore", "sqlite"}
    assert all(row.metrics["n"] >= 5 and row.metrics["p50_us"] > 0 for row in found.rows)
    assert found.conditions["stores"]["SQLite WAL NORMAL"].startswith("relaxed: ")


def test_a_store_that_is_not_installed_is_named_with_the_reason(tmp_path, monkeypatch):
    """Left out silently it would look as if it had never been considered."""
    monkeypatch.setattr(type(SPECS["strands"]), "missing", lambda spec: "gone" if spec.name == "strands" else None)
    found = run(tmp_path, "touch", "--case", "update 1 KB", "--stores", "strands,sqlite")
    assert {(note["store"], note["why"]) for note in found.left_out} == {("strands", "gone")}


def test_a_store_without_a_lock_is_caught_losing_updates(tmp_path, stage):
    """The processes' own count of acknowledged increments is compared with the counter afterwards."""
    with crowd.counted("perfile-unlocked", tmp_path, 2, [HOT], 0.001) as go:
        assert any(go(0.3)["lost"] for _ in range(5))


def test_shardstore_is_measured_by_processes_that_begin_together_and_loses_nothing(tmp_path, stage):
    with crowd.counted("shardstore", tmp_path, 2, [HOT]) as go:
        metrics = go(0.3)
    assert metrics["lost"] == 0
    assert 0 < metrics["turns_min"] <= metrics["turns_max"]
    assert metrics["turns_min"] / metrics["turns_max"] == metrics["fairness"]


def test_fairness_waiting_and_loss_are_what_they_say():
    metrics = crowd.metrics([[10_000_000] * 10, [10_000_000] * 30], wall=0.4, arrived=33)
    assert metrics["fairness"] == pytest.approx(1 / 3)
    assert metrics["fair_us"] == pytest.approx(20_000)  # 0.4 s of two processes over 40 turns
    assert metrics["p99_share"] == pytest.approx(0.5)
    assert metrics["lost"] == 7


def test_rounds_alternate_so_that_a_disturbance_hits_every_store_alike(stage):
    order: list[str] = []

    def case() -> Case:
        from contextlib import contextmanager

        @contextmanager
        def stand(stage, store):
            yield lambda seconds: order.append(store) or {"x": 1.0}

        return Case("w", "c", ("a", "b", "c"), stand, 0.0)

    runner.run([case()], stage, Results({}), lambda *_: None)
    assert "".join(order) == "abc" + "abcabc"  # warming up, then two rounds


def test_a_store_that_fails_is_reported_and_stops_nobody_else(stage):
    from contextlib import contextmanager

    @contextmanager
    def stand(stage, store):
        def go(seconds):
            if store == "bad":
                raise RuntimeError("Traceback\n  long\nValueError: what happened")
            return {"x": 1.0}

        yield go

    results = Results({})
    runner.run([Case("w", "c", ("bad", "good"), stand, 0.0)], stage, results, lambda *_: None)
    assert [row.store for row in results.rows] == ["good", "good"]
    assert results.left_out[0]["why"].endswith("ValueError: what happened")


def test_every_workload_yields_cases_of_known_stores_under_names_of_their_own(stage):
    names = [(case.workload, case.name) for workload in WORKLOADS.values() for case in workload.cases(stage)]
    assert len(names) == len(set(names))
    assert {workload for workload, _ in names} == set(WORKLOADS)
    assert {SPECS[name].level for name in RELAXED_STORES} == {"relaxed"}
    assert {SPECS[name].level for name in DURABLE_STORES} == {"durable"}


def test_goals_ask_for_cases_that_a_full_run_has(tmp_path):
    """A goal whose case was renamed would be 'not measured' for ever."""
    from bench import goals

    asked: list[tuple[str, str, str]] = []

    class Asking(Results):
        def value(self, workload, case, store, metric):
            asked.append((workload, case, store))
            return 1.0

    goals.evaluate(Asking({}))
    stage = Stage(Plan(), tmp_path, {"ext4": tmp_path, "xfs": tmp_path})
    there = {
        (case.workload, case.name, store)
        for w in WORKLOADS.values()
        for case in w.cases(stage)
        for store in case.stores
    }
    peers = {one for one in asked if one[2].startswith("aiosqlite")}  # only the benchmark installs it
    assert set(asked) - (set() if importlib.util.find_spec("aiosqlite") else peers) <= there


def test_a_run_leaves_nothing_behind(tmp_path):
    below = tmp_path / "disk"
    below.mkdir()
    command.main(["run", "get", "--case", "1 KB, one", "--stores", "sqlite", "--quick", "--rounds", "1", "--seconds", "0.01",
                  "--dir", str(below), "--out", str(tmp_path / "raw.json")])  # fmt: skip
    assert list(below.iterdir()) == []


def test_an_image_that_cannot_be_mounted_is_a_reason_not_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(mounts.os, "geteuid", lambda: 1000)
    reasons: dict[str, str] = {}
    with mounts.images(tmp_path, reasons) as mounted:
        assert mounted == {}
    assert set(reasons) == set(mounts.KINDS)


def test_two_commits_are_measured_in_turn_and_their_work_trees_removed(tmp_path):
    """Each side must import the library of its own commit: the second one is broken on purpose."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    repository = tmp_path / "repository"
    for name in ("shardstore", "cli", "bench"):
        shutil.copytree(SOURCES / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "one")
    assert "update 1 KB: shardstore" in compare(repository, "HEAD", "HEAD")
    (repository / "shardstore" / "__init__.py").write_text("raise ImportError('the second commit')\n")
    git(repository, "commit", "-qam", "two")
    assert "the second commit" in compare(repository, "HEAD~1", "HEAD")
    assert git(repository, "worktree", "list").count("\n") == 1


def git(where: Path, *arguments: str) -> str:
    """Run git as somebody."""
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *arguments], cwd=where, capture_output=True, text=True, check=True).stdout


def compare(repository: Path, before: str, after: str) -> str:
    """Compare two commits by the command; return everything it says."""
    arguments = ["touch", "--case", "update 1 KB", "--quick", "--rounds", "1", "--seconds", "0.01"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "compare", before, after, *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_a_run_that_is_told_to_end_removes_everything_first(tmp_path):
    below = tmp_path / "disk"
    below.mkdir()
    arguments = ["run", "spread", "--stores", "shardstore", "--rounds", "50", "--seconds", "0.05", "--dir", str(below)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments, "--out", str(tmp_path / "raw.json")],
        cwd=SOURCES,
        stdout=subprocess.PIPE,
    )
    with process:
        process.stdout.readline()  # the conditions: the stores are being made from here on
        process.terminate()
        process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert list(below.iterdir()) == []
