"""Each protection is taken out in turn, and the scenario that protects it must fail: a test that cannot fail is none."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

import tests.mutations.people
import tests.mutations.postgres  # noqa: F401
from tests.mutations.catalogue import MUTATIONS, TargetGone, edit, swap
from tests.support.forked import Forked
from tests.support.mutate import VARIABLE
from tests.support.peer import REPOSITORY, environment
from tests.support.postgres import server_or_skip
from tests.support.run import HELD_NOT

TRIES = 3  # two processes may miss each other in a short race; threads of a broken store may end it in any way
PAIRS = [(name, scenario) for name, one in MUTATIONS.items() for scenario in one.scenarios]
LINUX_ONLY = {
    "sync_removed",
    "directory_sync_removed",
    "batch_acknowledged_early",
    "batch_names_not_synced",
    "batch_covers_nothing",
    "failed_sync_ignored",
    "failed_sync_retried",
    "sync_where_readers_wait",
    "shared_sync_not_waited_for",
    "sync_before_removed",
    "sync_covers_what_came_later",
    "sync_after_removed",
    "line_not_looked_at",
    "log_not_synced",
    "line_not_stood_in",
    "visit_not_synced",
    "visit_acknowledged_in_spite",
    "nobody_shares_a_sync",
    "failed_sync_forgotten",
    "newest_thread_first",
    "whole_group_says_durable",
}


def run(scenario: str, root: Path, mutation: str = "") -> tuple[int, str]:
    """Run a scenario in a process of its own, with a mutation applied there and in every process it starts.

    Return its exit status and what it printed.
    """
    with tempfile.TemporaryFile() as printed, open(os.devnull, "rb") as nothing:
        process = Forked(
            "tests.support.run", scenario, str(root),
            files=(nothing.fileno(), printed.fileno(), printed.fileno()),
            directory=str(REPOSITORY), environment=environment(**{VARIABLE: mutation}),
        )  # fmt: skip
        try:
            code = process.wait(120)
        finally:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        printed.seek(0)
        return code, printed.read().decode(errors="replace")


@pytest.mark.damages("a broken store may leave anything")
@pytest.mark.parametrize(
    ("name", "scenario"), PAIRS, ids=[f"{name}-{scenario.rpartition(':')[2]}" for name, scenario in PAIRS]
)
def test_without_its_protection_the_scenario_fails(root: Path, name: str, scenario: str) -> None:
    """The scenario fails by its own assertion, or an error of the store; neither by accident, nor not at all."""
    if ".postgres" in scenario:
        server_or_skip()
    if name in LINUX_ONLY and sys.platform != "linux":
        pytest.skip("needs what only Linux has")
    for number in range(TRIES):
        code, printed = run(scenario, root.with_name(f"sessions-{number}"), name)
        if code == HELD_NOT:
            break
    assert code == HELD_NOT, (
        f"{scenario} ended with {code} though {MUTATIONS[name].takes_out} was taken out:\n{printed}"
    )


def test_the_harness_reports_a_scenario_that_holds(root: Path) -> None:
    """Without a mutation the same run ends well: a failure above is the mutation's."""
    code, printed = run("tests.scenarios.lost_updates:no_change_writes_nothing", root)
    assert code == 0, printed


def test_a_mutation_of_what_is_not_there_is_no_failure_of_the_scenario() -> None:
    """A mutation whose target moved is an error of its own, and not taken for a scenario that protects."""
    for target in (
        "shardstore._files.shard:Shard.no_such_method",
        "shardstore.nowhere:x",
        "shardstore._files.shard:Nobody.lock",
    ):
        with pytest.raises(TargetGone):
            swap(target, lambda original: original)
    with pytest.raises(TargetGone):
        edit("shardstore._inside:FifoMutex.leave", ("no such line", "pass"))


def test_every_scenario_of_a_mutation_exists() -> None:
    """The names in the catalogue are importable functions that take the root of a store."""
    import inspect

    from tests.support.peer import resolve

    for _, scenario in PAIRS:
        assert next(iter(inspect.signature(resolve(scenario)).parameters)) == "root"
