"""The example of three hosts works: its agents lose no turn."""

from __future__ import annotations

import subprocess
import sys

from tests.contract.backend import PostgresBackend
from tests.support.peer import REPOSITORY, environment

HERE = REPOSITORY / "examples" / "beyond-one-machine"


def test_the_agents_of_the_example_lose_no_turn(database: PostgresBackend) -> None:
    agents = [
        subprocess.Popen(
            [sys.executable, HERE / "agent.py", str(n), "5"],
            env=environment(SHARDSTORE_PATH=database.url), stdout=subprocess.PIPE, text=True,
        )
        for n in range(2)
    ]  # fmt: skip
    told = [one.communicate(timeout=60)[0] for one in agents]
    assert [one.returncode for one in agents] == [0, 0]
    assert sum("10 in all" in text for text in told) == 1
    with database.open() as store:
        assert store["agent:main:inbox"]["turns"] == 10


def test_the_composition_names_three_hosts_and_a_database() -> None:
    """Docker is not here: what can be checked is that it names what the page says."""
    text = (HERE / "compose.yaml").read_text(encoding="utf-8")
    assert [name for name in ("db:", "host-a:", "host-b:", "host-c:") if f"\n  {name}" not in text] == []
    assert "examples/beyond-one-machine/agent.py" in text
