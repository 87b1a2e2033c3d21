"""One file system mounted twice, as in a host and its container: both names lead to the same store."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardstore import NestedUpdate, Store
from tests.support import actions
from tests.support.peer import Peers

KEYS = ["k0", "k1", "k2"]
UPDATES = 20  # of each process


def _run(*command: object) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def mounts() -> Iterator[tuple[Path, Path]]:
    """Yield two mount points of one device with ext4."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("losetup", "mkfs.ext4", "mount", "umount")):
        pytest.skip("needs root, losetup and mkfs.ext4")
    base = Path(tempfile.mkdtemp(prefix="mounts-"))
    points, mounted, device = (base / "one", base / "two"), list[Path](), ""
    try:
        with (base / "image").open("wb") as file:
            file.truncate(16 << 20)
        _run("mkfs.ext4", "-q", "-F", base / "image")
        try:
            device = _run("losetup", "--find", "--show", base / "image")
            for point in points:
                point.mkdir()
                _run("mount", device, point)
                mounted.append(point)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"cannot mount here: {error.stderr.strip()}")
        yield points
    finally:
        for point in mounted:
            _run("umount", "-l", point)
        if device:
            _run("losetup", "--detach", device)
        shutil.rmtree(base)


def add_many(root: Path) -> None:
    """Update each session so many times, append to its log, and list now and then."""
    with Store(root, lock_timeout=30.0) as store:
        for number in range(UPDATES):
            for key in KEYS:
                store.update(key, actions.add_one)
                store.append(key, [number])
            if number % 10 == 0:
                assert {info.key for info in store.list()} == set(KEYS)


def test_writers_on_both_mounts(mounts: tuple[Path, Path], crew: Callable[[int], Peers]) -> None:
    """No update is lost, lists on both sides are exact, and neither side takes the other's index for a stranger's."""
    roots = [point / "store" for point in mounts]
    with Store(roots[0]) as store:
        for key in KEYS:
            store.create(key, {"n": 0})
        store.list()
    catalog = (roots[0] / "index" / "catalog").stat().st_ino
    writers = crew(2)
    for peer, root in zip(writers, roots, strict=True):
        peer.start(add_many, root)
    for peer in writers:
        peer.result()
    found = []
    for root in roots:
        with Store(root) as store:
            assert [(store[key]["n"], len(store[key].log)) for key in KEYS] == [(2 * UPDATES, 2 * UPDATES)] * len(KEYS)
            found.append({info.key: (info.version, info.fields["n"]) for info in store.list()})
            assert found[-1] == {key: (store[key].version, store[key]["n"]) for key in KEYS}
            assert store.verify().ok
    assert found[0] == found[1]
    assert (roots[0] / "index" / "catalog").stat().st_ino == catalog, "made anew, for ever"


def test_a_session_locked_through_one_mount_is_locked_through_the_other(mounts: tuple[Path, Path]) -> None:
    """Also in one process, which knows by the file that both names lead to one store: it does not wait for itself."""
    roots = [point / "store" for point in mounts]
    with Store(roots[0]) as one, Store(roots[1], lock_timeout=0.05) as other:
        one.create("k", {"n": 0})
        with one.edit("k") as draft:
            with pytest.raises(NestedUpdate):
                other.patch("k", {"n": 5})
            draft["n"] += 1
        assert other.update("k", actions.add_one)["n"] == 2
        assert one["k"]["n"] == 2
