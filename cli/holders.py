"""Who holds which session's lock: pid, command and key, where the system tells (Linux: /proc).

Nothing here decides anything: a lock is the kernel's, and this is for the eyes of a person.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from shardstore._files.locks.holders import held, open_files

from . import escape

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
    for lock in held():
        for path, _ in open_files(lock):
            if path.startswith(shards):
                found[path] = Holder(Path(path), _key_in(path), lock.pid, command_of(lock.pid))
    return [found[path] for path in sorted(found)]


def command_of(pid: int) -> str:
    """Return a process's command line, shortened; empty when it is gone or hidden."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    text = raw.replace(b"\0", b" ").decode(errors="replace").strip()
    text = escape.text(text)
    return text if len(text) <= _COMMAND_MAX else f"{text[: _COMMAND_MAX - 1]}…"


def _key_in(path: str) -> str | None:
    """Read the session's key from the first record of its shard."""
    try:
        with open(path, "rb") as file:
            record = json.loads(file.readline())
        key = record["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return key if isinstance(key, str) else None
