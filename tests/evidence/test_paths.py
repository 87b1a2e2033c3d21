"""Incidents of wrong paths and open files (#20336, #15176, #45901)."""

from __future__ import annotations

import os
from pathlib import Path

from shardstore import Store
from tests.scenarios import disks, populations


def test_20336_paths_come_only_from_root_and_key(root: Path) -> None:
    """Hostile keys stay below the root, in files of their own, whatever directory the process works in."""
    populations.two_sessions_never_share_a_path(root)


def test_45901_everything_is_private_from_the_first_write(root: Path) -> None:
    """0700 and 0600 under umask 000, index, archive and quarantine included."""
    disks.modes_are_private_from_the_first_write(root)


def test_45901_no_file_is_made_open_and_closed_later(root: Path) -> None:
    """Every file is made with the mode 0600 itself; none is made wider and narrowed afterwards."""
    made: list[tuple[str, int]] = []
    real = os.open

    def watch(path: str, flags: int, mode: int = 0o777, **kwargs: int) -> int:
        if flags & os.O_CREAT:
            made.append((os.fspath(path), mode))
        return real(path, flags, mode, **kwargs)

    os.open = watch  # type: ignore[assignment]
    try:
        with Store(root) as store:
            for n in range(8):
                store.patch("k", {"blob": f"{n}" * 40_000})
            store.list()
            store.prune(older_than=0)
            store.list()
    finally:
        os.open = real
    assert len(made) >= 3
    assert [path for path, mode in made if mode & 0o077] == []
