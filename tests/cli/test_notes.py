"""Notes on stderr about what the library did beside a command's own work."""

from __future__ import annotations

import pytest

from tests.cli.shell import Shell
from tests.support import disk


@pytest.mark.damages("writes half a record")
def test_bytes_that_a_write_cuts_off_are_named(busy: Shell) -> None:
    path = disk.shard(busy.store, "agent:ops:hook")
    disk.edit(path, path.read_bytes().rstrip(b"\n") + b'\n{"cut off')
    done = busy("patch", "agent:ops:hook", "n=1")
    assert done.code == 0
    (kept,) = (busy.store / "quarantine").iterdir()
    assert kept.read_bytes().startswith(b'{"cut off')
    (note, _) = done.err.splitlines()
    assert note == f"Note: cut a torn commit off session 'agent:ops:hook'; it is in {kept}"
    assert "Note" not in busy("patch", "agent:ops:hook", "n=2").err
