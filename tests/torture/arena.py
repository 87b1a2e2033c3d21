"""Interrupt an operation at one chosen system call, then ask the store what is left.

    arena = Arena(directory, OPERATIONS["patch"])
    for call in arena.calls():                       # what the operation does when nobody interrupts it
        arena.kill(Strace(call, "signal=KILL"))      # dies there; the judgement is an empty list, or complaints

Everything happens in forked children of a process that has done its imports and holds no store: a child begins
with warm modules and no state, in a few milliseconds.  REQUIRES: the process has one thread.  So the tests start
`python -m tests.torture.arena` and read what it prints.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import pickle
import pkgutil
import select
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardstore import CommitUncertain, ShardStoreError, Store
from shardstore._files.syncs import THREADS
from tests.support import disk

from .faults import Fault
from .operations import DAMAGED, KEYS, MAIN, Operation, Truth, item, read_truth, sign, signed

PATIENCE = 30.0
"""Seconds that a child may take before it counts as hanging."""
MEMORY = Path("/dev/shm")
_read, _write, _close = os.read, os.write, os.close  # the talk itself must not meet a fault

NOT_OF_FILES = ("shardstore._postgres", "shardstore._aio.trio_loop", "shardstore.otel")  # each a library more

IN_A_GROUP = 3 * THREADS
"""Calls that are struck at once: strace counts those of each thread, and a group of sessions is synced by up to three crews."""
OF_A_GENERATION = 3  # descriptors that a writer keeps: the generation file and its two note files


def brief(text: str) -> str:
    """Keep of a traceback the places in the store and the error."""
    lines = text.strip().splitlines()
    places = [line.strip().split("/")[-1] for line in lines if "/shardstore/" in line]
    return " < ".join([lines[-1], *reversed(places)])[:700] if lines else ""


def scratch(prefix: str = "torture-") -> Path:
    """Return a directory for stores: in memory where the system has such a place."""
    where = MEMORY if os.access(MEMORY, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=prefix, dir=where))


def quicken() -> None:
    """Import now what each child would import, so that it starts fast. Only for a process that opens no store itself."""
    for package in ("shardstore", "shardstore_cli"):  # the commands are imported by the import alone
        try:
            top = importlib.import_module(package)
        except ImportError:
            continue
        for module in pkgutil.walk_packages(top.__path__, f"{package}."):
            if not module.name.endswith("__main__") and not module.name.startswith(NOT_OF_FILES):
                importlib.import_module(module.name)
    gc.freeze()  # else each child copies the pages of all these modules when it collects


class Child:
    """A fork that runs a function and sends what it says; `say` and `hear` are its two ends of the talk."""

    def __init__(self, body: Callable[[Child], Any]) -> None:
        """Fork and run `body(self)` in the child."""
        up, down = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(up[1])
            os.close(down[0])
            self._in, self._out = up[0], down[1]
            return
        status = 0
        try:
            os.close(up[0])
            os.close(down[1])
            self._in, self._out = down[0], up[1]
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            self.say("result", body(self))
        except BaseException:
            self.say("failed", brief(traceback.format_exc()))
            status = 1
        finally:
            os._exit(status)

    def say(self, kind: str, value: Any = None) -> None:
        """Send a message to the other side."""
        data = pickle.dumps((kind, value))
        _write(self._out, struct.pack("<I", len(data)) + data)

    def await_turn(self) -> None:
        """Wait in the child for one byte from the parent, without a call that is traced until it has come."""
        select.select([self._in], [], [])

    def consume_turn(self) -> None:
        """Take the byte that await_turn saw."""
        _read(self._in, 1)

    def go(self) -> None:
        """Let the child pass its await_turn."""
        _write(self._out, b"g")

    def hear(self) -> tuple[str, Any]:
        """Return the child's next message: ("dead", None) when it ended, ("hangs", None) when none came."""
        if not select.select([self._in], [], [], PATIENCE)[0]:
            return "hangs", None
        head = self._read(4)
        if len(head) < 4:
            return "dead", None
        body = self._read(struct.unpack("<I", head)[0])
        return pickle.loads(body)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := _read(self._in, size - len(data))):
            data += more
        return data

    def end(self) -> int:
        """Kill the child if it still runs; return its wait status."""
        os.kill(self.pid, signal.SIGKILL)
        return self.reap()

    def reap(self) -> int:
        """Wait for the child's end."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self._in)
        os.close(self._out)
        return status


def in_child(body: Callable[[], Any]) -> Any:
    """Run a function in a fork and return its result; raise RuntimeError with the traceback when it fails."""
    child = Child(lambda _: body())
    kind, value = child.hear()
    child.end()
    if kind != "result":
        raise RuntimeError(f"{kind}: {value}")
    return value


@dataclass
class Faced:
    """What a process that met a fault and lives on has to tell."""

    outcome: str  # "ok", "uncertain", "error" or "untyped"
    error: str = ""
    found: Truth | None = None
    works_again: str = ""
    descriptors: int = 0
    after_close: int = 0


class Arena:
    """One operation, its template, and the copies it is tried on."""

    def __init__(self, directory: Path, op: Operation) -> None:
        """Create the template and measure the truth before and after."""
        self.op, self.directory = op, directory
        self.template, self.work = directory / "template", directory / "work"
        self.template.mkdir(parents=True)
        in_child(lambda: op.prepare(self.template / "store"))
        self.before = self._truth(self.template) if op.name != "open" else dict.fromkeys(KEYS)
        self.root = self.work / "store"
        self.fresh()
        in_child(lambda: self._clean_run())
        self.after = self._truth(self.work)
        assert op.proof(self.before, self.after), (op.name, self.before, self.after)
        self.tries = 0
        self.last: Faced | None = None
        self.control: Faced | None = None

    def _truth(self, place: Path) -> Truth:
        """Read all sessions of a copy, so that reading cannot change the template."""
        copy = self.directory / "looked-at"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(place, copy, symlinks=True)

        def read() -> Truth:
            with Store(copy / "store", create=False) as store:
                return read_truth(store)

        return in_child(read)

    def fresh(self) -> None:
        """Put the template back."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.template, self.work, symlinks=True)

    def _opened(self) -> Store | None:
        if self.op.cold:
            return None
        store = Store(self.root, durability=self.op.durability, lock_timeout=5.0)
        if self.op.warm is not None:
            self.op.warm(store)
        return store

    def _clean_run(self) -> None:
        store = self._opened()
        self.op.run(store, self.root)  # type: ignore[arg-type]
        if store is not None:
            store.close()

    # -- killed ------------------------------------------------------------------------------------------

    def kill(self, fault: Fault) -> tuple[bool, list[str]]:
        """Run into a fault that kills; return whether it struck, and every complaint about what it left."""
        self.fresh()
        self.tries += 1
        child = Child(lambda me: self._until_death(me, fault))
        kind, value = child.hear()
        if kind != "ready":
            child.end()
            return True, [f"did not begin: {kind} {value}"]
        before = {**self.before, **value}
        with fault.attached(child.pid):
            child.go()
            said = [child.hear()]
            if said[0][0] == "acknowledged":
                said.append(child.hear())
            status = child.reap() if said[-1][0] == "dead" else child.end()
        struck = os.WIFSIGNALED(status) and said[-1][0] == "dead"
        if said[-1][0] in ("hangs", "failed"):
            return struck, [f"{said[-1]}"]
        acknowledged = said[0][0] == "acknowledged"
        return struck, self.judge(acknowledged=acknowledged, before=before)

    def _until_death(self, me: Child, fault: Fault) -> None:
        store = self._opened()
        me.say("ready", self._warmed(store))
        me.await_turn()
        with fault.armed():
            self.op.run(store, self.root)  # type: ignore[arg-type]
            me.say("acknowledged")

    def _warmed(self, store: Store | None) -> Truth:
        """Return what the warm-up changed of the truth before."""
        if store is None or self.op.warm is None or self.op.single is None:
            return {}
        session = store.get(self.op.single)
        return {self.op.single: None if session is None else session.data}

    # -- failed ------------------------------------------------------------------------------------------

    def fail(self, fault: Fault) -> tuple[str, list[str]]:
        """Run into a fault that the process survives; return the outcome, and every complaint."""
        self.fresh()
        self.tries += 1
        child = Child(lambda me: self._through_fault(me, fault))
        kind, value = child.hear()
        if kind != "ready":
            child.end()
            return "none", [f"did not begin: {kind} {value}"]
        before = {**self.before, **value}
        with fault.attached(child.pid):
            child.go()
            kind, faced = child.hear()
            if kind != "faced":
                child.end()
                return kind, [f"{kind}: {faced}"]
            self.last = faced
            complaints = self._about(faced, fault, before)
            # The process that met the fault still lives: a lock it kept would be felt now.
            complaints += self.judge(acknowledged=faced.outcome == "ok", before=before, changed=True)
            child.go()
            kind, left = child.hear()
            child.end()
        if kind != "result":
            complaints.append(f"at close: {kind} {left}")
        elif left > fault.leaks * (1 if self.op.single else IN_A_GROUP):
            complaints.append(f"{left} descriptors are left after close")
        return faced.outcome, complaints

    def _about(self, faced: Faced, fault: Fault, before: Truth) -> list[str]:
        """Judge what the process that met the fault says of itself."""
        complaints = []
        if faced.outcome == "untyped":
            complaints.append(f"not a ShardStoreError: {faced.error}")
        if faced.works_again:
            complaints.append(f"the same process does not work again: {faced.works_again}")
        if faced.found is not None:
            complaints += self._compare(faced.found, faced.outcome == "ok", before, "the process itself")
            if faced.outcome == "error" and self.op.single and faced.found != before:
                complaints.append(f"a plain error, and yet something changed: {faced.error}")
        # Another way through the operation may leave other files open: a generation's, with its notes, or more of many
        # sessions. Only what grows beyond that is a leak here; that close leaves nothing at all is asked in any case.
        spare = fault.leaks + (OF_A_GENERATION if self.op.single else len(KEYS))
        if self.control is not None and faced.descriptors > self.control.descriptors + spare:
            complaints.append(f"{faced.descriptors} descriptors open, {self.control.descriptors} without the fault")
        return complaints

    def _through_fault(self, me: Child, fault: Fault) -> int:
        # In memory, not in a file: a message about a file that may not grow must not meet the same limit.
        printed = io.BytesIO()
        sys.stdout = sys.stderr = io.TextIOWrapper(printed, "utf-8", errors="replace", write_through=True)
        lowest = descriptors()
        store = self._opened()
        me.say("ready", self._warmed(store))
        me.await_turn()
        with fault.armed():
            faced = self._attempt(store)
        me.consume_turn()
        if b"Traceback" in printed.getvalue():
            faced.outcome, faced.error = "untyped", brief(printed.getvalue().decode())
        if store is None and self.op.name != "open":
            try:
                store = Store(self.root)
            except ShardStoreError:  # the operation made fewer calls than in the control: the fault struck only here
                store = Store(self.root)
        if store is not None:
            self._works_again(store, faced)
            if (
                faced.works_again and fault.late
            ):  # it struck only now: the operation made fewer calls than in the control
                faced.works_again, found = "", faced.found
                self._works_again(store, faced)
                faced.found = found  # not what the step that failed has left
        me.say("faced", faced)
        me.await_turn()
        me.consume_turn()
        if store is not None:
            store.close()
        gc.collect()  # an exception that was caught may hold on to a file in a cycle: late, not for ever
        return descriptors() - lowest

    def _attempt(self, store: Store | None) -> Faced:
        """Run the operation and name how it ended."""
        try:
            self.op.run(store, self.root)  # type: ignore[arg-type]
        except CommitUncertain as error:
            return Faced("uncertain", repr(error))
        except ShardStoreError as error:
            return Faced("error", repr(error))
        except SystemExit as error:
            return Faced("error" if error.code else "ok", repr(error))
        except BaseException:
            return Faced("untyped", brief(traceback.format_exc()))
        return Faced("ok")

    def _works_again(self, store: Store, faced: Faced) -> None:
        """Use the store that met the fault as if nothing had been."""
        try:
            faced.found = read_truth(store)
            for key, data in faced.found.items():
                if data not in (None, DAMAGED):
                    session = store.patch(key, {"went on": 1})
                    assert session.data == {**data, "went on": 1}, (key, session.data)
                    store.patch(key, {}, unset=["went on"])
            keys = {info.key for info in store.list()}
            assert (
                keys == {k for k, v in read_truth(store).items() if v not in (None, DAMAGED)}
                or DAMAGED in faced.found.values()
            ), keys
            faced.descriptors = descriptors()
        except BaseException:
            faced.works_again = brief(traceback.format_exc())

    # -- judged ------------------------------------------------------------------------------------------

    def judge(self, *, acknowledged: bool, before: Truth, changed: bool = False) -> list[str]:
        """Look at the store from a new process; return complaints."""
        try:
            return in_child(lambda: self._look(acknowledged, before, changed))
        except RuntimeError as error:
            return [f"the next process fails: {error}"]

    def _look(self, acknowledged: bool, before: Truth, changed: bool) -> list[str]:
        with Store(self.root, lock_timeout=3.0) as store:
            if DAMAGED in before.values() and DAMAGED in read_truth(store).values():
                if acknowledged:
                    return ["acknowledged as repaired, and still damaged"]
                store.verify(repair=True)
                acknowledged = True
            found = read_truth(store)
            complaints = self._compare(found, acknowledged, before, "another process", looser=changed)
            complaints += listed(store, found, "first")
            complaints += [f"verify: {p}" for p in verified(store)]
            complaints += go_on(store, found)
            found = read_truth(store)
            for key, data in found.items():
                session = store.update(key, lambda d: d.update(next=1))
                if session is None or session.data != {**(data or {}), "next": 1}:
                    complaints.append(f"the next update of {key} gives {session}")
            complaints += listed(store, {k: {**(v or {}), "next": 1} for k, v in found.items()}, "after more updates")
            if self.op.name == "compact":
                complaints += self._archive_holds(store, found, before)
        disk.check(self.root)
        return complaints

    def _compare(self, found: Truth, acknowledged: bool, before: Truth, who: str, *, looser: bool = False) -> list[str]:
        """Hold what is found against the two truths."""
        complaints = [] if self.op.invariant(found) else [f"{who} finds neither of the two: {str(found)[:600]}"]
        for key in KEYS:
            allowed = [self.after.get(key)] if acknowledged else [before.get(key), self.after.get(key)]
            if found[key] not in allowed:
                seen = [_difference(one, found[key]) for one in allowed]
                complaints.append(f"{who} finds {key} otherwise than allowed: {' or '.join(seen)}")
        return complaints

    def _archive_holds(self, store: Store, found: Truth, before: Truth) -> list[str]:
        """Whatever compact removed must come back, as it was."""
        complaints = []
        for key, data in before.items():
            if data is not None and found[key] is None:
                store.delete(key)
                restored = store.archive.restore(key)
                if restored is None or restored.data not in (data, {"next": 1}):
                    complaints.append(f"{key} was removed and the archive gives {restored}")
        return complaints


