"""A life of the machine and the file system: one text in every process, another one after a restart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shardstore._files import life


def test_the_boot_id_is_that_of_the_machine() -> None:
    """The same in every process."""
    command = "from shardstore._files.life import boot_id; print(boot_id())"
    other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == life.boot_id()
    if sys.platform == "linux":
        assert life._from_proc()


def test_an_unknown_boot_id_is_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that cannot tell do not believe each other."""
    monkeypatch.setattr(life, "_from_proc", lambda: b"")
    monkeypatch.setattr(life, "_from_sysctl", lambda: b"")
    assert life.boot_id.__wrapped__() != life.boot_id.__wrapped__()


def test_where_nothing_tells_the_boot_alone_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No /sys, no unique mount number: as on macOS."""
    monkeypatch.setattr(life, "_places", {})
    monkeypatch.setattr(life, "_place", lambda directory, device: "")
    monkeypatch.setattr(life, "_mount_number", lambda directory: 0)
    assert life.life_of(str(tmp_path)) == f"{life.boot_id()} 0"
