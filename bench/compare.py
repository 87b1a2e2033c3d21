"""Two results side by side: two raw files, or two commits of the library run in turn by today's benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.git import git
from bench.judge import number
from bench.measure import median
from bench.results import Results, Row

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

OWN = "shardstore,shardstore-commit"
METRICS = (("p50_us", "µs", False), ("ops_s", "/s", True), ("seconds", "s", False), ("resident_mb", "MB", False))
MANY_PROCESSES = ("hotkey", "spread", "durable-spread", "mixed")  # of these the throughput is what counts


def text(before: Results, after: Results) -> str:
    """Return a line for each place that both have: before, after, and their quotient.

    Marked faster or slower only when no round of one side overlaps with a round of the other: less than that
    is what two runs of the same commit do.
    """
    old = dict(before.places())
    lines = [f"{'before':>12} {'after':>12} {'after/before':>12}"]
    for place, rows in after.places():
        if place in old and (line := _line(place, old[place], rows)):
            lines.append(line)
    for side, results in (("before", before), ("after", after)):
        lines += [f"{side}: {n['workload']}: {n['case']}: {n['store']}: {n['why']}" for n in results.left_out]
    return "\n".join(lines)


def _line(place: tuple[str, str, str], old: Sequence[Row], new: Sequence[Row]) -> str | None:
    for metric, unit, more_is_better in sorted(
        METRICS, key=lambda m: (m[0] == "ops_s") != (place[0] in MANY_PROCESSES)
    ):
        was = [row.metrics[metric] for row in old if metric in row.metrics]
        now = [row.metrics[metric] for row in new if metric in row.metrics]
        if was and now:
            verdict = judge(was, now, more_is_better=more_is_better)
            told = [number(median(was), unit), number(median(now), unit), number(median(now) / median(was), "x")]
            return " ".join(f"{part:>12}" for part in told) + f"  {verdict:6}  {place[0]}: {place[1]}: {place[2]}"
    return None


def judge(was: Sequence[float], now: Sequence[float], *, more_is_better: bool) -> str:
    """Return faster, slower, or nothing when the rounds of both sides overlap."""
    if min(was) <= max(now) and min(now) <= max(was):
        return ""
    return "faster" if (median(now) > median(was)) == more_is_better else "slower"


def commits(options: argparse.Namespace, tell: Callable[[str], None]) -> tuple[Results, Results]:
    """Run today's benchmark on the libraries of two commits, A B A B, in work trees that are removed again."""
    repository = Path(git(Path(__file__).resolve().parent, "rev-parse", "--show-toplevel"))
    rounds = options.rounds or (2 if options.quick else 5)
    sides: tuple[list[Results], list[Results]] = ([], [])
    with (
        tempfile.TemporaryDirectory(prefix="shardstore-compare-") as temp,
        _tree(repository, options.before, Path(temp) / "a") as a,
        _tree(repository, options.after, Path(temp) / "b") as b,
    ):
        for turn in range(rounds):
            for lib, done, name in ((a, sides[0], options.before), (b, sides[1], options.after)):
                tell(f"round {turn + 1} of {rounds}: {name}")
                done.append(_run(lib, name, options))
    return _joined(sides[0]), _joined(sides[1])


@contextmanager
def _tree(repository: Path, commit: str, at: Path) -> Iterator[Path]:
    """Check a commit out beside, and give a directory to import from: its library, today's benchmark."""
    git(repository, "worktree", "add", "--detach", "--force", str(at / "tree"), commit)
    try:
        lib = at / "lib"
        lib.mkdir()
        for name, target in (
            ("shardstore", at / "tree/shardstore"),
            ("shardstore_cli", at / "tree/cli"),
            ("bench", Path(__file__).parent),
        ):
            (lib / name).symlink_to(target.resolve())
        yield lib
    finally:
        git(repository, "worktree", "remove", "--force", str(at / "tree"))


def _run(lib: Path, commit: str, options: argparse.Namespace) -> Results:
    out = lib.parent / "raw.json"
    command = [sys.executable, "-m", "bench", "run", *options.workloads, "--rounds", "1", "--out", str(out)]
    command += ["--stores", options.stores or OWN]
    command += ["--quick"] if options.quick else []
    command += ["--no-images"] if options.no_images else []
    for name in ("seconds", "case", "dir"):
        if getattr(options, name):
            command += [f"--{name}", str(getattr(options, name))]
    environment = {**os.environ, "PYTHONPATH": str(lib), "BENCH_COMMIT": commit}
    out.unlink(missing_ok=True)
    done = subprocess.run(command, env=environment, cwd=lib.parent, capture_output=True, text=True, check=False)
    if not out.exists():
        raise RuntimeError(f"{commit}: the benchmark ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return Results.load(out)


def _joined(parts: Sequence[Results]) -> Results:
    """Return the runs of one commit as one, each run a round."""
    rows = [replace(row, round=turn) for turn, part in enumerate(parts) for row in part.rows]
    return Results(parts[0].conditions, rows, parts[0].left_out)