def _difference(allowed: Any, found: Any) -> str:
    """Name the members in which two states of a session differ; the states where one is no entry."""
    if not isinstance(allowed, dict) or not isinstance(found, dict):
        return f"{str(allowed)[:200]} is {str(found)[:200]}"
    names = [name for name in allowed.keys() | found.keys() if allowed.get(name) != found.get(name)]
    return ", ".join(
        f"{name}: {str(allowed.get(name))[:100]} is {str(found.get(name))[:100]}" for name in sorted(names)
    )


def go_on(store: Store, found: Truth) -> list[str]:
    """Add to every log until it settles once more; finish a rename that was interrupted between its two halves."""
    complaints = []
    main, new = found[MAIN], found["new"]
    if main is not None and new is not None and store[MAIN].version == store["new"].version:
        moved = store.rename(MAIN, "new")
        if store.exists(MAIN) or signed(moved) != main:
            complaints.append(f"repeating the rename gives {signed(moved)}")
    for key in (MAIN, "new"):
        session = store.get(key)
        if session is not None and session.log:
            kept = session.log[:]
            for number in range(500, 507):
                session = store.append(key, [item(number)], sign, ids=[f"id{number}"])
            if session.log[:] != [*kept, *[item(number) for number in range(500, 507)]]:
                complaints.append(f"after more appends the log of {key} has {len(session.log)} items, not those added")
    return complaints


def verified(store: Store) -> list[Any]:
    """Return the problems that verify finds; torn commits kept aside and temps of the dead are notes, not problems."""
    return list(store.verify().problems)


def listed(store: Store, truth: Truth, when: str) -> list[str]:
    """Compare list with the sessions themselves."""
    rows = {info.key: (info.rev, info.version) for info in store.list()}
    wanted = {}
    for key, data in truth.items():
        if data not in (None, DAMAGED):
            session = store[key]
            wanted[key] = (session.rev, session.version)
    return [] if rows == wanted else [f"{when} list {rows}, truth {wanted}"]


def descriptors() -> int:
    """Count this process's open descriptors."""
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))
