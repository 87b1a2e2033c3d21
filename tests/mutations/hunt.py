"""Run small mutants and print those that no test notices: `make mutants`.

Only the tests that run the changed line are run, the quickest first, until one fails. A mutant that makes them take
several times as long is noticed, too. Every outcome is kept in build/mutants.jsonl: a run that was stopped, or whose
time was up, goes on where it was. A survivor runs again when a test file of its module has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.mutations.mutants import MODULES, REPOSITORY, Mutant, known, mutants
from tests.mutations.stem import NOT_IN_PLACE
from tests.mutations.touched import IMPORTED
from tests.support import forked

OUTCOMES = REPOSITORY / "build" / "mutants.jsonl"
SLOWER = 6  # times; a mutant that makes its tests take longer than that, and some seconds, is noticed
SECONDS = 20.0
Touched = dict[str, tuple[float, list[int]]]


class Outcome(NamedTuple):
    """What came of one mutant."""

    module: str
    name: str
    line: int
    ended: str  # noticed, survived, too slow
    source: str  # digest of the mutant's source
    tests: str  # digest of its tests
    seconds: float


def main() -> int:
    """Hunt, and print the survivors that nobody has given a reason for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"some of {', '.join(MODULES)}")
    parser.add_argument(
        "--minutes", type=float, default=90.0, help="what has not run by then is left for the next time"
    )
    options = parser.parse_args()
    os.nice(2)
    deadline = time.monotonic() + 60 * options.minutes
    reasons, new = known(), 0
    for module in options.modules or list(MODULES):
        made = list(mutants(module))
        outcomes = list(hunted(module, made, deadline))
        survived = [one for one in outcomes if one.ended == "survived"]
        unknown = [one for one in survived if one[:2] not in reasons]
        left = f", {len(made) - len(outcomes)} NOT RUN" if len(outcomes) < len(made) else ""
        print(
            f"{module}: {len(made)} mutants, {len(survived)} survived, {len(unknown)} without a reason{left}",
            flush=True,
        )
        for one in unknown:
            print(f"  shardstore/{module}.py:{one.line}: {one.name}", flush=True)
        new += len(unknown) + len(made) - len(outcomes)
    return bool(new)


def hunted(module: str, made: list[Mutant], deadline: float) -> Iterator[Outcome]:
    """Yield the outcome of each mutant of a module, as far as the time goes."""
    tests, before = digest_of_tests(module), kept()
    waiting = []
    for mutant in made:
        old = before.get((module, mutant.name, digest(mutant.source)))
        if old is not None and (old.ended != "survived" or old.tests == tests):
            yield old
        else:
            waiting.append(mutant)
    if not waiting or time.monotonic() > deadline:
        return
    with Checkout(module) as checkout:
        touched = checkout.touched()
        everything = {test: one for test, one in touched.items() if test != IMPORTED}
        if checkout.run(Mutant(module, "", 0, 0, checkout.original), everything) != "survived":
            raise SystemExit(f"the tests of {module} fail in a fork without a mutant")
        for mutant in waiting:
            if time.monotonic() > deadline:
                return
            began = time.monotonic()
            ended = checkout.run(mutant, chosen(mutant, touched))
            took = round(time.monotonic() - began, 1)
            outcome = Outcome(module, mutant.name, mutant.line, ended, digest(mutant.source), tests, took)
            keep(outcome)
            yield outcome


def chosen(mutant: Mutant, touched: Touched) -> Touched:
    """Return the tests that run a mutant's lines; all of them where these run at import."""
    lines = set(range(mutant.line, mutant.last_line + 1))
    found = {test: one for test, one in touched.items() if lines & set(one[1])}
    return {test: one for test, one in (touched if IMPORTED in found else found).items() if test != IMPORTED}


