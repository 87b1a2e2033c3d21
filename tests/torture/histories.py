"""Let processes race on a few sessions, kill some of them, and write down what each asked and was answered.

    python -m tests.torture.histories --processes 6 --keys 3 --seconds 5 --kills 20 --seed 1

Each process notes a call before it makes it and the answer when it has it, on the machine's monotonic clock; what a
killed process had asked stays pending.  Then every key's history is checked (linearizable.py), and what `list` said of
a key counts as a read of it.  Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from shardstore import Conflict, LogReplaced, Session, SessionExists, SessionNotFound, Store
from tests.support import settling

from .arena import brief, scratch
from .linearizable import LOG, PENDING, Op, Rejected, Undecided, check, together

KINDS = (
    ["append"] * 6
    + ["cut"] * 2
    + ["get"] * 6
    + ["log"] * 3
    + ["update"] * 5
    + ["patch"] * 4
    + ["replace"] * 4
    + ["delete"] * 2
    + ["create"] * 2
    + ["list"]
)


class Client:
    """One thread that makes random calls and notes them."""

    def __init__(self, store: Store, keys: list[str], log: int, name: str, seed: int) -> None:
        """Nothing is asked yet."""
        self.store, self.keys, self.log, self.name = store, keys, log, name
        self.rng = random.Random(seed)
        self.seen: dict[str, Session] = {}
        self.count = 0

    def run(self, until: float, pause: float) -> None:
        """Call until the time is over."""
        while time.monotonic() < until:
            kind, key = self.rng.choice(KINDS), self.rng.choice(self.keys)
            self.count += 1
            args: dict[str, Any] = {"w": f"{self.name}-{self.count}", "fields": {self.rng.choice("xyz"): self.count}}
            if kind == "replace":
                if key not in self.seen:
                    continue
                args["expect"] = self.seen[key]["w"]
            self._note("call", kind, key, args)
            self._note("back", kind, key, self._answer(kind, key, args))
            if pause:
                time.sleep(self.rng.random() * pause)

    def _note(self, what: str, kind: str, key: str, value: Any) -> None:
        line = json.dumps([what, self.name, time.monotonic(), kind, key, value])
        os.write(self.log, line.encode() + b"\n")

    def _answer(self, kind: str, key: str, args: dict[str, Any]) -> Any:
        store = self.store
        try:
            if kind == "list":
                return {info.key: dict(info.fields) for info in store.list(prefix="k")}
            if kind == "delete":
                return store.delete(key)
            if kind == "log":
                return store.log(key)
            if kind in ("append", "cut"):
                return self._changed_log(kind, key, args)
            session = self._session(kind, key, args)
        except (Conflict, SessionExists, SessionNotFound) as error:
            return type(error).__name__
        if session is None:
            return None
        self.seen[key] = session
        if kind != "get":
            return session.data
        try:
            return self._with_log(session.data, session.log[:])
        except LogReplaced:  # by a commit of this moment: a read may be of a later one as well
            return self._answer(kind, key, args)

    def _with_log(self, data: dict[str, Any], items: list[str]) -> dict[str, Any]:
        return {**data, LOG: ",".join(items)} if items else data

    def _changed_log(self, kind: str, key: str, args: dict[str, Any]) -> dict[str, Any]:
        """Append an item, or remove half; answer as seen inside the lock."""
        if kind == "append":
            found: list[dict[str, Any]] = []

            def patch(draft: Any) -> None:
                draft["w"] = args["w"]
                found.append(self._now(draft))

            self.store.append(key, [args["w"]], patch, ids=[args["w"]])
            return found[0]
        with self.store.edit(key) as draft:
            del draft.log[len(draft.log) // 2 :]
            draft["w"] = args["w"]
            return self._now(draft)

    def _now(self, draft: Any) -> dict[str, Any]:
        return self._with_log(draft.copy(), draft.log[:])

    def _session(self, kind: str, key: str, args: dict[str, Any]) -> Session | None:
        store = self.store
        if kind == "get":
            return store.get(key)
        if kind == "update":
            return store.update(key, lambda d: d.update(n=d.get("n", 0) + 1, w=args["w"]))
        if kind == "patch":
            return store.patch(key, {**args["fields"], "w": args["w"]})
        if kind == "replace":
            return store.replace(key, {**args["fields"], "w": args["w"]}, expect=self.seen[key])
        return store.create(key, {**args["fields"], "w": args["w"]})


def client_process(root: Path, number: int, args: argparse.Namespace, until: float) -> None:
    """Run the clients of one process; say so in the log when one fails."""
    settling.settle_at(512)  # a few items: logs are settled, cut and written anew all the time
    log = os.open(root.parent / f"log-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    store = Store(root, durability=args.durability, lock_timeout=30.0)

    def run(thread: int) -> None:
        client = Client(store, keys(args.keys), log, f"{number}.{thread}", hash((args.seed, number, thread)))
        try:
            client.run(until, args.pause)
        except BaseException:
            import traceback

            os.write(
                log, json.dumps(["failed", client.name, 0, "", "", brief(traceback.format_exc())]).encode() + b"\n"
            )

    threads = [threading.Thread(target=run, args=(t,)) for t in range(1, args.threads)]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()


def keys(count: int) -> list[str]:
    """Name the sessions that are raced for."""
    return [f"k{n}" for n in range(count)]


def race(root: Path, args: argparse.Namespace) -> int:
    """Start the processes, kill and replace some; return how many were killed."""
    rng = random.Random(args.seed)
    until = time.monotonic() + args.seconds
    Store(root).close()
    running: list[int] = []
    numbers = iter(range(10**6))

    def start() -> None:
        number = next(numbers)
        pid = os.fork()
        if pid == 0:
            try:
                client_process(root, number, args, until)
            finally:
                os._exit(0)
        running.append(pid)

    for _ in range(args.processes):
        start()
    kills = 0
    while kills < args.kills and time.monotonic() < until - 0.05:
        time.sleep(args.seconds / (args.kills + 1) * rng.random() * 2)
        pid = running.pop(rng.randrange(len(running)))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        start()
    for pid in running:
        os.waitpid(pid, 0)
    return kills


def read_logs(directory: Path) -> tuple[dict[str, list[Op]], list[Op], list[str]]:
    """Return the history of each key, every list, and what failed."""
    histories: dict[str, list[Op]] = {}
    lists, failures = [], []
    for path in sorted(directory.glob("log-*")):
        asked: dict[str, tuple] = {}
        for line in path.read_bytes().split(b"\n"):
            try:
                what, name, at, kind, key, value = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a killed process
            if what == "failed":
                failures.append(f"client {name}: {value}")
            elif what == "call":
                asked[name] = (at, kind, key, value)
            else:
                call, _, _, given = asked.pop(name)
                op = Op(hash(name), call, at, kind, {**given, "key": key}, value)
                lists.append(op) if kind == "list" else histories.setdefault(key, []).append(op)
        for name, (call, kind, key, given) in asked.items():
            if kind not in ("get", "log", "list"):
                histories.setdefault(key, []).append(Op(hash(name), call, PENDING, kind, {**given, "key": key}))
    return histories, lists, failures


def judge(histories: dict[str, list[Op]], lists: list[Op], every: list[str]) -> tuple[list[str], int]:
    """Check every key on its own; a list is a read of each.  Return complaints, and how many could not be decided."""
    complaints, undecided = [], 0
    for key in every:
        history = list(histories.get(key, []))
        history += [Op(o.process, o.call, o.back, "fields", {}, o.result.get(key)) for o in lists]
        try:
            check(history, key=key)
        except Rejected as error:
            complaints.append(str(error))
        except Undecided:
            undecided += 1
    return complaints, undecided


def main() -> int:
    """Race, check, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0, help="longest pause between two calls of a client, seconds")
    parser.add_argument("--durability", default="relaxed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--together", action="store_true", help="check all keys as one, with list as one instant")
    args = parser.parse_args()
    directory = scratch("histories-")
    try:
        kills = race(directory / "store", args)
        histories, lists, failures = read_logs(directory)
        with Store(directory / "store") as store:
            problems = [str(p) for p in store.verify().problems]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    began = time.monotonic()
    complaints, undecided = judge(histories, lists, keys(args.keys))
    complaints = failures + problems + complaints
    if args.together:
        steps, initial = together(keys(args.keys))
        try:
            check([o for h in histories.values() for o in h] + lists, initial=initial, key="all", steps=steps)
        except Rejected as error:
            complaints.append(str(error))
    operations = [o for h in histories.values() for o in h]
    result = {
        "histories": args.keys - undecided,
        "undecided": undecided,
        "operations": len(operations),
        "lists": len(lists),
        "pending": sum(o.pending for o in operations),
        "kills": kills,
        "kinds": dict(Counter(o.kind for o in operations)),
        "refused": sum(isinstance(o.result, str) for o in operations),
        "judged_seconds": round(time.monotonic() - began, 1),
        "complaints": [c[:2000] for c in complaints],
    }
    json.dump(result, sys.stdout)
    print()
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
