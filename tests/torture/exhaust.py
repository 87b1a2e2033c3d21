"""Try one operation with a fault at every call, one after another, and print what came of it as JSON.

    python -m tests.torture.exhaust killed-inside patch        every os call: before, after, in the middle of writes
    python -m tests.torture.exhaust killed patch               every system call that touches the store (strace)
    python -m tests.torture.exhaust failed-inside patch        errors at every os call
    python -m tests.torture.exhaust failed patch --all         every error at every system call (strace)
    python -m tests.torture.exhaust short patch                RLIMIT_FSIZE at every length around the write

`--only "pwrite64 3"` tries a single call again.  `--every K` takes each K-th try only.  `--seconds S` takes, of all
tries, as many as the time allows, spread evenly over the operation.  What was not tried is counted as skipped.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .arena import Arena, quicken, scratch
from .faults import WRITES, Call, Fault, Patched, SizeLimit, Strace, likeness, thinned, traced_calls
from .operations import OPERATIONS

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EMFILE", "EACCES", "EROFS", "EINTR", "ENOLCK")
LIKELY = {
    "open": ("EIO", "ENOSPC", "EMFILE", "EACCES", "EROFS", "EINTR"),
    "flock": ("EIO", "ENOLCK", "EINTR"),
    "write": ("EIO", "ENOSPC", "EDQUOT", "EINTR"),
    "sync": ("EIO", "ENOSPC", "EDQUOT", "EINTR"),
    "truncate": ("EIO", "ENOSPC", "EROFS", "EINTR"),
    "rename": ("EIO", "ENOSPC", "EACCES", "EROFS"),
    "link": ("EIO", "ENOSPC", "EACCES", "EROFS"),
    "mkdir": ("EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS"),
    "": ("EIO", "EACCES"),
}
"""The errors that each kind of call can give in life; --all tries all of them everywhere."""


AGAIN = 4
"""A call that does not come on one run comes on the next: a wait that another run did not need shifts the count."""


def spread(count: int) -> list[int]:
    """Order 0 to count - 1 so that any beginning of it is spread evenly over the whole: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    bits = max(1, (count - 1).bit_length())
    reverse = (int(f"{n:0{bits}b}"[::-1], 2) for n in range(1 << bits))
    return [n for n in reverse if n < count]


def likely(name: str) -> tuple[str, ...]:
    """Return the errors that a call of this name gives in life."""
    return next(errors for part, errors in LIKELY.items() if part in name)


