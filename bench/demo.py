"""The main job, with real numbers: import an OpenClaw store, let four processes update it at once, count what is lost.

The same four processes do the same work on two stores without locks: a file per session, and one sessions.json. Both
read, modify, and write to a temp that is renamed, as much software does that believes a rename makes it safe.

usage: python -m bench.demo [--population NAME] [--seed N] [--updates N] [--seconds S]

The exit code is 0 only if what it claims was seen.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench import openclaw
from shardstore import Store

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from multiprocessing.synchronize import Barrier

WORKERS = 4
HOT_SESSIONS = 8  # all workers work on these, some more often than others
TYPICAL_BYTES = 42_000  # of the hot ones; the median that people reported
COUNTER = "turns"
START_SECONDS_MAX = 60.0  # that a worker waits for the others


# The work: one step of an agent on one session.


def turn(entry: MutableMapping[str, Any], worker: int, step: int) -> None:
    """Change an entry as a reply does: count it, move the clock and the tokens, now and then the route."""
    entry[COUNTER] = entry.get(COUNTER, 0) + 1
    entry["updatedAt"] = time.time_ns() // 1_000_000
    entry["outputTokens"] = 40 + step % 400
    entry["totalTokens"] = entry.get("totalTokens", 0) + entry["outputTokens"]
    entry[f"lastStepOf{worker}"] = step
    if step % 11 == 0:
        entry["deliveryContext"] = {"channel": "telegram", "to": f"telegram:{worker}", "accountId": "default"}


class Subject(Protocol):
    """A store under test, opened in one worker's process."""

    def update(self, key: str, worker: int, step: int) -> None:
        """Run one turn on one session."""


class Shards:
    """shardstore, as anybody would use it: durable, every default."""

    def __init__(self, path: Path, worker: int) -> None:
        self._store = Store(path, actor=f"worker-{worker}")

    def update(self, key: str, worker: int, step: int) -> None:
        self._store.update(key, lambda draft: turn(draft, worker, step))


class Files:
    """A file per session, replaced by rename, without a lock."""

    def __init__(self, path: Path, worker: int) -> None:
        self._directory, self._temp = path, f".tmp-{worker}"

    def update(self, key: str, worker: int, step: int) -> None:
        path = file_of(self._directory, key)
        entry = json.loads(path.read_bytes())
        turn(entry, worker, step)
        replace(path, self._temp, entry)


class OneFile:
    """One sessions.json, replaced by rename, without a lock."""

    def __init__(self, path: Path, worker: int) -> None:
        self._path, self._temp = path, f".tmp-{worker}"

    def update(self, key: str, worker: int, step: int) -> None:
        entries = json.loads(self._path.read_bytes())
        turn(entries[key], worker, step)
        replace(self._path, self._temp, entries)


SUBJECTS: dict[str, type[Shards | Files | OneFile]] = {
    "shardstore": Shards,
    "a file per session, no lock": Files,
    "one sessions.json, no lock": OneFile,
}


def file_of(directory: Path, key: str) -> Path:
    """Name the file of a session in the store of plain files."""
    return directory / f"{key.replace('/', '_')}.json"


def replace(path: Path, temp_name: str, value: Any) -> None:
    """Write a file the careful way, as far as one gets without a lock."""
    temp = path.with_name(temp_name)
    temp.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    temp.replace(path)


# A run: four processes, let go at the same moment.


@dataclass(frozen=True)
class Amount:
    """How much a worker has to do: so many updates, or as many as it can in so many seconds."""

    updates: int
    seconds: float


@dataclass
class Run:
    """What became of one store's run; `sent` is what the workers were told is stored."""

    name: str
    sent: dict[str, int]
    seconds: float
    slowest: list[float]  # 99th percentile of one update, a worker
    kept: dict[str, int] = field(default_factory=dict)

    @property
    def expected(self) -> int:
        return sum(self.sent.values())

    @property
    def lost(self) -> int:
        return sum(self.sent[key] - self.kept.get(key, 0) for key in self.sent)


