"""People at a store in use: they copy it, put backups back, convert files, lose directories, unmount it, signal, fork.

    python -m tests.torture.people clones --seconds 60 --seed 1

Two or more processes count in a few sessions and note, in memory that all share, each call before and after it. After
every attack the same five questions are asked: is nothing lost that was acknowledged, is what get says whole and
possible, does list say the same, is verify clean (after a repair, where the attack was damage), does the next update work.
The last line is the verdict as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardstore import Draft, NestedUpdate, ShardStoreError, Store, StoreBusy
from tests.support import actions, disk, mutate

from .arena import scratch

KEYS = [f"agent:main:{number}" for number in range(8)]
WRITERS = 2
USER = 65_534
PAUSE_S = 0.05  # seconds between two attacks
_SLOT = struct.Struct("=q")


class Outside(Exception):
    """What a soft time limit raises."""


class Counts:
    """For each session and writer: the calls that began, and those that were acknowledged. Shared by forked processes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2 * len(KEYS) * WRITERS * _SLOT.size + 2 * mmap.PAGESIZE)

    def add(self, what: int, key: int, writer: int) -> None:
        """Count one. `what`: 0 it begins, 1 it was acknowledged. Each slot has one writer."""
        place = ((what * len(KEYS) + key) * WRITERS + writer) * _SLOT.size
        _SLOT.pack_into(self._memory, place, _SLOT.unpack_from(self._memory, place)[0] + 1)

    def total(self, what: int) -> list[int]:
        """Return the sums over the writers, by session."""
        rows = [
            _SLOT.unpack_from(self._memory, (what * len(KEYS) * WRITERS + slot) * _SLOT.size)[0]
            for slot in range(len(KEYS) * WRITERS)
        ]
        return [sum(rows[key * WRITERS : (key + 1) * WRITERS]) for key in range(len(KEYS))]


def text_of(number: int) -> str:
    """Return the text that belongs to a count: another one, or another length, is a mixture."""
    return f"{number}:" * (1 + number % 400)


def count(draft: Draft) -> None:
    """Add one, and the text that belongs to it."""
    number = draft.get("n", 0) + 1
    draft["n"], draft["text"] = number, text_of(number)


