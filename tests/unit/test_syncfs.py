"""syncfs: believed only where it reports what failed, and reaches the medium."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from shardstore._files import syncfs


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process that never asked for it."""
    monkeypatch.setattr(syncfs, "_call", None)
    monkeypatch.setattr(syncfs, "_type_of", None)


def release(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=text))


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("text", ["5.7.19", "4.19.0-26-amd64", "3.10.0", "unknown", "5.7"])
def test_a_kernel_that_hides_failures_is_not_asked(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Before 5.8 the call returned 0 whatever became of the bytes."""
    release(monkeypatch, text)
    syncfs.load()
    assert syncfs._call is None
    assert not syncfs.is_trusted(0)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has the call")
def test_a_newer_kernel_is_asked_and_its_errors_are_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release(monkeypatch, "6.1.0")
    syncfs.load()
    if syncfs._call is None:
        pytest.skip("a sandbox does not let the call through")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        syncfs.sync_all(fd)
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        syncfs.sync_all(-1)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("kind", "trusted"), [(0xEF53, True), (0x9123683E, True), (0x65735546, False), (0x01021994, False), (0, False)]
)
def test_only_known_file_systems_are_trusted(monkeypatch: pytest.MonkeyPatch, kind: int, trusted: bool) -> None:
    """Over FUSE the call returns without asking anybody."""
    monkeypatch.setattr(syncfs, "_call", lambda _fd: 0)
    monkeypatch.setattr(syncfs, "_type_of", lambda _fd: kind)
    assert syncfs.is_trusted(3) is trusted