def work(name: str, path: Path, keys: list[str], worker: int, amount: Amount, start: Barrier, results: Any) -> None:
    """Be one worker: update the sessions as fast as the store lets one, and tell what was done."""
    subject: Subject = SUBJECTS[name](path, worker)
    rng = random.Random(f"worker {worker}")
    weights = [1 / (n + 1) for n in range(len(keys))]
    plan = rng.choices(keys, weights, k=amount.updates)
    sent, took = dict.fromkeys(keys, 0), []
    start.wait(START_SECONDS_MAX)
    began = time.perf_counter()
    for step, key in enumerate(plan):
        before = time.perf_counter()
        subject.update(key, worker, step)
        took.append(time.perf_counter() - before)
        sent[key] += 1
        if before - began > amount.seconds:
            break
    results.put((sent, time.perf_counter() - began, sorted(took)[int(len(took) * 0.99)]))


def run(name: str, path: Path, keys: list[str], amount: Amount) -> Run:
    """Let the workers go on one store; return what they were told, not yet what is there."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(WORKERS), context.SimpleQueue()
    workers = [
        context.Process(target=work, args=(name, path, keys, number, amount, start, results))
        for number in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit(f"a worker of {name!r} failed; see its traceback above")
    told = [results.get() for _ in workers]
    sent = {key: sum(each[0][key] for each in told) for key in keys}
    return Run(name, sent, max(each[1] for each in told), [each[2] for each in told])


# The stores before and after.


def prepare(directory: Path, entries: dict[str, Any]) -> dict[str, Path]:
    """Return the three stores of the same sessions; shardstore's is the one that the command line imported into."""
    files = directory / "files"
    files.mkdir()
    for key, entry in entries.items():
        replace(file_of(files, key), ".tmp", entry)
    one = directory / "one" / "sessions.json"
    one.parent.mkdir()
    replace(one, ".tmp", entries)
    return dict(zip(SUBJECTS, (directory / "store", files, one), strict=True))


def counters(name: str, path: Path, keys: list[str]) -> dict[str, int]:
    """Read from disk how many of the turns each session knows of."""
    if name == "shardstore":
        with Store(path, create=False) as store:
            return {key: store[key].get(COUNTER, 0) for key in keys}
    if path.is_dir():
        return {key: json.loads(file_of(path, key).read_bytes()).get(COUNTER, 0) for key in keys}
    entries = json.loads(path.read_bytes())
    return {key: entries[key].get(COUNTER, 0) for key in keys}


