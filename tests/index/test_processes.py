"""Several real processes, one of which may be killed or stopped anywhere: every list equals a scan of the shards."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shardstore import Store
from shardstore import _codec as codec
from shardstore._files.file import read_file
from shardstore._files.index.upkeep import audit
from shardstore.query import Query
from tests.conftest import working_directory
from tests.index import moves
from tests.support import disk
from tests.support.peer import Peer

KEYS = [f"k{n}" for n in range(6)]
PROCESSES = 3
crew: list[Peer] = []


@pytest.fixture(autouse=True)
def _crew() -> Any:
    yield
    while crew:
        crew.pop().close()


class Machine(RuleBasedStateMachine):
    """Three processes: each is free, inside an update ("holding"), stopped somewhere, or just killed and started again."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="shardstore-index-", dir=working_directory()))
        self.root = self.base / "sessions"
        self.store = Store(self.root, durability="relaxed")
        while len(crew) < PROCESSES:
            crew.append(Peer())
        self.doing = ["free"] * PROCESSES
        self.holding: dict[int, str] = {}
        self.number = 0

    @initialize(count=st.integers(0, 8))
    def fill(self, count: int) -> None:
        for n in range(count):
            self.store.create(f"old{n}", {"n": n, "status": "old"})

    def value(self) -> int:
        self.number += 1
        return self.number

    def free(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from([n for n in range(PROCESSES) if self.doing[n] == "free"]))

    def unheld(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from([key for key in KEYS if key not in self.holding.values()]))

    def any_free(self) -> bool:
        return "free" in self.doing

    def any_stopped(self) -> bool:
        return "stopped" in self.doing

    @precondition(any_free)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        crew[self.free(data)].run(moves.write, str(self.root), self.unheld(data), self.value())

    @precondition(any_free)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        crew[self.free(data)].run(moves.delete, str(self.root), self.unheld(data))

    @precondition(any_free)
    @rule(data=st.data(), refresh=st.booleans())
    def list(self, data: st.DataObject, refresh: bool) -> None:
        before = self.truth()
        assert crew[self.free(data)].run(moves.listed, str(self.root), refresh=refresh) == before

    @precondition(any_free)
    @rule(data=st.data(), status=st.sampled_from(["even", "odd", "old"]))
    def count(self, data: st.DataObject, status: str) -> None:
        expected = sum(fields.get("status") == status for fields in self.truth().values())
        assert crew[self.free(data)].run(moves.counted, str(self.root), status) == expected

    @precondition(any_free)
    @rule(data=st.data(), field=st.sampled_from(["n", "status", "none"]), descending=st.booleans())
    def page(self, data: st.DataObject, field: str, descending: bool) -> None:
        truth = self.truth()
        there = sorted(key for key in truth if field in truth[key])
        there.sort(key=lambda key: truth[key][field], reverse=descending)
        expected = there + sorted(key for key in truth if field not in truth[key])
        order = f"-{field}" if descending else field
        assert crew[self.free(data)].run(moves.newest, str(self.root), order) == expected

    @precondition(any_free)
    @rule(data=st.data(), fields=st.sampled_from([["status"], ["n", "status"], []]))
    def reindex(self, data: st.DataObject, fields: Any) -> None:
        crew[self.free(data)].run(moves.reindex, str(self.root), fields)

    @precondition(any_free)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        who, key = self.free(data), self.unheld(data)
        crew[who].start(moves.hold, str(self.root), key, self.value())
        waited = crew[who].heard()
        assert waited < 20.0, "a list inside an update waited"
        self.doing[who], self.holding[who] = "holding", key

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.holding)))
        crew[who].tell()
        crew[who].result()
        self.doing[who] = "free"
        del self.holding[who]

    @precondition(any_free)
    @rule(data=st.data(), what=st.sampled_from([moves.list_on, moves.write_on]), seed=st.integers(0, 10**6))
    def stop(self, data: st.DataObject, what: Any, seed: int) -> None:
        """Stop a process somewhere in the middle of refreshing or writing."""
        who = self.free(data)
        crew[who].start(what, str(self.root), f"busy{who}", 200 if what is moves.list_on else 2000)
        crew[who].heard()
        time.sleep(random.Random(seed).random() * 0.004)
        crew[who].signal(signal.SIGSTOP)
        wait_until_stopped(crew[who].pid)
        self.doing[who] = "stopped"

    @precondition(any_stopped)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from([n for n in range(PROCESSES) if self.doing[n] == "stopped"]))
        crew[who].signal(signal.SIGCONT)
        crew[who].result()
        self.doing[who] = "free"

    @rule(who=st.integers(0, PROCESSES - 1))
    def kill(self, who: int) -> None:
        crew[who].kill()
        crew[who].close()
        crew[who] = Peer()
        self.doing[who] = "free"
        self.holding.pop(who, None)

    @rule(what=st.sampled_from(["changes", "catalog", ""]))
    def delete_from_the_index(self, what: str) -> None:
        for path in (self.root / "index").glob("*"):
            if path.name.startswith(what):
                path.unlink(missing_ok=True)

    @precondition(any_free)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        crew[self.free(data)].run(moves.compact, str(self.root))

    @invariant()
    def every_list_is_right(self) -> None:
        index = self.store._engine.index
        assert {info.key: info.fields for info in index.lister.select(Query(), refresh=False)} == self.truth()

    @rule()
    def list_here(self) -> None:
        index = self.store._engine.index
        assert {info.key: info.fields for info in index.lister.select(Query())} == self.truth()
        assert audit(index.lister) == []

    def truth(self) -> dict[str, Any]:
        found = {}
        for path in disk.shards(self.root):
            state = read_file(str(path))[0].state
            if state.fields is not None:
                found[state.key] = {name: codec.loads(raw) for name, raw in state.fields.items()}
        return found

    def teardown(self) -> None:
        for who in range(PROCESSES):
            if self.doing[who] != "free":
                self.kill(who)
        self.every_list_is_right()
        self.list_here()
        self.store.close()
        shutil.rmtree(self.base)


def wait_until_stopped(pid: int) -> None:
    """Wait until the system says that the process is stopped: the signal takes a moment."""
    try:
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.0002)
    except FileNotFoundError:
        time.sleep(0.01)  # a system without /proc


def test_lists_equal_scans() -> None:
    """After every step of every process, whatever the others are in the middle of."""
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.exhaustive
def test_lists_equal_scans_for_long() -> None:
    """The same for as long as a night allows."""
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=400, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
