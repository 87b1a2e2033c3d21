"""Small file systems in image files, mounted for one run where the machine lets us (root and loop devices)."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE_BYTES = 1 << 30
KINDS = {  # name: how it is made
    "ext4": ("mkfs.ext4", "-q", "-O", "has_journal"),
    "xfs": ("mkfs.xfs", "-q"),
}


@contextmanager
def images(below: Path, reasons: dict[str, str]) -> Iterator[dict[str, Path]]:
    """Mount each kind that can be mounted, and unmount them at the end; note why the others could not."""
    with ExitStack() as stack:
        mounted: dict[str, Path] = {}
        for kind in KINDS:
            try:
                mounted[kind] = stack.enter_context(_image(kind, below))
            except (OSError, subprocess.CalledProcessError) as error:
                detail = getattr(error, "stderr", None) or str(error)
                reasons[kind] = detail.strip().splitlines()[-1] if detail.strip() else type(error).__name__
        yield mounted


@contextmanager
def _image(kind: str, below: Path) -> Iterator[Path]:
    """Make, mount, and finally unmount one image. Raises OSError or CalledProcessError when it can't be done."""
    if os.geteuid() != 0:
        raise PermissionError("needs root to mount an image")
    if shutil.which(KINDS[kind][0]) is None:
        raise FileNotFoundError(f"{KINDS[kind][0]} is not installed")
    image, point = below / f"{kind}.img", below / kind
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    _run(*KINDS[kind], str(image))
    _run("mount", "-o", "loop", str(image), str(point))
    try:
        yield point
    finally:
        _run("umount", str(point))
        image.unlink()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
