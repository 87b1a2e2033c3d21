"""The command line of a process that holds a lock, for the eyes of a person."""

from __future__ import annotations

from pathlib import Path

from . import escape

_COMMAND_MAX = 80


def command_of(pid: int) -> str:
    """Return a process's command line, shortened; empty when it is gone or hidden."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    text = raw.replace(b"\0", b" ").decode(errors="replace").strip()
    text = escape.text(text)
    return text if len(text) <= _COMMAND_MAX else f"{text[: _COMMAND_MAX - 1]}…"
