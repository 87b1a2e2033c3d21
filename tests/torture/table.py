"""Make the tables of docs/reliability.md from the counts of a run.

python -m tests.torture.table build/torture.json
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODES = {
    "killed-inside": "killed around each call, and in the middle of writes",
    "killed": "killed by the kernel at each system call",
    "failed-inside": "each call failed once, writes cut short",
    "failed": "each system call failed once by the kernel",
    "short": "files not allowed past a length (RLIMIT_FSIZE)",
}


def rows(path: Path) -> list[dict[str, Any]]:
    """Read the report; of a part that ran several times the last one counts."""
    last = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        last[row["test"], row["part"], str(row.get("args"))] = row
    return list(last.values())


def interruptions(found: list[dict[str, Any]]) -> Iterator[str]:
    """Give the table of killed and failed calls: one row for a mode."""
    yield "| fault | operations | tries | what came of it | calls left out because they look like others | complaints |"
    yield "|---|---|---|---|---|---|"
    for mode, what in MODES.items():
        mine = [r for r in found if r["part"] == "exhaust" and r["mode"] == mode]
        outcomes: Counter[str] = Counter()
        for r in mine:
            outcomes.update(r["outcomes"])
        came = ", ".join(f"{n:,} {name}" for name, n in outcomes.most_common())
        tries, alike = sum(r["tries"] for r in mine), sum(r["skipped_as_alike"] + r["skipped"] for r in mine)
        yield f"| {what} | {len({r['operation'] for r in mine})} | {tries:,} | {came} | {alike:,} | {sum(r['complaints'] for r in mine)} |"


def outages(found: list[dict[str, Any]]) -> Iterator[str]:
    """Give the table of power cuts: one row for a disk and a durability."""
    yield "| disk | durability | workloads | states opened | states not tried | complaints |"
    yield "|---|---|---|---|---|---|"
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for r in found:
        if r["part"] in ("outage", "disk_outage") and not r["mutant"]:
            disk = r.get("file_system") or f"model, recorded from {r['recorded']}"
            groups[disk, r["durability"]].append(r)
    for (disk, durability), mine in sorted(groups.items()):
        states, skipped = sum(r["states"] for r in mine), sum(r["skipped"] for r in mine)
        names = ", ".join(sorted({r["workload"] for r in mine}))
        yield f"| {disk} | {durability} | {names} | {states:,} | {skipped:,} | {sum(r['complaints'] for r in mine)} |"
    for r in found:
        if r.get("mutant"):
            yield f"| {r.get('file_system', 'model')}, mutant {r['mutant']} | {r['durability']} | {r['workload']} | {r['states']} | until caught | caught |"


def races(found: list[dict[str, Any]]) -> Iterator[str]:
    """Give the sums of the races and the soak."""
    mine = [r for r in found if r["part"] == "histories"]
    if mine:
        total = {
            k: sum(r[k] for r in mine) for k in ("histories", "operations", "lists", "pending", "kills", "complaints")
        }
        yield "; ".join(f"{n:,} {name}" for name, n in total.items())
    for r in found:
        if r["part"] in ("soak", "index-fuzz", "full-disk", "no-inode", "file-system"):
            yield json.dumps({k: v for k, v in r.items() if k not in ("args", "part")})


def main() -> None:
    """Print everything."""
    found = rows(Path(sys.argv[1]))
    for part in (interruptions, outages, races):
        print("\n".join(part(found)), end="\n\n")


if __name__ == "__main__":
    main()
