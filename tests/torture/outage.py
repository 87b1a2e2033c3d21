"""Cut the power at every point of a workload, in the model of powerloss.py, and open what is left.

    python -m tests.torture.outage life --durability commit
    python -m tests.torture.outage life --mutant no-directory-sync      must complain
    python -m tests.torture.outage life --outside                       recorded by strace, SQLite's writes included

Prints one JSON object.  In durable mode every acknowledged step must be there; in relaxed mode each session must be
in a state that existed.  Nothing may need help, nothing removed by compact may be missing from the archive.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardstore import Store
from shardstore._aio.borrowed import on_engine
from shardstore._aio.visits import Inside
from shardstore._files import syncs, transaction
from tests.support import settling

from .arena import Child, descriptors, go_on, in_child, listed, quicken, scratch, verified
from .faults import STRACE, _wait_until_traced
from .operations import (
    BLOB,
    KEYS,
    MAIN,
    SESSIONS,
    Truth,
    almost_rewritten,
    eight,
    nothing,
    read_truth,
    sign,
    three,
    torn,
)
from .powerloss import STRACE_OPTIONS, CrashState, Recorder, Trace, crash_states, from_strace, read_tree, write_tree

MARKS = 199
Step = Callable[[Store], Any]


@dataclass(frozen=True)
class Workload:
    """A store to begin with and what is then done to it, step by step."""

    prepare: Callable[[Path], None]
    steps: tuple[Step, ...]
    archives: bool = False
    settle: int = 0  # bytes of items that a journal keeps, if not as many as usual: each sector is another state


def _patch(key: str, **fields: Any) -> Step:
    return lambda store: store.patch(key, fields)


def _delete(key: str) -> Step:
    return lambda store: store.delete(key)


class Relaxed:
    """A patch of MAIN by a writer who did not ask for durability; its acknowledgement promises nothing yet."""

    def __init__(self, **fields: Any) -> None:
        """Choose what to set."""
        self.fields = fields

    def __call__(self, store: Store) -> Any:
        """Patch through a store of its own on the same root."""
        with Store(store.root, durability="relaxed") as other:
            return other.patch(MAIN, self.fields)


class Grouped(Relaxed):
    """A durable patch of MAIN in a visit that later steps share; its acknowledgement comes with theirs."""

    visit: Any = None  # while one is under way

    def __call__(self, store: Store) -> Any:
        """Patch in the visit, which the first of them enters."""
        if Grouped.visit is None:
            Grouped.visit = store.engine.group(MAIN, 10.0, create=True)
            Grouped.visit.__enter__()
        inside: Any = Inside(store.engine, store.engine.logs)
        inside.join(Grouped.visit)
        return on_engine(store, inside, 0.0).patch(MAIN, self.fields)


def _end_group(_store: Store) -> None:
    """Sync what the visit has written, and leave it: now all of it is acknowledged."""
    visit, Grouped.visit = Grouped.visit, None
    visit.sync()
    visit.__exit__(None, None, None)


def _all_at_once(_store: Store) -> None:
    """Have even small groups be synced by one call, where the system has it, on whatever file system this is."""
    from shardstore._files import syncfs

    assert syncs.FEW > 0
    assert syncfs.is_trusted
    syncs.FEW = 0
    syncfs.is_trusted = lambda _fd: syncfs._call is not None


def _say(*numbers: int) -> Step:
    return lambda store: store.append(MAIN, [{"n": n, "text": f"{n:04d}" * 300} for n in numbers], sign)


def _edit(change: Callable[[Any], Any]) -> Step:
    def step(store: Store) -> Any:
        with store.edit(MAIN) as draft:
            change(draft.log)
            sign(draft)

    return step


LIFE = (
    _patch("new", a=1),
    _patch(MAIN, n=1),
    _patch(MAIN, filler="f" * 3000),
    _patch(MAIN, filler="g" * 9000),
    _patch("new", a=2),
    _delete(MAIN),
    lambda store: store.create(MAIN, {"again": 1}),
    _patch(MAIN, again=2, filler="h" * 700),
    lambda store: store.replace("new", {"whole": BLOB}),
    _patch(SESSIONS[1], small=1),
    _delete("new"),
    _patch(SESSIONS[1], small=2),
)
BULK = (
    lambda store: store.create_many([(key, {"many": n}) for n, key in enumerate(KEYS[:6])], on_exists="skip"),
    _patch(MAIN, b=1),
    lambda store: store.delete_all("agent:main:cron:"),
    _patch(MAIN, b=2),
)
WORKLOADS = {
    "birth": Workload(nothing, (lambda _: None, _patch(MAIN, a=1), _patch(MAIN, a=2), _patch("new", b=1))),
    "life": Workload(three, LIFE),
    "rewrite": Workload(
        almost_rewritten, (_patch(MAIN, n=99, filler="y" * 1500), _patch(MAIN, n=100), _patch(MAIN, n=101))
    ),
    "torn": Workload(torn, (_patch(MAIN, n=50), _patch(MAIN, n=51), _delete(MAIN))),
    "mixed": Workload(
        three,
        (
            _patch(MAIN, n=1),
            Relaxed(n=2),
            Relaxed(n=3, filler="f" * 1200),
            Relaxed(n=4),
            _patch(MAIN, n=5),
            Relaxed(n=6, filler="g" * 1200),
            Relaxed(n=7),
            Relaxed(n=8),
            _patch(MAIN, n=9),
        ),
    ),
    "group": Workload(
        three,
        (
            _patch(MAIN, n=1),
            Grouped(n=2),
            Grouped(n=3, filler="f" * 1200),
            Grouped(n=4),
            _end_group,
            Grouped(n=5),
            Grouped(n=6, filler="g" * 1200),
            _end_group,
            Relaxed(n=7),
            Grouped(n=8),
            Grouped(n=9, filler="h" * 700),
            _end_group,
            _patch(MAIN, n=10),
        ),
    ),
    "group-rewrite": Workload(
        almost_rewritten,
        (
            Grouped(n=98),
            Grouped(n=99, filler="y" * 1500),
            Grouped(n=100),
            _end_group,
            _patch(MAIN, n=101),
        ),
    ),
    "compact": Workload(
        eight,
        (
            lambda store: store.prune(max_entries=4, keep=(MAIN,)),
            lambda store: store.archive.restore(SESSIONS[2]),
            _patch(SESSIONS[2], n=7),
            lambda store: store.compact(),
        ),
        archives=True,
    ),
    "bulk": Workload(three, BULK),
    "bulk-syncfs": Workload(three, (_all_at_once, *BULK)),
    "bulk-archive": Workload(
        three,
        (
            lambda store: store.prune(prefix="agent:main:", older_than=0),
            lambda store: store.archive.restore_many(),
            _patch(SESSIONS[1], n=7),
        ),
        archives=True,
    ),
    "log": Workload(
        three,
        (
            *[_say(n) for n in range(6)],
            _edit(lambda log: log.pop()),
            _say(10, 11, 12, 13),
            _edit(lambda log: log.__delitem__(slice(2, None))),
            _say(20, 21, 22, 23),
            _edit(lambda log: log.__delitem__(slice(None, 3))),
            _edit(lambda log: log.__setitem__(slice(None), ["summary", log[-1]])),
            _say(30, 31, 32, 33, 34),
            _patch(MAIN, n=5),
            _delete(MAIN),
        ),
        settle=4096,
    ),
    "log-moves": Workload(
        three,
        (
            _say(*range(6)),
            lambda store: store.copy(MAIN, "new", stop=5),
            _delete("new"),
            lambda store: store.rename(MAIN, "new"),
            lambda store: store.rename("new", MAIN),
            lambda store: store.prune(where={"log": ("exists", True)}),
            lambda store: store.archive.restore(MAIN),
            _say(7, 8, 9, 10),
        ),
        archives=True,
        settle=4096,
    ),
    "listed": Workload(
        eight,
        (
            lambda store: store.list(),
            _patch(MAIN, n=5),
            _patch("new", a=1),
            lambda store: store.list(),
            _patch("new", a=2),
            _delete(SESSIONS[1]),
            lambda store: store.list(),
        ),
    ),
}

MUTANTS = {
    "no-temp-sync": "a rewrite is renamed into place without being synced",
    "no-directory-sync": "names are never synced",
    "no-data-sync": "a commit is acknowledged without being synced",
    "no-crc": "any line counts as whole",
    "acknowledged-too-early": "a batch does not sync what it wrote",
    "batch-without-names": "a batch syncs files and no directories",
    "group-not-synced": "a visit acknowledges what it did not sync",
    "group-says-durable": "every record of a group says that it follows synced bytes",
    "no-log-sync": "the log's file is not synced before the journal names what is in it",
    "no-committed-end": "a settle goes on behind whatever stands in the log's file",
    "log-name-reused": "what replaces a log's file gets the same name",
}


def mutate(name: str | None) -> None:
    """Break the store in this process.  Fails where the function that is to be broken has gone."""
    if name is None:
        return
    from shardstore._files import disk, file
    from shardstore._journal import record
    from shardstore._journal import replay as journal

    if name == "no-temp-sync":
        fill = file.JournalFile.fill

        def unsynced(self: Any, *args: Any, **kwargs: Any) -> Any:
            sync, disk.sync = disk.sync, lambda _fd: None
            try:
                return fill(self, *args, **kwargs)
            finally:
                disk.sync = sync

        file.JournalFile.fill = unsynced  # type: ignore[method-assign]
    elif name == "no-directory-sync":
        assert disk.sync_directory
        disk.sync_directory = lambda _path: None
    elif name == "no-data-sync":
        assert disk.sync
        disk.sync = lambda _fd: None
    elif name == "no-crc":
        assert record.is_intact
        whole = record.is_intact
        record.is_intact = lambda text: whole(text) or text.startswith(record.PREFIX)
        assert journal.record is record
    elif name == "acknowledged-too-early":
        assert syncs.Syncs.sync
        syncs.Syncs.sync = lambda self: self._drop()  # type: ignore[method-assign]
    elif name == "batch-without-names":
        assert syncs.Syncs.add_names
        syncs.Syncs.add_names = lambda *_: None  # type: ignore[method-assign]
    elif name == "group-not-synced":
        assert transaction.FileTransaction.sync
        transaction.FileTransaction.sync = lambda _self: None  # type: ignore[method-assign]
    elif name == "group-says-durable":
        real: Any = transaction.next_record
        transaction.next_record = lambda *args, durable, **kwargs: real(*args, durable=True, **kwargs)
    elif name in _LOG_MUTANTS:
        _LOG_MUTANTS[name]()
    else:
        raise ValueError(name)


def _no_log_sync() -> None:
    from shardstore._files import disk, logfile

    for verb in ("_append", "write_new"):
        original = getattr(logfile.LogFiles, verb)

        def unsynced(self: Any, *args: Any, original: Any = original, **kwargs: Any) -> Any:
            sync, disk.sync = disk.sync, lambda _fd: None
            try:
                return original(self, *args, **kwargs)
            finally:
                disk.sync = sync

        setattr(logfile.LogFiles, verb, unsynced)


def _no_committed_end() -> None:
    from shardstore._files import logfile

    original = logfile.LogFiles._append

    def behind_all(self: Any, name: str, key: str, log: Any) -> Any:
        size = os.stat(self.path(name, log.settled)).st_size
        return original(self, name, key, log._replace(settled=log.settled._replace(end=size)))

    logfile.LogFiles._append = behind_all  # type: ignore[method-assign]


def _log_name_reused() -> None:
    from shardstore._files import logfile

    original, fresh = logfile.LogFiles.write_new, logfile.new_log_id

    def over(self: Any, name: str, log: Any, items: Any, *, first: int) -> Any:
        items, old = list(items), log.settled.file
        if old:
            os.unlink(self.path(name, log.settled))
        logfile.new_log_id = lambda: old or fresh()
        return original(self, name, log, items, first=first)

    logfile.LogFiles.write_new = over  # type: ignore[method-assign]


_LOG_MUTANTS = {
    "no-log-sync": _no_log_sync,
    "no-committed-end": _no_committed_end,
    "log-name-reused": _log_name_reused,
}


class Outage:
    """One workload, recorded once, cut at every point."""

    def __init__(
        self, directory: Path, workload: Workload, durability: str, mutant: str | None, *, outside: bool
    ) -> None:
        """Create the template and record the workload."""
        self.workload, self.durability, self.mutant = workload, durability, mutant
        self.base = directory / "base"
        self.root = self.base / "home" / "store"
        self.base.mkdir()
        assert syncs.THREADS > 1
        syncs.THREADS = 1  # in every child too: the recorder loses calls that several threads make at once
        if workload.settle:
            settling.settle_at(workload.settle)  # in every child too
        in_child(lambda: workload.prepare(self.root))
        if not self.root.exists():
            shutil.rmtree(self.base / "home", ignore_errors=True)
        self.trace, self.truths = (self._record_outside if outside else self._record)(directory)
        self.grave = directory / "grave"

    def _record(self, _directory: Path) -> tuple[Trace, list[Truth]]:
        def run() -> tuple[Trace, list[Truth]]:
            mutate(self.mutant)
            recorder = Recorder(self.base)
            truths: list[Truth] = []
            with recorder.recording() as trace:
                self._work(trace.step, truths)
            trace._open.clear()
            return trace, truths

        return in_child(run)

    def _record_outside(self, directory: Path) -> tuple[Trace, list[Truth]]:
        start, log = read_tree(self.base), directory / "strace"

        def run(me: Child) -> list[Truth]:
            mutate(self.mutant)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, MARKS)
            me.await_turn()
            truths: list[Truth] = []
            self._work(lambda kind, number: os.write(MARKS, f"{kind} {number}\n".encode()), truths)
            return truths

        child = Child(run)
        assert STRACE is not None
        tracer = subprocess.Popen([STRACE, "-o", str(log), "-p", str(child.pid), *STRACE_OPTIONS])
        _wait_until_traced(child.pid, tracer)  # type: ignore[arg-type]
        child.go()
        kind, truths = child.hear()
        child.reap()
        tracer.wait(10)
        if kind != "result":
            raise RuntimeError(f"{kind}: {truths}")
        with log.open(errors="replace") as lines:
            return from_strace(lines, str(self.base), start, MARKS), truths

    def _work(self, step: Callable[[str, int], Any], truths: list[Truth]) -> None:
        if self.root.exists():
            with Store(self.root) as store:
                truths.append(read_truth(store))
        else:
            truths.append(dict.fromkeys(KEYS))
        step("begin", 1)
        with Store(self.root, durability=self.durability) as store:
            for n, action in enumerate(self.workload.steps, 1):
                if n > 1:
                    step("begin", n)
                action(store)
                step("ack", n)
                truths.append(read_truth(store))

    def judge(self, state: CrashState) -> list[str]:
        """Put the state on a disk and open it in a new process."""
        write_tree(self.grave, state.tree)
        try:
            complaints = in_child(lambda: self._look(state))
        except RuntimeError as error:
            complaints = [str(error)]
        where = f"op {state.point} ({self._name(state.point)}), step {state.begun}, acknowledged {state.acknowledged}"
        return [f"{where}, {state.why}: {c}" for c in complaints]

    def _name(self, point: int) -> str:
        op = self.trace.ops[point - 1] if point else ("start",)
        return " ".join(str(a)[:60] if not isinstance(a, bytes) else f"{len(a)} bytes" for a in op)

    def _look(self, state: CrashState) -> list[str]:
        after_a_restart()
        mutate(self.mutant if self.mutant in ("no-crc", "no-committed-end") else None)
        with Store(self.grave / "home" / "store") as store:
            found = read_truth(store)
            complaints = []
            for key in KEYS:
                allowed = self._allowed(key, state)
                if found[key] not in allowed and not self._archived(store, key, found, allowed):
                    complaints.append(f"{key} is {str(found[key])[:200]}, allowed {str(allowed)[:400]}")
            complaints += listed(store, found, "first")
            complaints += [f"verify: {p}" for p in verified(store)]
            complaints += go_on(store, found)
            found = read_truth(store)
            for key in (MAIN, "new", SESSIONS[1]):
                store.patch(key, {"next": 1})
                if store[key].data != {**(found[key] or {}), "next": 1}:
                    complaints.append(f"the next update of {key} gives {store[key].data}")
            if self.workload.settle:
                complaints += _goes_on_settling(store)
        return complaints

    def _allowed(self, key: str, state: CrashState) -> list[Any]:
        durable = [n for n in range(1, state.acknowledged + 1) if not isinstance(self.workload.steps[n - 1], Relaxed)]
        first = durable[-1] if durable and self.durability == "commit" else 0
        return [truth[key] for truth in self.truths[first : state.begun + 1]]

    def _archived(self, store: Store, key: str, found: Truth, allowed: list[Any]) -> bool:
        """A session that compact removed may be gone early only if the archive has it."""
        if not self.workload.archives or found[key] is not None:
            return False
        restored = store.archive.restore(key).data in allowed
        store.delete(key)
        return restored


def _goes_on_settling(store: Store) -> list[str]:
    """Append until the log is settled, behind whatever the power cut left in its file."""
    items = store[MAIN].log[:]
    for number in range(4):
        more = [{"more": number, "text": "m" * 900} for _ in range(3)]
        items += more
        if store.append(MAIN, more).log[:] != items:
            return [f"the log of {MAIN} is not what was appended to it"]
    if not store.engine.read(MAIN).log.settled.file:
        return ["twelve items were appended and nothing was settled"]
    return [f"verify, after a settle: {p}" for p in store.verify().problems]


def after_a_restart() -> None:
    """Convince this process that the machine was started again. Fail where the store asks in another way."""
    from shardstore._files import life

    if life.boot_id.__name__ not in life.life_of.__code__.co_names:
        raise LookupError("a life of the index does not hold the boot id: the restart of the machine cannot be played")
    life.boot_id = lambda: "another start"


def main() -> int:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=sorted(WORKLOADS))
    parser.add_argument("--durability", default="commit", choices=["commit", "relaxed"])
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    parser.add_argument("--outside", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="open each so many states only")
    parser.add_argument("--stride", type=int, default=1, help="cut at each so many operations only")
    parser.add_argument("--enough", type=int, default=40, help="stop after this many complaints")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this long, and say so")
    args = parser.parse_args()
    quicken()
    began = time.monotonic()
    directory = scratch("outage-")
    tried = skipped = 0
    complaints: list[str] = []
    try:
        outage = Outage(directory, WORKLOADS[args.workload], args.durability, args.mutant, outside=args.outside)
        for n, state in enumerate(crash_states(outage.trace, stride=args.stride)):
            if len(complaints) >= args.enough:
                break
            if n % args.every or time.monotonic() - began > args.seconds:
                skipped += 1
                continue
            tried += 1
            complaints += outage.judge(state)
        ops = Counter(op[0] for op in outage.trace.ops)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    result = {
        "workload": args.workload,
        "durability": args.durability,
        "mutant": args.mutant,
        "recorded": "outside" if args.outside else "inside",
        "operations": dict(ops),
        "states": tried,
        "skipped": skipped,
        "complaints": complaints,
        "descriptors": descriptors(),
        "seconds": round(time.monotonic() - began, 1),
    }
    json.dump(result, sys.stdout)
    print()
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