class Attack:
    """One kind of attack on one store, while writers count."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.place = scratch("people-")
        self.root = self.place / "store"
        self.seconds = args.seconds
        self.chance = random.Random(args.seed)
        self.counts = Counts()
        self.stop = self.place / "stop"
        self.pause = self.place / "pause"
        self.complaints: list[str] = []
        self.done: Counter[str] = Counter()
        self.writers: list[int] = []
        self.floor = [0] * len(KEYS)  # what must be there at least, where a backup was put back

    def run(self, kind: str) -> dict[str, Any]:
        """Play it; return the verdict."""
        prepare, step, damages = KINDS[kind]
        try:
            with contextlib.ExitStack() as stack:
                if prepare is not None:
                    stack.callback(prepare(self))
                self._start(kind)
                try:
                    end = time.monotonic() + self.seconds
                    while time.monotonic() < end:
                        step(self)
                        self.done["attacks"] += 1
                        time.sleep(PAUSE_S)
                finally:
                    self._end()
                self.judge(self.root, self._least(kind), self.counts.total(0), repair=damages)
        finally:
            shutil.rmtree(self.place, ignore_errors=True)
        calls = sum(self.counts.total(0))
        acknowledged = sum(self.counts.total(1))
        if not acknowledged:
            self.complaints.append("no call was acknowledged: nothing was tried")
        return {"kind": kind, "calls": calls, "acknowledged": acknowledged, **self.done, "complaints": self.complaints}

    def _least(self, kind: str) -> list[int]:
        return self.floor if kind == "restores" else self.counts.total(1)

    def _start(self, kind: str) -> None:
        with Store(self.root) as store:  # made by whoever is to own it
            for key in KEYS:
                store.update(key, lambda draft: draft.update(n=0, text=text_of(0)))
            store.list(), store.verify(), store.compact(), store.stats()
        if kind == "root":
            self.place.chmod(0o777)
            subprocess.run(["chown", "-R", f"{USER}:{USER}", str(self.root)], check=True)
        for writer in range(WRITERS):
            self.writers.append(actions.in_child(lambda writer=writer: self._write(kind, writer)))
        self._wait_for("ready")

    def _wait_for(self, what: str) -> None:
        """Wait until each writer says so."""
        deadline = time.monotonic() + 60.0
        while not all((self.place / f"{what}-{writer}").exists() for writer in range(WRITERS)):
            if time.monotonic() > deadline:
                raise AssertionError("a writer hangs")
            time.sleep(0.002)

    def _end(self) -> None:
        self.stop.touch()
        self.pause.unlink(missing_ok=True)
        for writer in self.writers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(writer, signal.SIGCONT)
            try:
                if actions.wait_for(writer, 60.0) != 0:
                    self.complaints.append("a writer failed with what is no error of the store")
            except AssertionError:
                self.complaints.append("a writer hangs")

    # The writers

    def _write(self, kind: str, writer: int) -> None:
        if kind == "root":
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
        chance = random.Random(writer)
        with Store(self.root, create=False, durability="relaxed", lock_timeout=20.0) as store:
            (self.place / f"ready-{writer}").touch()
            if kind == "signals":
                self._interrupt(store, chance)
            while not self.stop.exists():
                if self.pause.exists():
                    (self.place / f"paused-{writer}").touch()
                    time.sleep(0.002)
                    continue
                self._count_one(store, chance.randrange(len(KEYS)), writer)
                if kind == "directories":
                    with contextlib.suppress(ShardStoreError):
                        store.delete(store.create(f"new:{chance.random()}", {"n": 1}).key)
                if kind == "forks" and chance.random() < 0.1:
                    self._fork(store, chance)
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _count_one(self, store: Store, key: int, writer: int) -> None:
        self.counts.add(0, key, writer)
        try:
            store.update(KEYS[key], count)
            self.counts.add(1, key, writer)
        except Outside:
            pass
        except ShardStoreError:
            time.sleep(0.005)  # the store is away, or half there

    def _interrupt(self, store: Store, chance: random.Random) -> None:
        """Have a signal come in every millisecond or so: it calls the store, or raises."""

        def handler(*_: object) -> None:
            if chance.random() < 0.3 and _in_update():
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(5e-4, 3e-3))
                raise Outside
            with contextlib.suppress(NestedUpdate, StoreBusy):
                chance.choice([lambda: store.get(KEYS[0]), lambda: store.list(limit=2), lambda: store.get(KEYS[1])])()
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(5e-4, 3e-3))

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 1e-3)

    def _fork(self, store: Store, chance: random.Random) -> None:
        """Create a child that reads, lists and writes beside its parent."""
        key = f"child:{chance.randrange(4)}"
        child = actions.in_child(lambda: (store.get(KEYS[0]), store.list(limit=3), store.update(key, actions.add_one)))
        if actions.wait_for(child, 30.0) != 0:
            raise AssertionError("a child failed")

    @contextlib.contextmanager
    def quiet(self) -> Any:
        """Have the writers stand between two calls: the tool of a person is not one that locks."""
        for writer in range(WRITERS):
            (self.place / f"paused-{writer}").unlink(missing_ok=True)
        self.pause.touch()
        self._wait_for("paused")
        try:
            yield
        finally:
            self.pause.unlink()

    # The five questions

    def judge(self, root: Path, least: list[int], most: list[int], *, repair: bool = False) -> None:
        """Ask them of a quiet store, in this process, which has no store open; keep what is wrong."""
        with Store(root, create=False, allow_shared=True, lock_timeout=5.0) as store:
            seen = {}
            for number, key in enumerate(KEYS):
                try:
                    session = store[key]
                except (ShardStoreError, KeyError) as error:
                    self.complaints.append(f"{key}: {error!r}")
                    continue
                seen[key] = session.rev
                if not least[number] <= session["n"] <= most[number]:
                    self.complaints.append(f"{key}: {session['n']}, not {least[number]} to {most[number]}")
                if session["text"] != text_of(session["n"]):
                    self.complaints.append(f"{key}: a mixture at {session['n']}")
            if repair:
                store.compact()
                store.verify(repair=True)
            rows = {info.key: info.rev for info in store.list(prefix="agent:main:")}
            if rows != seen:
                self.complaints.append(f"list says {rows}, get {seen}")
            problems = store.verify().problems
            self.complaints += [f"verify: {one.kind} {one.path} {one.detail}" for one in problems[:3]]
            for key in KEYS:
                try:
                    before = store[key]["n"]
                    if store.update(key, count)["n"] != before + 1:
                        self.complaints.append(f"{key}: the next update did not follow")
                except (ShardStoreError, KeyError) as error:
                    self.complaints.append(f"{key}, the next update: {error!r}")
        self.done["judged"] += 1


def _in_update() -> bool:
    """Return whether the code beneath a signal handler is a counting call: nothing else expects an exception."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "_count_one":
            return "store" in frame.f_locals and frame.f_lineno == _UPDATE_LINE
        frame = frame.f_back  # type: ignore[assignment]
    return False


_UPDATE_LINE = Attack._count_one.__code__.co_firstlineno + 3


# What people do. Each is one step, while the writers go on.


def _copy(source: Path, target: Path, how: str) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    command = {
        "cp": "cp -a '{s}/.' '{t}/'",
        "rsync": "rsync -a --checksum --delete '{s}/' '{t}/'",
        "tar": "tar -C '{s}' -cf - . 2>/dev/null | tar -C '{t}' -xf -",
    }[how]
    subprocess.run(command.format(s=source, t=target), shell=True, stderr=subprocess.DEVNULL, check=False)


def _tools() -> list[str]:
    return [how for how in ("cp", "rsync", "tar") if shutil.which(how)]


