"""A file system that crashes while the machine runs on: nothing in index/ was synced, so nothing there is believed after.

On images of real file systems. REQUIRES: Linux, root, loop devices; skipped elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from shardstore._files import life
from tests.index.actors import truth
from tests.support.peer import one_peer

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN
WITHOUT_FLUSHING = struct.pack("=I", 2)
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"], "btrfs": ["mkfs.btrfs", "-q", "-f"]}
SESSIONS = 40


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    run("mount", "-o", "loop", image, place)
    try:
        yield
    finally:
        run("umount", place)


@pytest.fixture(params=[*MAKE])
def image(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Yield a new file system in a file, and beside it a directory to mount it on."""
    kind = request.param
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control") or shutil.which(MAKE[kind][0]) is None:
        pytest.skip(f"mounting an image of {kind} takes root, loop devices and {MAKE[kind][0]}")
    base = Path(tempfile.mkdtemp(prefix="shardstore-crash-"))
    try:
        image = base / kind
        with image.open("wb") as file:
            file.truncate(400 << 20)
        run(*MAKE[kind], image)
        (base / "mnt").mkdir()
        try:
            with mounted(image, base / "mnt"):
                pass
        except subprocess.CalledProcessError as error:
            pytest.skip(f"{kind} cannot be mounted here: {error.stderr.decode().strip()}")
        yield image
    finally:
        shutil.rmtree(base)


def write(root: str, durability: Any) -> None:
    """In a child: make an index that is wholly on the disk, then change every session and list again."""
    with Store(root, durability=durability) as store:
        for n in range(SESSIONS):
            store.create(f"k{n}", {"n": n})
        assert len(store.list()) == SESSIONS
        os.sync()
        for n in range(SESSIONS):
            store.patch(f"k{n}", {"n": -n})
            if n % 3 == 0:
                store.delete(f"k{n}")
                store.list(limit=1)


def look(root: str) -> tuple[dict[str, Any], dict[str, Any], str | None, bool]:
    """In a child: list, read every shard, and say why the index was rebuilt."""
    with Store(root) as store:
        listed = {info.key: info.fields for info in store.list()}
        problem = store._engine.index.lister.problem
        return listed, truth(Path(root)), problem, store.verify().ok


def in_child(function: Any, *args: Any) -> Any:
    """A process of its own, that ends: nothing stays open on the file system."""
    with one_peer() as peer:
        return peer.run(function, *args)


@pytest.mark.parametrize("durability", ["commit", "relaxed"])
def test_a_file_system_that_crashed_and_was_mounted_again(image: Path, durability: str) -> None:
    """The machine was not restarted in between: the boot id is the same."""
    place = image.parent / "mnt"
    root = str(place / "store")
    if image.name == "btrfs":  # has no shutdown: what is on the disk now is what a crash would leave
        with mounted(image, place):
            in_child(write, root, durability)
            shutil.copyfile(image, image.with_suffix(".crashed"))
        os.rename(image.with_suffix(".crashed"), image)
    else:
        with mounted(image, place):
            in_child(write, root, durability)
            fd = os.open(place, os.O_RDONLY)
            try:
                fcntl.ioctl(fd, SHUTDOWN, WITHOUT_FLUSHING)
            finally:
                os.close(fd)
    with mounted(image, place):
        listed, there, problem, sound = in_child(look, root)
    assert listed == there
    assert sound
    assert problem == "it was made before the machine or the file system was restarted"
    if durability == "commit":
        assert listed == {f"k{n}": {"n": -n} for n in range(SESSIONS) if n % 3}


def test_an_image_copied_while_it_was_mounted(image: Path) -> None:
    """The copy is another life: its index is not believed, though its inodes and its boot id are the same."""
    place = image.parent / "mnt"
    root = str(place / "store")
    with mounted(image, place):
        in_child(write, root, "commit")
        shutil.copyfile(image, image.with_suffix(".copy"))
    with mounted(image.with_suffix(".copy"), place):
        listed, there, problem, sound = in_child(look, root)
    assert listed == there
    assert sound
    assert problem == "it was made before the machine or the file system was restarted"


def test_a_life_ends_with_the_mount(image: Path) -> None:
    """The same through another mount of it and through a remount; another one after it was mounted anew."""
    place = image.parent / "mnt"
    (image.parent / "bind").mkdir()
    lives = []
    for _ in range(2):
        with mounted(image, place):
            lives.append(in_child(life.life_of, str(place)))
            run("mount", "--bind", place, image.parent / "bind")
            try:
                assert in_child(life.life_of, str(image.parent / "bind")) == lives[-1]
                run("mount", "-o", "remount,noatime", place)
                assert in_child(life.life_of, str(place)) == lives[-1]
            finally:
                run("umount", image.parent / "bind")
    assert lives[0] != lives[1]
    assert lives[0].split()[0] == lives[1].split()[0] == life.boot_id()
