"""Make the tables of docs/internals/reliability.md from the report of a run.

python -m tests.torture.table build/torture.json                               prints them
python -m tests.torture.table build/torture.json --page docs/internals/reliability.md    puts them between the page's marks
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
BEGIN, END = "<!-- counts: made by tests/torture/table.py, not by hand -->", "<!-- counts: end -->"
MODES = {
    "killed-inside": "killed around each call, and in the middle of writes",
    "killed": "killed by the kernel at each system call",
    "failed-inside": "each call failed once, with the errors it gives in life; writes cut short",
    "failed": "each system call failed once by the kernel, with all eight errors",
    "short": "files not allowed past a length (RLIMIT_FSIZE)",
}


def read(path: Path) -> Rows:
    """Read a report."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(found: Rows) -> Iterator[str]:
    """Return what ran where, and how it ended."""
    head = next((r for r in found if r["part"] == "run"), None)
    over = next((r for r in found if r["part"] == "over"), None)
    ends = Counter(r["outcome"] for r in found if r["part"] == "end")
    if head is None:
        return
    took = f"{over['seconds'] / 60:.1f} minutes" if over else "not finished"
    yield (
        f"Commit {head['commit']}, {head['date']}, {head['system']}, Python {head['python']}, {head['cores']} cores, {took}: "
        + ", ".join(f"{ends[k]} tests {k}" for k in ("passed", "failed", "skipped"))
        + ("." if head["whole"] else ". NOT A WHOLE RUN.")
    )


def interruptions(found: Rows) -> Iterator[str]:
    """Yield the table of killed and failed calls: one row for a mode."""
    yield "| fault | operations | tries | what came of it | left out: alike / no time | complaints |"
    yield "|---|---|---|---|---|---|"
    for mode, what in MODES.items():
        mine = [r for r in found if r["part"] == "exhaust" and r["mode"] == mode]
        outcomes: Counter[str] = Counter()
        for r in mine:
            outcomes.update(r["outcomes"])
        came = ", ".join(f"{n:,} {name}" for name, n in outcomes.most_common()) or "nothing ran"
        tries, alike = (sum(r[k] for r in mine) for k in ("tries", "skipped_as_alike"))
        skipped, complaints = (sum(r[k] for r in mine) for k in ("skipped", "complaints"))
        names = len({r["operation"] for r in mine})
        yield f"| {what} | {names} | {tries:,} | {came} | {alike:,} / {skipped:,} | {complaints} |"


def outages(found: Rows) -> Iterator[str]:
    """Yield the table of power cuts: one row for a disk and a durability, one for a mutant."""
    yield "| disk | durability | workloads | states opened | left out: no time | complaints |"
    yield "|---|---|---|---|---|---|"
    groups: dict[tuple[str, str], Rows] = defaultdict(list)
    for r in found:
        if r["part"] in ("outage", "disk_outage") and not r["mutant"]:
            groups[r.get("file_system") or f"model, recorded from {r['recorded']}", r["durability"]].append(r)
    for (disk, durability), mine in sorted(groups.items()):
        states, skipped, complaints = (sum(r[k] for r in mine) for k in ("states", "skipped", "complaints"))
        names = ", ".join(sorted({r["workload"] for r in mine}))
        yield f"| {disk} | {durability} | {names} | {states:,} | {skipped:,} | {complaints} |"
    for r in found:
        if r.get("mutant"):
            caught = "caught" if r["complaints"] else "NOT CAUGHT"
            disk = r.get("file_system", "model")
            yield f"| {disk}, a store with {r['mutant']} | {r['durability']} | {r['workload']} | {r['states']} | | {caught} |"


def races(found: Rows) -> Iterator[str]:
    """Yield the sums of the races, and each part of the soak."""
    mine = [r for r in found if r["part"] == "histories"]
    names = ("histories", "undecided", "operations", "lists", "pending", "kills", "complaints")
    yield "- Races: " + ", ".join(f"{sum(r[k] for r in mine):,} {k}" for k in names)
    for r in found:
        if r["part"] == "soak":
            kept = (
                "increments",
                "stops",
                "sessions",
                "turns",
                "fair_share",
                "longest",
                "over_three_shares",
                "complaints",
            )
            yield f"- Soak, {r['kind']}: " + ", ".join(f"{k.replace('_', ' ')} {r[k]:,}" for k in kept if k in r)
    for kind in sorted({r["kind"] for r in found if r["part"] == "people"}):
        mine = [r for r in found if r["part"] == "people" and r["kind"] == kind]
        names = ("attacks", "acknowledged", "judged", "complaints")
        yield f"- People, {kind}: " + ", ".join(f"{sum(r[k] for r in mine):,} {k}" for k in names)
    kinds = sorted({r["kind"] for r in found if r["part"] == "file-system"})
    yield f"- File systems with keys that differ in case and normalisation: {', '.join(kinds) or 'none'}"
    for part in ("full-disk", "no-inode"):
        yield f"- {part}: {sum(r['part'] == part for r in found)} runs passed"
    yield f"- Index files spoilt: {sum(r['spoilt'] for r in found if r['part'] == 'index-fuzz'):,}"


def ends(found: Rows) -> Iterator[str]:
    """Yield the table of parts: tests, their end, their time; then what failed and what was skipped, and why."""
    yield "| part | passed | failed | skipped | seconds |"
    yield "|---|---|---|---|---|"
    groups: dict[str, Rows] = defaultdict(list)
    for r in found:
        if r["part"] == "end":
            groups[r["node"].partition("::")[0].rpartition("/")[2].removesuffix(".py")].append(r)
    for name, mine in sorted(groups.items()):
        outcomes = Counter(r["outcome"] for r in mine)
        counts = " | ".join(str(outcomes[k]) for k in ("passed", "failed", "skipped"))
        yield f"| {name} | {counts} | {sum(r['seconds'] for r in mine):,.0f} |"
    yield ""
    for r in found:
        if r["part"] == "end" and r["outcome"] == "failed":
            yield f"- FAILED: {r['node'].rpartition('::')[2]}"
    skipped: dict[str, list[str]] = defaultdict(list)
    for r in found:
        if r["part"] == "end" and r["outcome"] == "skipped":
            skipped[placeless(r.get("reason", "no reason given"))].append(r["node"].rpartition("::")[2])
    for reason, names in sorted(skipped.items()):
        yield f"- Skipped, {reason}: {len(names)} tests ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
    if not skipped:
        yield "- Nothing was skipped."


def placeless(reason: str) -> str:
    """Take the paths of one machine out of a reason."""
    return re.sub(r"/(?:tmp|dev/shm|root|home|var)/\S*", "...", reason)


def tables(path: Path) -> str:
    """Return everything as Markdown."""
    found = read(path)
    return "\n\n".join("\n".join(part(found)) for part in (run, interruptions, outages, races, ends))


def put(text: str, page: Path) -> None:
    """Put the tables between the marks of a page.  Raises ValueError where the marks are not."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place between {BEGIN!r} and {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> None:
    """Print, or write into the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=Path)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    text = tables(args.report)
    if args.page is None:
        print(text)
    else:
        put(text, args.page)


if __name__ == "__main__":
    main()
