"""What a whole run says of itself: every test's end, its time, and why it was skipped, into the report."""

from __future__ import annotations

import pytest

from tests.torture.harness import report


def pytest_configure(config: pytest.Config) -> None:
    """Listen in the process that hears of every test, not in its workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Ends(), "shardstore-ends")


class Ends:
    """Notes how each test ended."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a call, and a setup that skipped or failed."""
        if "tests/torture" in report.nodeid and (report.when == "call" or report.outcome != "passed"):
            row = {"node": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 1)}
            if report.skipped and isinstance(report.longrepr, tuple):
                row["reason"] = report.longrepr[2].removeprefix("Skipped: ")
            _note(row)


def _note(row: dict[str, object]) -> None:
    report("end", row)
