"""Hooks that say at the end of a run which tests were left out by their marker, and which command runs them."""

from __future__ import annotations

from typing import Any

import pytest

COMMANDS = {"torture": "make torture", "exhaustive": "make exhaustive", "sampled": "make test"}
_left: dict[str, int] = {}


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count what was left out. Each worker of a run hears of all of it."""
    for item in items:
        for marker in COMMANDS:
            if item.get_closest_marker(marker) is not None:
                _left[marker] = _left.get(marker, 0) + 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the counts to the process that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(_left)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take the counts of a worker."""
    _left.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts."""
    for marker, count in sorted(_left.items()):
        terminalreporter.write_line(f"LEFT OUT: {count} tests marked {marker}, which `{COMMANDS[marker]}` runs")