class Checkout:
    """A copy of the checkout, in which one module is mutated."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __enter__(self) -> Self:
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.base = Path(tempfile.mkdtemp(prefix="shardstore-mutants-", dir=shared))
        self.path = self.base / "checkout"
        for part in ("shardstore", "cli", "tests", "bench", "docs"):
            shutil.copytree(REPOSITORY / part, self.path / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "README.md"):
            shutil.copy(REPOSITORY / file, self.path)
        self.file = self.path / f"shardstore/{self.module}.py"
        self.original = self.file.read_text()
        self.number = 0
        self.stores = self.base / "stores"
        self.stores.mkdir()
        self.stem = self._started([f"tests/{test}" for test in MODULES[self.module]])
        if self.stem.poll() is not None:
            raise SystemExit(f"the tests of {self.module} cannot be collected")
        return self

    def __exit__(self, *_: object) -> None:
        self.stem.communicate()
        shutil.rmtree(self.base, ignore_errors=True)

    def touched(self) -> Touched:
        """Run the tests without a mutant; return which lines each runs. Ends the hunt where they fail."""
        answer = self.base / "touched.json"
        tests = [f"tests/{test}" for test in MODULES[self.module]]
        command = [sys.executable, "-m", "tests.mutations.touched", str(self.file), str(answer), *tests]
        done = subprocess.run(
            command, cwd=self.path, env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"the tests of {self.module} fail without a mutant:\n{done.stdout[-3000:]}{done.stderr}")
        found: Touched = json.loads(answer.read_text())
        return found

    def run(self, mutant: Mutant, tests: Touched) -> str:
        """Run some tests with a mutant in place; return how it ended."""
        if not tests:
            return "survived"
        self.file.write_text(mutant.source)  # for the other processes that tests start
        self.number += 1
        os.utime(
            self.file, (self.number, self.number)
        )  # or a compiled file of a mutant of the same size might be taken
        limit = SECONDS + SLOWER * sum(seconds for seconds, _ in tests.values())
        order = sorted(tests, key=lambda test: tests[test][0])
        try:
            status = self._asked(self.stem, order, limit, mutant)
            if status == NOT_IN_PLACE:
                status = self._run_alone(order, limit)
        finally:
            self.file.write_text(self.original)
        if status not in (0, 1, None):
            raise SystemExit(f"pytest ended with {status} at {mutant.name}")
        return "too slow" if status is None else "noticed" if status else "survived"

    def _run_alone(self, tests: list[str], limit: float) -> int | None:
        """Run tests in a process that imports the mutant from the disk."""
        with self._started(tests) as alone:
            try:
                return 1 if alone.poll() is not None else self._asked(alone, tests, limit, None)
            finally:
                alone.communicate()

    def _started(self, tests: list[str]) -> subprocess.Popen[str]:
        """Start a stem that has collected some tests; it ends at once where the mutant on the disk prevents that."""
        stem = subprocess.Popen(
            [sys.executable, self.path / "tests/mutations/stem.py", *tests], cwd=self.path, env=self._environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert stem.stdout is not None
        if not stem.stdout.readline():
            stem.wait()
        return stem

    def _asked(self, stem: subprocess.Popen[str], tests: list[str], limit: float, mutant: Mutant | None) -> int | None:
        """Return the status of a run in a child of a stem; None where it took longer than that."""
        assert stem.stdin is not None
        assert stem.stdout is not None
        shutil.rmtree(self.stores)
        self.stores.mkdir()
        place = None if mutant is None else (str(self.file), self.original, mutant.source)
        stem.stdin.write(json.dumps({"tests": tests, "seconds": limit, "mutant": place}) + "\n")
        stem.stdin.flush()
        status: int | None = json.loads(stem.stdout.readline())
        return status

    def _environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(self.path), "SHARDSTORE_TEST_DIR": str(self.stores)}
        # Not the stem of the tests that hunt, which forks processes without the mutant. With compiled files: they name
        # the time of a mutant's file, which no two mutants have in common.
        left_out = (forked.VARIABLE, "PYTHONDONTWRITEBYTECODE")
        return {name: value for name, value in {**os.environ, **own}.items() if name not in left_out}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of_tests(module: str) -> str:
    return digest("".join((REPOSITORY / "tests" / test).read_text() for test in MODULES[module]))


def kept() -> dict[tuple[str, str, str], Outcome]:
    """Read the outcomes of earlier runs; the last one of a mutant counts."""
    if not OUTCOMES.exists():
        return {}
    rows: list[Any] = [json.loads(line) for line in OUTCOMES.read_text().splitlines()]
    return {(one.module, one.name, one.source): one for one in (Outcome(*row) for row in rows)}


def keep(outcome: Outcome) -> None:
    """Add an outcome to those of earlier runs."""
    OUTCOMES.parent.mkdir(exist_ok=True)
    with OUTCOMES.open("a") as file:
        file.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    sys.exit(main())
