"""Everything at once, for a while: nothing is lost, nobody starves, nothing grows.

Processes, threads and tasks of event loops; forks while locks are held; SIGSTOP and SIGCONT; clocks that jump by years;
the same pids in two pid namespaces; 10,000 sessions with 64 descriptors; file systems that fold case.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import Store

from . import logdisk
from .harness import REPOSITORY, environment, exhaustive, linux_only, needs_root, report, sampled, tool

FAKETIME = next(
    (
        p
        for p in (
            os.environ.get("SHARDSTORE_FAKETIME", ""),
            *map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")),
        )
        if p and os.path.exists(p)
    ),
    None,
)


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory."""
    path = Path(tempfile.mkdtemp(prefix="soak-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@sampled
def test_everything_at_once_for_a_moment() -> None:
    """Three processes with five threads each, forking, stopped and continued, one with a clock that jumps."""
    assert tool("soak", "mixed", "--seconds", "3", "--processes", "3")["increments"] > 50


@sampled
def test_nobody_starves_for_a_moment() -> None:
    """Four processes of two threads at one session: nobody waits longer than three rounds."""
    tool("soak", "fair", "--seconds", "2")


@sampled
def test_more_sessions_than_descriptors() -> None:
    """600 sessions from four threads with 64 descriptors."""
    tool("soak", "many", "--sessions", "600")


@exhaustive
@pytest.mark.parametrize("seed", [1, 2])
def test_everything_at_once(seed: int) -> None:
    """The same for 45 seconds; memory and descriptors are as flat at the end as in the middle."""
    assert tool("soak", "mixed", "--seconds", "45", "--processes", "4", "--seed", str(seed))["stops"] > 100


@exhaustive
@pytest.mark.parametrize(("processes", "threads"), [(8, 1), (4, 4), (1, 16)])
def test_nobody_starves(processes: int, threads: int) -> None:
    """Eight processes; four of four threads; sixteen threads: turns are taken in order."""
    tool("soak", "fair", "--seconds", "8", "--processes", str(processes), "--threads", str(threads))


@exhaustive
def test_ten_thousand_sessions_with_64_descriptors() -> None:
    """The limit of the issue."""
    assert tool("soak", "many", "--sessions", "10000")["sessions"] == 10_000


def incrementers(root: Path, prefix: list[str], count: int = 3, times: int = 200, **env: str) -> list[int]:
    """Run several counters at once behind a command; return their pids as they see them."""
    command = [*prefix, sys.executable, "-m", "tests.torture.soak", "increments", str(root), "--times", str(times)]
    running = [
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**environment(), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    pids = []
    for process in running:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-2000:]
        pids.append(json.loads(out)["pid"])
    with Store(root) as store:
        assert store["common"]["n"] == count * times
        assert store.verify().ok
    return pids


@linux_only
def test_the_same_pid_twice(place: Path) -> None:
    """Processes with one pid, each in a pid namespace of its own, exclude each other all the same."""
    unshare = ["unshare", "--pid", "--fork", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("a pid namespace is not permitted here (unshare --pid)")
    pids = incrementers(place / "store", unshare)
    assert len(set(pids)) == 1, pids


@pytest.mark.skipif(
    FAKETIME is None, reason="libfaketime is not installed; one process of the soak jumps its own clock instead"
)
def test_clocks_that_disagree(place: Path) -> None:
    """Processes whose clock is years off, or runs a thousand times too fast, count together with one that is right."""
    assert FAKETIME is not None
    root = place / "store"
    total = 0
    for offset in ("-3y", "+5y", "+0 x1000"):
        incrementers_of(root, LD_PRELOAD=FAKETIME, FAKETIME=offset)
        incrementers_of(root)
        total += 400
    with Store(root) as store:
        assert store["common"]["n"] == total
        times = [s.updated_at for s in store.history("common")]
        assert times == sorted(times)
        assert store.verify().ok


def incrementers_of(root: Path, **env: str) -> None:
    """Run one counter."""
    command = [sys.executable, "-m", "tests.torture.soak", "increments", str(root), "--times", "200"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**environment(), **env}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


ODD_KEYS = [
    "A",
    "a",
    "Ä",
    "ä",
    "A\u0308",
    "agent:Main",
    "agent:main",
    "CON",
    "aux.",
    "ß",
    "SS",
    "ﬁ",
    "fi",
    "İ",
    "i̇",
    "../../x",
    "x" * 4096,
]


def use_odd_keys(root: Path) -> None:
    """Create sessions whose names a file system might take for one, and find each."""
    with Store(root) as store:
        for n, key in enumerate(ODD_KEYS):
            store.create(key, {"n": n})
        for n, key in enumerate(ODD_KEYS):
            assert store.patch(key, {"again": True}).data == {"n": n, "again": True}
        assert {i.key for i in store.list()} == set(ODD_KEYS)
        store.prune(max_entries=len(ODD_KEYS) - 2)
        for n, key in enumerate(ODD_KEYS):
            if key not in store:
                assert store.archive.restore(key)["n"] == n
        assert store.verify().ok


@needs_root
@linux_only
@pytest.mark.parametrize(
    "kind", ["ext4", "ext4-nojournal", "xfs", "btrfs", "ext4-casefold", "ntfs", "exfat", "tmpfs-casefold", "overlay"]
)
def test_on_another_file_system(place: Path, kind: str) -> None:
    """Keys that differ in case or normalisation, and counting from three processes, wherever it can be mounted."""
    where = place / "mnt"
    if kind == "overlay":
        _overlay(place, where)
    else:
        _mount(kind, place / "image", where)
    try:
        use_odd_keys(where / "odd")
        incrementers(where / "counted", [], times=60)
        report("file-system", {"kind": kind})
    finally:
        logdisk.unmount(where)


def _mount(kind: str, image: Path, where: Path) -> None:
    if kind in FOLDING:
        _mount_folding(kind, image, where)
        return
    base = "ext4" if kind == "ext4-casefold" else kind
    reason = logdisk.why_not(base)
    if reason is not None and "fuse" not in reason.lower():
        pytest.skip(f"{kind}: {reason}")
    where.mkdir()
    logdisk.make_image(base, image)
    if kind == "ext4-casefold":
        made = subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-O", "casefold", str(image)], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"mkfs.ext4 -O casefold: {made.stderr.strip()}")
    done = subprocess.run(["mount", "-o", "loop", str(image), str(where)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{kind}: this kernel cannot mount it")
    if kind == "ext4-casefold":
        subprocess.run(["chattr", "+F", str(where)], check=True)


FOLDING = {
    # Both are mounted without modes of their own: umask says who may.  exFAT has no hard links either.
    "exfat": ("mkfs.exfat", [], ["mount.exfat-fuse", "-o", "umask=077"]),
    "ntfs": ("mkfs.ntfs", ["-q", "-F"], ["lowntfs-3g", "-o", "ignore_case,umask=077"]),
    "tmpfs-casefold": ("mount", None, ["mount", "-t", "tmpfs", "-o", "casefold,mode=700", "tmpfs"]),
}


def _mount_folding(kind: str, image: Path, where: Path) -> None:
    maker, options, command = FOLDING[kind]
    for program in (maker, command[0]):
        if shutil.which(program) is None:
            pytest.skip(f"{kind}: {program} is not installed")
    where.mkdir()
    device: list[str] = []
    if options is not None:
        with image.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run([maker, *options, str(image)], check=True, capture_output=True)
        found = subprocess.run(["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=False)
        if found.returncode:
            pytest.skip(f"{kind}: there is no loop device")
        device = [found.stdout.strip()]
    done = subprocess.run([*command, *device, str(where)], capture_output=True, text=True, check=False)
    if device:  # it goes when the file system does
        subprocess.run(["losetup", "-d", *device], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{kind}: this kernel cannot mount it")
    (where / "CASE").mkdir()
    assert (where / "case").is_dir(), f"{kind} does not fold case"


def _overlay(place: Path, where: Path) -> None:
    for name in ("lower", "upper", "work", "mnt"):
        (place / name).mkdir()
    options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
    done = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(where)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"overlay cannot be mounted here: {done.stderr.strip().splitlines()[0]}")
