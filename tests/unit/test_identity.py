"""What a path names: by either way of asking the same, and anew each time."""

from __future__ import annotations

import builtins
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from shardstore._files.locks import identity
from shardstore._files.locks.identity import FileIdentity, PathIdentity, identity_of

OFTEN = 100


@pytest.fixture(autouse=True)
def first_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process begins."""
    monkeypatch.setattr(PathIdentity, "asked", 0)
    monkeypatch.setattr(identity, "_statx", None)
    identity.statx_wanted.clear()


def look(name: PathIdentity) -> FileIdentity:
    """Look, and do afterwards what a transaction does after it has unlocked."""
    found = name.current()
    if identity.statx_wanted:
        identity.load_statx()
    return found


def test_both_ways_give_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a name with \N{SNOWMAN}"
    path.write_bytes(b"abc")
    name = PathIdentity(str(path))
    for n in range(OFTEN):
        path.write_bytes(b"x" * n)
        if n % 10 == 0:
            os.link(path, tmp_path / f"link{n}")
        assert look(name) == identity_of(path.lstat())
        if n % 3 == 0:
            path.unlink()
            with pytest.raises(FileNotFoundError):
                look(name)
            path.write_bytes(b"")
    assert name._prepared
    assert (name.ask is not identity._no_statx) == (sys.platform == "linux")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(__file__)
    name = PathIdentity(str(path))
    for _ in range(OFTEN):
        assert look(name) == identity_of(os.lstat(path)) != identity_of(os.stat(path))


def test_devices_differ(tmp_path: Path) -> None:
    other = Path("/dev/null")
    here = PathIdentity(str(tmp_path))
    there = PathIdentity(str(other))
    for _ in range(OFTEN):
        assert look(here)[3] != look(there)[3]
        assert look(there) == identity_of(other.lstat())


@pytest.mark.skipif(sys.platform != "linux", reason="statx is Linux's")
def test_the_times_are_not_asked_for(tmp_path: Path) -> None:
    """They are what makes the next write dear, so neither of the two bits may be set, whatever else is asked."""
    name = PathIdentity(str(tmp_path))
    for _ in range(OFTEN):
        look(name)
    mask = name.ask.args[3].value  # type: ignore[attr-defined]
    mtime, ctime = 0x40, 0x80
    assert mask & (mtime | ctime) == 0
    given = ctypes.c_uint.from_buffer(name.answer).value  # type: ignore[arg-type]
    assert given & mask == mask, "the kernel did not answer what was asked"


def test_without_ctypes_it_goes_on_as_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refusing(module: str, *rest: Any, **named: Any) -> Any:
        if module == "ctypes":
            raise ImportError(module)
        return real(module, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refusing)
    name = PathIdentity(str(tmp_path))
    for _ in range(OFTEN):
        assert look(name) == identity_of(tmp_path.lstat())
    assert name.ask is identity._no_statx


def test_a_refused_statx_is_asked_again_by_lstat(tmp_path: Path) -> None:
    """As some sandboxes refuse it."""
    name = PathIdentity(str(tmp_path))
    for _ in range(identity._OFTEN + 1):
        name.ask = lambda: -1
        assert look(name) == identity_of(tmp_path.lstat())
