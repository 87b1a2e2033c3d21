"""Runs cases: sets every store up first, then rounds that alternate, A B C A B C."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.peers import SPECS
from bench.results import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.plan import Case, Metrics, Stage
    from bench.results import Results


def run(cases: Sequence[Case], stage: Stage, results: Results, tell: Callable[[Case, str, int], None]) -> None:
    """Measure all cases into results. A store that cannot take part is noted with its reason, never skipped silently.

    `tell(case, store, round)` is called before each round, with round -1 while a store is being set up.
    """
    for case in cases:
        with ExitStack() as stack:
            ready = _set_up(case, stage, results, stack, tell)
            for number in range(case.rounds or stage.plan.rounds):
                for store in list(ready):
                    tell(case, store, number)
                    metrics = _attempt(case, store, results, partial(ready[store], case.seconds))
                    if metrics is None:
                        del ready[store]
                    else:
                        results.rows.append(Row(case.workload, case.name, store, number, metrics))


def _set_up(
    case: Case, stage: Stage, results: Results, stack: ExitStack, tell: Callable[[Case, str, int], None]
) -> dict[str, Callable[[float], Metrics]]:
    """Enter the stands of all stores and let each warm up; the failing ones are noted and left out."""
    ready: dict[str, Callable[[float], Metrics]] = {}
    for store in case.stores:
        reason = SPECS[store].missing() if store in SPECS else None
        if reason is not None:
            _leave_out(case, store, reason, results)
            continue
        tell(case, store, -1)
        go = _attempt(case, store, results, partial(_enter, stack, case, stage, store))
        if go is None:
            continue
        if not case.rounds and _attempt(case, store, results, partial(go, stage.plan.warm_up)) is None:
            continue
        ready[store] = go
    return ready


def _enter(stack: ExitStack, case: Case, stage: Stage, store: str) -> Callable[[float], Metrics]:
    return stack.enter_context(case.stand(stage, store))


def _attempt(case: Case, store: str, results: Results, action: Callable[[], Any]) -> Any:
    """Run one step of one store; its failure is a result to report, not the end of everybody's run."""
    try:
        return action()
    except Exception as error:
        _leave_out(case, store, f"failed: {type(error).__name__}: {_last_line(error)}", results)
        return None


def _last_line(error: Exception) -> str:
    """Return the end of an error's text: of a worker's traceback that is what happened."""
    return (str(error).strip().splitlines() or [""])[-1][-300:]


def _leave_out(case: Case, store: str, reason: str, results: Results) -> None:
    results.left_out.append({"workload": case.workload, "case": case.name, "store": store, "why": reason})
