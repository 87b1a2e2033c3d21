"""The conditions of a run: what has to be known before any number means something."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.git import git
from bench.peers import SPECS, Spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.plan import Plan

IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


def gather(root: Path, plan: Plan, stores: Iterable[str], filesystems: dict[str, Path]) -> dict[str, Any]:
    """Return everything that is printed first and stored with the rows."""
    specs = [SPECS[name] for name in stores if name in SPECS and not SPECS[name].missing()]
    kind, device, options = filesystem_of(root)
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory_bytes() / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem": f"{kind}{journal_of(kind, device)} ({options})",
        "images": sorted(filesystems),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "commit": commit(),
        "versions": {spec.package: spec.version() for spec in specs if spec.package} | {"orjson": _version("orjson")},
        "stores": {spec.label: _told(spec) for spec in specs},
        "plan": {"rounds": plan.rounds, "seconds": plan.seconds, "window": plan.window, "quick": plan.quick},
    }


def _told(spec: Spec) -> str:
    return f"{spec.level}: {spec.how}" + ("" if spec.atomic else "; nothing excludes between read and write")


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def processor() -> str:
    """Return the processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        if sys.platform == "darwin":
            return subprocess.run(
                ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
            ).stdout.strip()
    return platform.machine()


def memory_bytes() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def filesystem_of(path: Path) -> tuple[str, str, str]:
    """Return (type, device, mount options) of the file system that holds path."""
    table = _mounts()
    real = os.path.realpath(path)
    holding = [row for row in table if real == row[1] or real.startswith(row[1].rstrip("/") + "/")]
    if not holding:
        return ("unknown", "unknown", "")
    device, _, kind, options = max(holding, key=lambda row: len(row[1]))
    return (kind, device, options)


def journal_of(kind: str, device: str) -> str:
    """Return whether an ext4 file system has its journal: without one a sync is about half as dear."""
    if kind != "ext4" or not os.path.isdir("/proc/fs/ext4"):
        return ""
    name = os.path.basename(os.path.realpath(device))
    return " with journal" if os.path.isdir(f"/proc/fs/jbd2/{name}-8") else " without journal"


def _mounts() -> list[tuple[str, str, str, str]]:
    """Return (device, mount point, type, options) of every mount."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        return [(fields[0], fields[1], fields[2], fields[3]) for fields in map(str.split, lines)]
    except OSError:  # macOS: "/dev/disk3s1 on / (apfs, local, journaled)"
        lines = subprocess.run(["mount"], capture_output=True, text=True, check=False).stdout.splitlines()
        split = [line.replace(" on ", " (", 1).rstrip(")").split(" (") for line in lines]
        return [(device, point, options.split(",")[0], options) for device, point, options in split]


def default_directory() -> Path:
    """Return a directory on a real disk for the stores: memory would make every fsync free."""
    candidates = [Path("/var/tmp"), Path.cwd(), Path.home()]
    for candidate in candidates:
        if os.access(candidate, os.W_OK) and filesystem_of(candidate)[0] not in IN_MEMORY:
            return candidate
    return Path.cwd()


def commit() -> str:
    """Return the commit of the sources, with a plus when they were changed since; empty outside a repository."""
    if "BENCH_COMMIT" in os.environ:  # compare runs this benchmark on the library of another commit
        return os.environ["BENCH_COMMIT"]
    here = Path(__file__).resolve().parent
    try:
        changed = git(here, "status", "--porcelain", "--", "../shardstore")
        return git(here, "rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, RuntimeError):
        return ""


def lines(conditions: dict[str, Any]) -> list[str]:
    """Return the conditions as lines a person reads."""
    told = [
        f"machine      {conditions['machine']}, {conditions['cores']} cores, {conditions['memory_gb']} GB",
        f"load         {conditions['load_before']} when it began",
        f"system       {conditions['system']}; {conditions['python']}; SQLite {conditions['sqlite']}",
        f"stores on    {conditions['filesystem']}" + "".join(f"; {name} image" for name in conditions["images"]),
        f"shardstore   {conditions['commit'] or 'no repository'}, {conditions['when']}",
        "versions     " + ", ".join(f"{name} {version}" for name, version in sorted(conditions["versions"].items())),
    ]
    if conditions["filesystem"].startswith(IN_MEMORY):
        told.append(
            "WARNING      the stores are in memory: durable numbers mean nothing here (--dir names another place)"
        )
    width = max((len(label) for label in conditions["stores"]), default=0)
    return told + [f"  {label:{width}}  {how}" for label, how in conditions["stores"].items()]