def clone(attack: Attack) -> None:
    """Copy the store while it is in use: the copy holds what was acknowledged before, and nothing that was never tried.

    A tool that stands still between two pages of a file copies the later one with commits that the earlier one lacks.
    That is damage, which a repair of the copy mends.
    """
    copy = attack.place / "copy"
    least = attack.counts.total(1)
    _copy(attack.root, copy, attack.chance.choice(_tools()))
    with Store(copy, create=False, allow_shared=True) as store:
        torn = [one for one in store.verify().problems if one.kind == "damaged"]
        if torn:
            attack.done["between pages"] += len(torn)
            store.verify(repair=True)
    attack.judge(copy, least, attack.counts.total(0))
    shutil.rmtree(copy)


def put_back(attack: Attack) -> None:
    """Put the same backup back again and again: beside the writers by rename, in place while they stand."""
    backup = attack.place / "backup"
    if not backup.exists():
        with attack.quiet():
            _copy(attack.root, backup, "cp")
            attack.floor = attack.counts.total(1)
    time.sleep(0.05)
    if attack.chance.random() < 0.5:
        shutil.rmtree(backup / "index", ignore_errors=True)
    how = attack.chance.choice(_tools())
    # cp and tar write into the files under their names: whoever writes to one at that moment is overwritten.
    with contextlib.nullcontext() if how == "rsync" and attack.chance.random() < 0.7 else attack.quiet():
        if how == "rsync":
            subprocess.run(["rsync", "-a", "--checksum", f"{backup}/", f"{attack.root}/"], check=False)
        else:
            _copy(backup, attack.root, how)
        time.sleep(2 * disk.CHECK_S)


def convert(attack: Attack) -> None:
    """Turn line ends into CR LF, in some files, wholly or in part."""
    with attack.quiet():
        for path in attack.chance.sample(disk.shards(attack.root), 3):
            data = path.read_bytes()
            whole = attack.chance.random() < 0.7
            path.write_bytes(data.replace(b"\n", b"\r\n") if whole else data.replace(b"\n", b"\r\n", 1))
        time.sleep(2 * disk.CHECK_S)
    if attack.chance.random() < 0.3:
        with Store(attack.root) as store:
            store.verify(repair=True)


def lose_directories(attack: Attack) -> None:
    """Remove every empty directory, as tidying tools do, and what holds no session."""
    subprocess.run(
        ["find", str(attack.root), "-type", "d", "-empty", "-delete"], stderr=subprocess.DEVNULL, check=False
    )
    attack.root.mkdir(exist_ok=True)


def wait_a_while(attack: Attack) -> None:
    """Leave the attack to the writers, and maintain beside them."""
    with Store(attack.root) as store:
        store.compact()
        store.verify()


def stop_and_continue(attack: Attack) -> None:
    """Stop a writer for a moment, wherever it is."""
    victim = attack.chance.choice(attack.writers)
    os.kill(victim, signal.SIGSTOP)
    time.sleep(0.02)
    os.kill(victim, signal.SIGCONT)


def maintain_as_root(attack: Attack) -> None:
    """Run everything that root may be asked to do in a user's store."""
    with Store(attack.root, allow_shared=True) as store:
        attack.chance.choice(
            [store.compact, store.verify, lambda: store.verify(repair=True), store.list, store.stats]
        )()
        store.update("by:root", actions.add_one)
    for directory, _, files in os.walk(attack.root):
        for name in files:
            path = os.path.join(directory, name)
            with contextlib.suppress(FileNotFoundError):
                if os.lstat(path).st_uid != USER and f"{attack.root}/index" not in path:
                    attack.complaints.append(f"{name} belongs to root")


def mount(attack: Attack) -> Callable[[], None]:
    """Have the store on a mount of its own."""
    behind = attack.place / "behind"
    behind.mkdir(mode=0o700)
    attack.root.mkdir(mode=0o700)
    subprocess.run(["mount", "--bind", behind, attack.root], check=True)
    return lambda: subprocess.run(["umount", "-l", attack.root], check=False) and None


def remount(attack: Attack) -> None:
    """Take the mount away under the writers, and bring it back."""
    subprocess.run(["umount", "-l", attack.root], check=True)
    time.sleep(0.05)
    left = list(attack.root.iterdir())
    if left:
        attack.complaints.append(f"made in the empty mount point: {left[:3]}")
    subprocess.run(["mount", "--bind", attack.place / "behind", attack.root], check=True)


Step = Callable[[Attack], None]
KINDS: dict[str, tuple[Callable[[Attack], Callable[[], None]] | None, Step, bool]] = {
    "clones": (None, clone, False),
    "restores": (None, put_back, True),
    "line-endings": (None, convert, True),
    "directories": (None, lose_directories, True),
    "signals": (None, stop_and_continue, False),
    "forks": (None, wait_a_while, False),
    "root": (None, maintain_as_root, False),
    "remounts": (mount, remount, False),
}


def main() -> int:
    """Play one kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--minutes", type=float, help="instead of --seconds")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    mutate.apply_from_environment()
    if args.minutes is not None:
        args.seconds = 60.0 * args.minutes
    print(json.dumps(Attack(args).run(args.kind)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
