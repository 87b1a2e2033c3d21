"""Exceptions from outside and handlers that use the store, at every bytecode: nothing stays locked, nothing hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios import interrupts

WRITES = ("update", "edit", "delete", "get_or_create", "append")
# Files: all positions of an update, every third one of the other verbs, and a part of those that open or make a file.
# `make exhaustive` strikes at all of them.
SAMPLED = [
    ("files", "update", "hot", 1),
    *(("files", call, "hot", 3) for call in (*WRITES[1:], "refresh")),
    *(("files", call, state, 17) for call in WRITES[:4] for state in ("cold", "new")),
    *(("memory", call, state, 3) for call in WRITES[:4] for state in ("hot", "new")),
]
ALL = [
    *(("files", call, "hot", 1) for call in (*WRITES[1:], "refresh")),
    *(("files", call, state, 1) for call in WRITES[:4] for state in ("cold", "new")),
    *(("memory", call, state, 1) for call in WRITES[:4] for state in ("hot", "new")),
]
CASES = [
    *(pytest.param(*case, id="-".join(map(str, case))) for case in SAMPLED),
    *(pytest.param(*case, id="-".join(map(str, case)), marks=pytest.mark.exhaustive) for case in ALL),
]


@pytest.mark.leaks("an exception between os.open and the name that is to hold its number")
@pytest.mark.parametrize(("kind", "call", "state", "step"), CASES)
def test_an_exception_at_any_bytecode_unlocks(root: Path, kind: str, call: str, state: str, step: int) -> None:
    """The session is free for another thread and another process, and the next update works."""
    positions = interrupts.an_exception_at_any_bytecode_unlocks(root, kind, call, state, step)
    print(f"{kind} {call} {state}: {positions} positions")
    few = (call, state) in (("get_or_create", "hot"), ("refresh", "hot")) or not interrupts.EVERY_BYTECODE
    assert positions > (40 if few else 250) // (step if interrupts.EVERY_BYTECODE else 10 * step)


def test_an_exception_at_any_bytecode_unlocks_for_a_real_process(root: Path) -> None:
    interrupts.an_exception_at_any_bytecode_unlocks_for_processes(root)


@pytest.mark.parametrize("handler", sorted(interrupts.HANDLERS))
@pytest.mark.parametrize("call", ["update", "get"])
@pytest.mark.parametrize(
    "where",
    [
        ("files", "hot", 3),
        ("files", "cold", 17),
        ("memory", "hot", 3),
        *(pytest.param(case, marks=pytest.mark.exhaustive) for case in (("files", "hot", 1), ("files", "cold", 1))),
    ],
    ids=lambda where: "-".join(map(str, where)) if isinstance(where, tuple) else None,
)
def test_a_handler_at_any_bytecode_gets_an_answer(
    root: Path, handler: str, call: str, where: tuple[str, str, int]
) -> None:
    """A signal handler that calls the store again, wherever it comes in, waits for nothing that is beneath it."""
    positions = interrupts.a_handler_at_any_bytecode_gets_an_answer(root, handler, call, *where)
    print(f"{handler} in {call}, {where}: {positions} positions")
    assert positions > (60 if interrupts.EVERY_BYTECODE else 2) // where[2]
