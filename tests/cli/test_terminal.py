"""On a terminal: colour unless NO_COLOR, tables that fit, a progress bar that leaves no trace in pipes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import pytest

from bench import openclaw
from shardstore import Store
from tests.cli.conftest import LONG
from tests.cli.shell import Shell
from tests.support import disk

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def test_a_table_fits_the_terminal(busy: Shell) -> None:
    shown = _COLOUR.sub("", busy.on_terminal("list", columns=72).out).splitlines()
    assert max(len(line) for line in shown if line != LONG) <= 72
    assert LONG in shown


def test_headings_are_bold_unless_no_color(busy: Shell) -> None:
    assert _COLOUR.search(busy.on_terminal("inspect").out)
    assert "\x1b" not in busy.on_terminal("inspect", NO_COLOR="1").out
    assert "\x1b" not in busy("inspect", COLUMNS="80", TERM="xterm-256color").out


def test_progress_is_shown_on_a_terminal_only(shell: Shell) -> None:
    source = openclaw.write(openclaw.population("personal", 1), shell.directory / "openclaw")
    assert "Importing" in shell.on_terminal("import", "openclaw", source).out
    piped = shell("import", "openclaw", source, "--json")
    assert piped.err == ""
    assert json.loads(piped.out)["unchanged"] == 72


@pytest.fixture
def slow(shell: Shell) -> Iterator[Shell]:
    """Return a shell whose store takes a second to be read: one session has a long history."""
    with Store(shell.store) as store:
        store.create("k", {"n": 0})
        path = next((shell.store / "shards").glob("*/*.jsonl"))
    journal = path.read_bytes().rstrip(b"\n") + b"\n"
    at = disk.records(journal)[0]["at"]
    changes = [disk.line({"rev": rev, "at": at, "by": "me", "set": {"n": rev}}) for rev in range(2, 150_000)]
    path.write_bytes(journal + b"".join(changes))
    yield shell
    with Store(shell.store) as store:  # what follows every test would read it a dozen times more
        assert store.delete("k") and store.compact().ok


def test_reading_every_session_is_shown_on_a_terminal(slow: Shell) -> None:
    """Without an index every session is read, which may take long; with one there is nothing to wait for."""
    for command in (["list"], ["inspect"], ["prune", "--older-than", "30d"]):
        first = slow.on_terminal(*command).out
        assert "Reading every session" in first, command
        assert re.search(r"\d+/256", first)
        assert first.count("\x1b[?25l") == first.count("\x1b[?25h"), "the cursor stays hidden"
        shutil.rmtree(slow.store / "index", ignore_errors=True)  # a dry run made none
    assert "Reading every" not in slow("list").err
    for command in (["list"], ["inspect"]):
        assert "Reading every" not in slow.on_terminal(*command).out


def test_reading_a_few_sessions_shows_nothing(busy: Shell) -> None:
    """A bar that is gone at once only flickers, and costs the import of rich."""
    assert "Reading every" not in busy.on_terminal("list").out