def shardstore(*arguments: str | Path) -> list[str]:
    """Run the real command line in a process of its own; give the lines it prints. Raises SystemExit if it fails."""
    script = Path(sys.executable).with_name("shardstore")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "shardstore_cli"]
    environment = {**os.environ, "COLUMNS": "76", "NO_COLOR": "1"}
    done = subprocess.run([*command, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"shardstore {arguments[0]} left with exit code {done.returncode}")
    return done.stdout.splitlines()


def show(lines: list[str]) -> None:
    """Print what a command printed, indented."""
    print("".join(f"    {line}".rstrip() + "\n" for line in lines), end="", flush=True)


def section(lines: list[str], heading: str) -> list[str]:
    """Return the lines from a heading to the next empty line; the rest is marked as left out."""
    start = next(number for number, line in enumerate(lines) if heading in line)
    end = lines.index("", start) if "" in lines[start:] else len(lines)
    return ["[...]" if start else "", *lines[start:end]]


# The story.


def main() -> None:
    """Run the demo in its five steps."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description="The main job, with real numbers.")
    parser.add_argument("--population", choices=openclaw.POPULATIONS, default="busy")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--updates", type=int, default=1500, help="per worker and store, at most")
    parser.add_argument("--seconds", type=float, default=4.0, help="per store, at most")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shardstore-demo-") as made:
        failed = story(
            Path(made), openclaw.population(given.population, given.seed), Amount(given.updates, given.seconds)
        )
    print()
    if failed:
        raise SystemExit("\n".join(f"NOT TRUE IN THIS RUN: {claim}" for claim in failed))
    print("All of it held: nothing was lost, and the store is sound.")


def story(directory: Path, entries: dict[str, openclaw.Entry], amount: Amount) -> list[str]:
    """Run the demo in an empty directory; return the claims that did not hold."""
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    print(f"shardstore demo     {system}")

    title("1. A realistic OpenClaw store, made up from a seed")
    source = openclaw.write(entries, directory / "openclaw")
    print(f"    {len(entries)} sessions, {source.stat().st_size / 1e6:.1f} MB in one sessions.json")

    title(f"2. $ shardstore import openclaw {source.name} --no-transcripts --store store")
    store = directory / "store"
    show(shardstore("import", "openclaw", source, "--no-transcripts", "--store", store))
    exported = json.loads("\n".join(shardstore("export", "openclaw", "--store", store)))
    same = exported == entries
    print(f"    exported again, it is {'the same' if same else 'NOT THE SAME'}, session by session")

    keys = sorted(entries, key=lambda key: abs(len(json.dumps(entries[key])) - TYPICAL_BYTES))[:HOT_SESSIONS]
    title(f"3. {WORKERS} processes update the same {HOT_SESSIONS} sessions at once")
    print("    Each update reads a counter, adds one, and changes 4-6 other fields, as a")
    print("    reply of an agent does. The same work on each store, as fast as it goes.\n")
    runs = compare(prepare(directory, entries), keys, amount)

    title("4. $ shardstore inspect --store store")
    told = shardstore("inspect", "--store", store)
    show([*told[: told.index("")], *section(told, "most revised")])
    print("\n   $ shardstore inspect KEY --store store     (the busiest)")
    told = shardstore("inspect", keys[0], "--store", store)
    show([*told[: told.index("")], "[...]", *(line for line in told if line.startswith((COUNTER, "lastStepOf")))])
    print(f"    {runs[0].sent[keys[0]]:,} turns were acknowledged, one revision each; revision 1 was the import.")

    title("5. $ shardstore verify --store store")
    show(shardstore("verify", "--store", store))
    return judge(same, runs, store, keys)


def compare(paths: dict[str, Path], keys: list[str], amount: Amount) -> list[Run]:
    """Run the same work on each store; print a line each, from what was told and what is on the disk."""
    print(f"    {'':28}{'updates':>8}{'found':>8}{'lost':>8}{'per s':>9}{'p99':>10}")
    runs = []
    for name, path in paths.items():
        done = run(name, path, keys, amount)
        done.kept = counters(name, path, keys)
        runs.append(done)
        rate, slow = done.expected / done.seconds, max(done.slowest) * 1000
        kept = sum(done.kept.values())
        print(f"    {name:28}{done.expected:8,}{kept:8,}{done.lost:8,}{rate:9,.0f}{slow:7.1f} ms", flush=True)
    mine, *others = runs
    print(f"\n    shardstore: {mine.expected:,} updates acknowledged, {mine.lost:,} lost; each one synced to disk.")
    for other in others:
        print(f"    {other.name}: lost {other.lost / other.expected:.0%}; no call had failed.")
    return runs


def judge(same: bool, runs: list[Run], path: Path, keys: list[str]) -> list[str]:
    """Name the claims that did not hold."""
    mine, *others = runs
    with Store(path, create=False) as store:
        revisions = {key: store[key].rev for key in keys}
    claims = {
        "export gives back what was imported": same,
        "shardstore keeps every update": mine.lost == 0 and mine.kept == mine.sent,
        "every update is one revision": all(revisions[key] == 1 + mine.sent[key] for key in keys),
        "the unlocked stores lose updates": all(other.lost > 0 for other in others),
    }
    return [claim for claim, held in claims.items() if not held]


def title(text: str) -> None:
    """Print the title of a step."""
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()