class Campaign:
    """The tries of one mode on one operation."""

    def __init__(self, arena: Arena, args: argparse.Namespace) -> None:
        """Keep the arena; nothing is tried yet."""
        self.arena, self.args = arena, args
        self.by_call: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.skipped = 0
        self.turn = -1
        self.calls = self.alike = 0
        self.plan: list[Callable[[], None]] = []

    def killed_inside(self) -> None:
        """Kill before and after each call through os; in the middle of each write."""
        for n, name in self._inside_calls():
            actions = ["before", "after"] + (["first", "half", "last"] if name in WRITES else [])
            for action in actions:
                self._kill(name, Patched(n, action))

    def failed_inside(self) -> None:
        """Fail each call through os; cut each write short."""
        self._control()
        for n, name in self._inside_calls():
            for error in ERRORS if self.args.all else likely(name):
                self._fail(f"{name} {error}", Patched(n, getattr(errno, error)))
            if name in WRITES:
                self._fail(f"{name} short", Patched(n, "short"))

    def killed(self) -> None:
        """Kill at each system call that touches the store."""
        for call in self._calls():
            self._kill(call.name, Strace(call, "signal=KILL"))

    def failed(self) -> None:
        """Fail each system call that touches the store."""
        self._control()
        for call in self._calls():
            for error in ERRORS if self.args.all else likely(call.name):
                if error != "EINTR" or "close" not in call.name:
                    self._fail(f"{call.name} {error}", Strace(call, f"error={error}"))

    def short(self) -> None:
        """Let files grow to each length around what the operation writes, and no further."""
        self._control()
        files = [p for p in self.arena.template.rglob("*") if p.is_file()]
        sizes = {p.stat().st_size for p in files}
        ends = {len(p.read_bytes().rstrip(b"\n")) + 1 for p in files if p.suffix == ".jsonl"}
        limits = {0, 1, *sizes, *(s - 1 for s in sizes if s), *ends, *(1 << n for n in range(9, 18))}
        limits |= {end + more for end in ends for more in (1, 16, 60, 90, 120, 200, 400, 900, 1500, 1800)}
        for limit in sorted(limits):
            self._fail("short", SizeLimit(limit))

    def run(self, until: float) -> None:
        """Plan the mode, and try what it holds until the time is over."""
        getattr(self, self.args.mode.replace("-", "_"))()
        for at in spread(len(self.plan)) if until < math.inf else range(len(self.plan)):
            if time.monotonic() > until:
                self.skipped += 1
            else:
                self.plan[at]()

    def _kill(self, name: str, fault: Fault) -> None:
        if self._wanted(fault):
            self.plan.append(lambda: self._killed_by(name, fault))

    def _fail(self, name: str, fault: Fault) -> None:
        if self._wanted(fault):
            self.plan.append(lambda: self._failed_by(name, fault))

    def _killed_by(self, name: str, fault: Fault) -> None:
        for _ in range(AGAIN):
            struck, complaints = self.arena.kill(fault)
            self.complaints += [f"{self.arena.op.name}: {fault}: {c}" for c in complaints]
            if struck or complaints:
                break
        self.by_call[name] += 1
        self.outcomes["killed" if struck else "finished"] += 1

    def _failed_by(self, name: str, fault: Fault) -> None:
        outcome, complaints = self.arena.fail(fault)
        self.by_call[name] += 1
        self.outcomes[outcome] += 1
        self.complaints += [f"{self.arena.op.name}: {fault}: {c}" for c in complaints]

    def _wanted(self, fault: Fault) -> bool:
        if self.args.only and self.args.only not in str(fault):
            return False
        self.turn += 1
        if self.turn % self.args.every:
            self.skipped += 1
            return False
        return True

    def _control(self) -> None:
        """Run once without a fault, to know how many descriptors are open afterwards."""
        outcome, complaints = self.arena.fail(Fault())
        self.arena.control = self.arena.last
        if outcome != "ok" or complaints:
            self.complaints.append(f"{self.arena.op.name}: without a fault: {outcome} {complaints}")

    def _inside_calls(self) -> list[tuple[int, str]]:
        """Number the calls through os, those chosen, from 1."""
        log = self.arena.directory / "calls"
        self.arena.kill(Patched(0, "count", log=str(log)))
        lines = log.read_text().splitlines()
        if not lines:
            raise RuntimeError("no call went through os: the store imports its functions in a way that hides them")
        chosen = self._thinned(lines)
        return [(at + 1, lines[at].partition(" ")[0]) for at in chosen]

    def _calls(self) -> list[Call]:
        log = self.arena.directory / "strace"
        self.arena.kill(Strace(None, log=log))
        calls = traced_calls(log, self.arena.root)
        if not calls:
            raise RuntimeError("strace saw no call that touches the store")
        return [calls[at] for at in self._thinned([f"{c.name} {likeness(c.text)}" for c in calls])]

    def _thinned(self, likenesses: list[str]) -> list[int]:
        chosen = list(range(len(likenesses))) if self.args.unthinned else thinned(likenesses)
        self.calls, self.alike = len(likenesses), len(likenesses) - len(chosen)
        return chosen


def main() -> int:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["killed-inside", "failed-inside", "killed", "failed", "short"])
    parser.add_argument("operation", choices=sorted(OPERATIONS))
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after this long, and say so")
    parser.add_argument("--unthinned", action="store_true", help="also try every one of many calls that look alike")
    args = parser.parse_args()
    quicken()
    began = time.monotonic()
    directory = scratch()
    try:
        arena = Arena(Path(directory) / "arena", OPERATIONS[args.operation])
        campaign = Campaign(arena, args)
        campaign.run(began + args.seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    json.dump(
        {
            "mode": args.mode,
            "operation": args.operation,
            "durability": OPERATIONS[args.operation].durability,
            "errors": "all" if args.all else "likely",
            "tries": sum(campaign.by_call.values()),
            "by_call": dict(campaign.by_call),
            "outcomes": dict(campaign.outcomes),
            "calls": campaign.calls,
            "skipped_as_alike": campaign.alike,
            "skipped": campaign.skipped,
            "complaints": campaign.complaints,
            "seconds": round(time.monotonic() - began, 1),
        },
        sys.stdout,
    )
    print()
    return bool(campaign.complaints)


if __name__ == "__main__":
    sys.exit(main())
