"""An explicit-state explorer: every interleaving of a few processes, each of which may die at any step.

A process is a function from (shared, local) to its possible next (shared, local), where `shared` and the locals are
NamedTuples or plain tuples. `bad(shared, locals)` says what is wrong in a state, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple

Step = Callable[[Any, Any, int], Iterable[tuple[Any, Any]]]


class Explored(NamedTuple):
    """How many states there are, and the steps that lead to the first bad one."""

    states: int
    wrong: str | None
    trace: list[Any]


def explore(
    shared: Hashable,
    processes: list[tuple[Step, Hashable]],
    bad: Callable[[Any, tuple[Any, ...]], str | None],
    limit: int = 2_000_000,
) -> Explored:
    """Visit every reachable state until one is bad."""
    steps = [step for step, _ in processes]
    start = (shared, tuple(local for _, local in processes))
    came_from: dict[Any, Any] = {start: None}
    todo = [start]
    while todo:
        state = todo.pop()
        wrong = bad(*state)
        if wrong is not None:
            return Explored(len(came_from), wrong, _trace(came_from, state))
        for following in _following(steps, *state):
            if following not in came_from:
                came_from[following] = state
                todo.append(following)
        assert len(came_from) < limit, "too many states"
    return Explored(len(came_from), None, [])


def _following(steps: list[Step], shared: Any, locals_: tuple[Any, ...]) -> Iterator[Any]:
    for number, step in enumerate(steps):
        for changed, local in step(shared, locals_[number], number):
            yield changed, (*locals_[:number], local, *locals_[number + 1 :])


def _trace(came_from: dict[Any, Any], state: Any) -> list[Any]:
    trace = []
    while state is not None:
        trace.append(state)
        state = came_from[state]
    return trace[::-1]
