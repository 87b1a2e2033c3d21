"""Doctor: each trial passes on a sound disk and fails on one that breaks its promise; nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from shardstore._files.maintenance import doctor
from shardstore.reports import DoctorReport


def outcomes(report: DoctorReport) -> dict[str, str]:
    return {check.name: check.status for check in report.checks}


def test_a_sound_directory_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    report = doctor.examine(tmp_path)
    assert {name for name, status in outcomes(report).items() if status == "fail"} == set()
    assert len(report.checks) == 7
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "lie", "failing"),
    [
        ("try_lock", lambda _fd: True, "the lock excludes another process"),
        ("try_lock", lambda _fd: False, "a dead process leaves no lock"),
        ("_peer_gets_lock", lambda _path: True, "the lock excludes another process"),
        ("_peer_gets_lock", lambda _path: False, "the lock excludes another process"),
    ],
)
def test_a_lock_that_does_not_exclude_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lie: Callable[..., bool], failing: str
) -> None:
    """The other trials go on, and what was made is removed."""
    monkeypatch.setattr(doctor, name, lie)
    report = doctor.examine(tmp_path)
    assert outcomes(report)[failing] == "fail"
    assert outcomes(report)["writes land where they should"] == "pass"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        ("write_all", "writes land where they should"),
        ("sync_directory", "syncing works"),
        ("link", "a log moves with its session"),
    ],
)
def test_a_failing_call_fails_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, failing: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(doctor.disk, name, fail)
    assert outcomes(doctor.examine(tmp_path))[failing] == "fail"


def test_a_disk_that_writes_elsewhere_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = doctor.disk.write_all
    monkeypatch.setattr(doctor.disk, "write_all", lambda fd, data, place: write(fd, data, place + 1))
    assert outcomes(doctor.examine(tmp_path))["writes land where they should"] == "fail"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("ext4", "pass"),
        ("tmpfs", "pass"),
        ("nfs4", "warn"),
        ("fuse.sshfs", "warn"),
        ("unknown", "warn"),
        ("9p", "warn"),
    ],
)
def test_a_file_system_that_promises_less_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, status: str
) -> None:
    monkeypatch.setattr(doctor, "file_system", lambda _: kind)
    report = doctor.examine(tmp_path)
    assert report.checks[0].status == status
    assert kind in report.checks[0].detail or kind == "unknown"


@pytest.mark.damages("directories are lost")
def test_a_store_that_lost_directories_is_a_warning(root: Path) -> None:
    Store(root).close()
    assert outcomes(doctor.examine(root))["the store is whole"] == "pass"
    for prefix in ("00", "01", "02", "03", "04", "05", "06"):
        os.rmdir(root / "shards" / prefix)
    (check,) = [one for one in doctor.examine(root).checks if one.name == "the store is whole"]
    assert check.status == "warn"
    assert (
        check.detail.startswith("7 directories of sessions are gone") and "00, 01, 02, 03, 04 and more" in check.detail
    )


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of mounts inside each other the innermost counts; a name that only begins alike does not."""
    if doctor.sys.platform == "darwin":
        pytest.skip("reads the mount table of Linux")
    where = os.path.realpath(tmp_path)
    table = f"x / ext4 rw 0 0\nx {where} xfs rw 0 0\nx {where}/in btrfs rw 0 0\nx {where}-other nfs rw 0 0\n"
    monkeypatch.setattr(doctor.Path, "read_text", lambda self, **_: table)
    assert doctor.file_system(tmp_path) == "xfs"
    assert doctor.file_system(tmp_path / "in") == "btrfs"
    assert doctor.file_system(Path("/")) == "ext4"
