"""On a terminal: colour unless NO_COLOR, tables that fit, a progress bar that leaves no trace in pipes."""

from __future__ import annotations

import json
import re

from bench import openclaw
from tests.cli.conftest import LONG
from tests.cli.shell import Shell

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def test_a_table_fits_the_terminal(busy: Shell) -> None:
    shown = _COLOUR.sub("", busy.on_terminal("list", columns=72).out)
    assert max(map(len, shown.splitlines())) <= 72
    assert LONG in "".join(line.split(" ")[0] for line in shown.splitlines())


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
