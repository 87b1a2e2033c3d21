"""Cut the power under a real file system: a workload on a logging disk (logdisk.py), then every image it may leave.

    python -m tests.torture.disk_outage ext4 --workload life --seconds 60

What the file system promises, its journal recovery and its bugs are all in it.  Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from shardstore import Store
from tests.support import settling

from . import logdisk
from .arena import Child, in_child, quicken, scratch, verified
from .operations import Truth
from .outage import MUTANTS, WORKLOADS, Outage, after_a_restart, mutate
from .powerloss import CrashState


class DiskOutage(Outage):
    """One workload on one file system."""

    def __init__(self, directory: Path, kind: str, workload: str, durability: str, mutant: str | None) -> None:
        """Create the file system, prepare the store on it, and run the workload on the logging disk."""
        self.workload, self.durability, self.mutant, self.kind = WORKLOADS[workload], durability, mutant, kind
        self.image, log = directory / "image", directory / "log"
        self.grave, self.count = directory / "grave", 0
        self.root = directory / "live" / "home" / "store"
        if self.workload.settle:
            settling.settle_at(self.workload.settle)  # in every child too
        logdisk.make_image(kind, self.image)
        with logdisk.mounted(kind, self.image, directory / "live"):
            (directory / "live" / "home").mkdir()
            in_child(lambda: self.workload.prepare(self.root))
            os.sync()
        self.base_image = logdisk.BaseImage(self.image)
        with logdisk.logged(self.image, log) as place, logdisk.mounted(kind, place / "disk", directory / "live"):
            self.truths = self._on_disk(place / "marks")
        self.log = logdisk.read_log(log)

    def _on_disk(self, marks: Path) -> list[Truth]:
        def run(me: Child) -> list[Truth]:
            mutate(self.mutant)
            out = os.open(marks, os.O_WRONLY)
            truths: list[Truth] = []
            self._work(lambda kind, number: os.write(out, f"{kind} {number}\n".encode()), truths)
            os.close(out)
            return truths

        child = Child(run)
        kind, truths = child.hear()
        child.reap()
        if kind != "result":
            raise RuntimeError(f"{kind}: {truths}")
        return truths

    def judge_image(self, crash: logdisk.CrashImage) -> list[str]:
        """Mount an image and open the store on it in a new process."""
        self.marks = crash.marks
        begun = max((int(m.split()[-1]) for m in crash.marks if m.startswith("begin")), default=0)
        acknowledged = max((int(m.split()[-1]) for m in crash.marks if m.startswith("ack")), default=0)
        state = CrashState({}, 0, begun, acknowledged, crash.why)
        # A file of its own: a loop device that is not quite detached yet would write into the next image.
        image = self.image.with_name(f"image-{self.count}")
        self.count += 1
        self.base_image.write(image, crash.writes)
        try:
            with logdisk.mounted(self.kind, image, self.grave):
                complaints = in_child(lambda: self._look(state))
        except (RuntimeError, OSError) as error:
            complaints = [str(error)]
        image.unlink()
        return [f"{crash.why}, step {begun}, acknowledged {acknowledged}: {c}" for c in complaints]


BUSY = "busy"
WRITERS, TURNS = 4, 25


class BusyOutage(DiskOutage):
    """Four processes, each on a session of its own and all on a common one: syncs overlap, sessions grow and are rewritten."""

    def __init__(self, directory: Path, kind: str, durability: str, mutant: str | None) -> None:
        """Prepare and run."""
        super().__init__(directory, kind, "life", durability, mutant)

    def _on_disk(self, marks: Path) -> list[Truth]:
        def write(number: int) -> None:
            mutate(self.mutant)
            out = os.open(marks, os.O_WRONLY)
            with Store(self.root, durability=self.durability) as store:
                for turn in range(1, TURNS + 1):
                    for key in (f"own{number}", "common"):
                        os.write(out, f"begin {key} {turn}\n".encode())
                        store.update(
                            key, lambda d: d.update(n=d.get("n", 0) + 1, filler="f" * 1500 * (d.get("n", 0) % 5))
                        )
                        os.write(out, f"ack {key} {turn}\n".encode())

        children = [Child(lambda _, n=n: write(n)) for n in range(WRITERS)]
        for child in children:
            said = child.hear()
            child.reap()
            if said[0] != "result":
                raise RuntimeError(str(said))
        return []

    def _look(self, state: CrashState) -> list[str]:
        after_a_restart()
        begun, acknowledged = (Counter(m.split()[1] for m in self.marks if m.startswith(w)) for w in ("begin", "ack"))
        complaints = []
        with Store(self.grave / "home" / "store") as store:
            for key in ("common", *(f"own{n}" for n in range(WRITERS))):
                session = store.get(key)
                n = 0 if session is None else session["n"]
                if session is not None and session["filler"] != "f" * 1500 * ((n - 1) % 5):
                    complaints.append(f"{key} is a mixture")
                if not (acknowledged[key] if self.durability == "commit" else 0) <= n <= begun[key]:
                    complaints.append(f"{key} is at {n}, begun {begun[key]}, acknowledged {acknowledged[key]}")
                if store.update(key, lambda d: d.update(n=d.get("n", 0) + 1))["n"] != n + 1:
                    complaints.append(f"{key} does not go on")
            rows = {i.key: i.rev for i in store.list() if i.key == "common" or i.key.startswith("own")}
            if rows != {key: store[key].rev for key in rows} or len(rows) != WRITERS + 1:
                complaints.append(f"list gives {rows}")
            complaints += [f"verify: {p}" for p in verified(store)]
        return complaints


def main() -> int:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=sorted(logdisk.FILE_SYSTEMS))
    parser.add_argument("--workload", default="life", choices=[*sorted(WORKLOADS), BUSY])
    parser.add_argument("--durability", default="commit")
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    parser.add_argument("--enough", type=int, default=20)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9)
    args = parser.parse_args()
    quicken()
    began = time.monotonic()
    directory = scratch("disk-")
    tried = skipped = 0
    complaints: list[str] = []
    counts: dict[str, Any] = {}
    try:
        if args.workload == BUSY:
            outage: DiskOutage = BusyOutage(directory, args.kind, args.durability, args.mutant)
        else:
            outage = DiskOutage(directory, args.kind, args.workload, args.durability, args.mutant)
        counts = {k: sum(e.kind == k for e in outage.log) for k in "WFM"}
        for n, crash in enumerate(logdisk.crash_images(outage.log)):
            if n % args.every or len(complaints) >= args.enough or time.monotonic() - began > args.seconds:
                skipped += 1
                continue
            tried += 1
            complaints += outage.judge_image(crash)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    result = {
        "file_system": args.kind,
        "workload": args.workload,
        "durability": args.durability,
        "mutant": args.mutant,
        "writes": counts.get("W"),
        "flushes": counts.get("F"),
        "states": tried,
        "skipped": skipped,
        "complaints": complaints,
        "seconds": round(time.monotonic() - began, 1),
    }
    json.dump(result, sys.stdout)
    print()
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
