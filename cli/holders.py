"""Who holds which session's lock: pid, command and key, where the system tells (Linux: /proc).

Nothing here decides anything: a lock is the kernel's, and this is for the eyes of a person.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOCKS = Path("/proc/locks")
_HELD = re.compile(r"\d+: FLOCK\s+ADVISORY\s+WRITE\s+(?P<pid>\d+)\s+[0-9a-f]+:[0-9a-f]+:(?P<inode>\d+)\s")
_COMMAND_MAX = 80


@dataclass(frozen=True)
class Holder:
    """One held lock: the shard's file, the session's key where it could be read, and the owner."""

    path: Path
    key: str | None
    pid: int
    command: str


def holders(root: Path) -> list[Holder]:
    """List the held locks of a store, at a cost of the locks held on this machine, not of the sessions.

    Locks of processes that this user may not look into are not found.
    """
    shards = os.path.realpath(root / "shards") + os.sep
    found = {}
    for pid, inode in _held():
        for path in _open_files(pid, inode):
            if path.startswith(shards):
                found[path] = Holder(Path(path), _key_in(path), pid, command_of(pid))
    return [found[path] for path in sorted(found)]


def command_of(pid: int) -> str:
    """Give a process's command line, shortened; empty when it is gone or hidden."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    text = raw.replace(b"\0", b" ").decode(errors="replace").strip()
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _COMMAND_MAX else f"{text[: _COMMAND_MAX - 1]}…"


def _held() -> list[tuple[int, int]]:
    """Read (pid, inode) of every whole-file write lock there is."""
    try:
        text = _LOCKS.read_text()
    except OSError:
        return []
    return [(int(match["pid"]), int(match["inode"])) for match in _HELD.finditer(text) if int(match["pid"]) > 0]


def _open_files(pid: int, inode: int) -> list[str]:
    """Give the paths under which a process has this inode open.

    Device numbers in /proc/locks are not those of stat on btrfs and overlayfs; the open files say the same on all.
    """
    try:
        entries = list(os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return []  # gone, or another user's
    paths = []
    for entry in entries:
        with suppress(OSError):  # closed meanwhile
            if entry.stat().st_ino == inode:
                paths.append(os.readlink(entry.path))
    return paths


def _key_in(path: str) -> str | None:
    """Read the session's key from the first record of its shard."""
    try:
        with open(path, "rb") as file:
            record = json.loads(file.readline())
        key = record["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return key if isinstance(key, str) else None
