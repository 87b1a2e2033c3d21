"""Is a concurrent history of one session explained by some one-at-a-time order?

A Wing and Gong search with Lowe's memory of visited configurations.  An operation is an interval
[call, back] on a monotonic clock; it must appear to happen at one instant inside it.  The operation of
a process that was killed has no end: it may have happened at any later instant, or never.

The state of a session is None (absent) or a mapping of its fields.  Every write of a history carries a
token of its own in the field "w", so two versions are never mistaken for one another; `replace` and
`delete` name the version they expect by that token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

State = tuple[tuple[str, Any], ...] | None
"""A session's fields in sorted order (hashable), or None when it is absent."""

PENDING = math.inf


@dataclass(frozen=True)
class Op:
    """One call: who made it, when it began and came back, what was asked and what was answered.

    `back` is PENDING when no answer came.  `result` is the answer: for "get" the fields or None; for the
    writers the fields that the call returned; "delete" True or False; or the name of an error.
    """

    process: int
    call: float
    back: float
    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None

    @property
    def pending(self) -> bool:
        """True when the process died before an answer."""
        return self.back == PENDING


class Rejected(AssertionError):
    """No order explains the history.  Says how far the longest attempt came."""

    def __init__(self, key: str, ops: list[Op], best: list[int], stuck: State) -> None:
        """Keep the longest explainable order and the state in which it got stuck."""
        self.key, self.ops, self.best, self.stuck = key, ops, best, stuck
        done = set(best)
        rest = [o for i, o in enumerate(ops) if i not in done][:6]
        tail = [ops[i] for i in best[-4:]]
        super().__init__(
            f"{key}: {len(ops)} operations, {len(best)} explained; state then {stuck!r}; "
            f"the last explained {tail!r}; the first unexplained {rest!r}"
        )


class Undecided(Exception):
    """The search was given up: many calls without an answer leave too many orders to try."""


PATIENCE = 100_000
"""Configurations that a search visits at most; a minute or so, for each is as long as its history."""


def frozen(fields: Mapping[str, Any] | None) -> State:
    """Return the fields as a hashable state."""
    return None if fields is None else tuple(sorted(fields.items()))


Step = Callable[[Any, Mapping[str, Any]], tuple[Any, Any]]


LOG = "the log"
"""In a state: the tokens of the items of the session's log, separated by commas.  The other entries are its fields."""


def fields_of(state: State) -> dict[str, Any]:
    """Return a session's fields alone."""
    return {name: value for name, value in state or () if name != LOG}


def _log_of(state: State) -> list[str]:
    return [token for token in dict(state or ()).get(LOG, "").split(",") if token]


def _with_log(fields: Mapping[str, Any], log: list[str]) -> State:
    return frozen({**fields, LOG: ",".join(log)} if log else fields)


def _get(state: State, _args: Mapping[str, Any]) -> tuple[State, Any]:
    return state, None if state is None else dict(state)


def _read_log(state: State, _args: Mapping[str, Any]) -> tuple[State, Any]:
    """Read the items alone, as `store.log` does."""
    return state, "SessionNotFound" if state is None else _log_of(state)


def _fields(state: State, _args: Mapping[str, Any]) -> tuple[State, Any]:
    """Read the fields alone, as a list does."""
    return state, None if state is None else fields_of(state)


def _append(state: State, args: Mapping[str, Any]) -> tuple[State, Any]:
    """Add the token as an item, unless an item with that id is there, and set `w` beside it."""
    log = _log_of(state)
    if args["w"] in log:
        return state, dict(state or ())
    after = _with_log({**fields_of(state), "w": args["w"]}, [*log, args["w"]])
    return after, dict(after or ())


def _cut(state: State, args: Mapping[str, Any]) -> tuple[State, Any]:
    """Remove the newer half of the items; a session that is not there is made."""
    log = _log_of(state)
    after = _with_log({**fields_of(state), "w": args["w"]}, log[: len(log) // 2])
    return after, dict(after or ())


def _update(state: State, args: Mapping[str, Any]) -> tuple[State, Any]:
    """Add one to the counter `n`, leave the rest."""
    fields = fields_of(state)
    fields["n"] = fields.get("n", 0) + 1
    fields["w"] = args["w"]
    return _with_log(fields, _log_of(state)), fields


def _patch(state: State, args: Mapping[str, Any]) -> tuple[State, Any]:
    fields = {**fields_of(state), **args["fields"], "w": args["w"]}
    return _with_log(fields, _log_of(state)), fields


def _replace(state: State, args: Mapping[str, Any]) -> tuple[State, Any]:
    if state is None or dict(state).get("w") != args["expect"]:
        return state, "Conflict"
    fields = {**args["fields"], "w": args["w"]}
    return _with_log(fields, _log_of(state)), fields


def _create(state: State, args: Mapping[str, Any]) -> tuple[State, Any]:
    if state is not None:
        return state, "SessionExists"
    fields = {**args["fields"], "w": args["w"]}
    return frozen(fields), fields


def _delete(state: State, _args: Mapping[str, Any]) -> tuple[State, Any]:
    return None, state is not None


STEPS: dict[str, Step] = {
    "get": _get,
    "log": _read_log,
    "fields": _fields,
    "append": _append,
    "cut": _cut,
    "update": _update,
    "patch": _patch,
    "replace": _replace,
    "create": _create,
    "delete": _delete,
}


def never_happened(op: Op) -> bool:
    """Return whether the answer says that the call did nothing."""
    return op.result == "LockTimeout"


def check(
    ops: Iterable[Op], *, initial: Any = None, key: str = "", steps: Mapping[str, Step] | None = None
) -> list[int]:
    """Return one explaining order, as positions in `ops` sorted by call.  Raises Rejected when there is none, or Undecided."""
    history = sorted((o for o in ops if not never_happened(o)), key=lambda o: o.call)
    return _Search(history, key, STEPS if steps is None else steps).run(initial)


def together(keys: Iterable[str]) -> tuple[dict[str, Step], tuple[tuple[str, State], ...]]:
    """Return steps and the initial state for several sessions at once: each operation names its "key" in its arguments.

    "list" answers with the fields of all sessions that are there, at one instant.  Dearer than one key at a time.
    """

    def of_one(step: Step) -> Step:
        def on_all(state: Any, args: Mapping[str, Any]) -> tuple[Any, Any]:
            every = dict(state)
            after, answer = step(every[args["key"]], args)
            return tuple(sorted({**every, args["key"]: after}.items())), answer

        return on_all

    def listed(state: Any, _args: Mapping[str, Any]) -> tuple[Any, Any]:
        return state, {key: fields_of(fields) for key, fields in state if fields is not None}

    return {**{kind: of_one(step) for kind, step in STEPS.items()}, "list": listed}, tuple(
        sorted((k, None) for k in keys)
    )


class _Search:
    """Depth-first over which operation comes next; a configuration is met once (Lowe 2017)."""

    def __init__(self, ops: list[Op], key: str, steps: Mapping[str, Step]) -> None:
        self.ops, self.key, self.steps = ops, key, steps
        self.must = sum(not o.pending for o in ops)
        self.order: list[int] = []
        self.best: tuple[list[int], State] = ([], None)
        self.seen: set[tuple[int, State]] = set()

    def run(self, initial: State) -> list[int]:
        """Iterate instead of recursing: histories are thousands of operations long."""
        stack: list[tuple[int, State, int, Iterable[int]]] = [(0, initial, 0, iter(self._next(0)))]
        while stack:
            done, state, finished, candidates = stack[-1]
            if finished == self.must:
                return self.order
            for i in candidates:
                op = self.ops[i]
                after, answer = self.steps[op.kind](state, op.args)
                if not op.pending and answer != op.result:
                    continue
                mark = (done | 1 << i, after)
                if mark in self.seen:
                    continue
                self.seen.add(mark)
                if len(self.seen) > PATIENCE:
                    raise Undecided(f"{self.key}: {len(self.ops)} operations, {len(self.best[0])} explained so far")
                self.order.append(i)
                if len(self.order) > len(self.best[0]):
                    self.best = (list(self.order), after)
                stack.append((mark[0], after, finished + (not op.pending), iter(self._next(mark[0]))))
                break
            else:
                stack.pop()
                if stack:
                    self.order.pop()
        raise Rejected(self.key, self.ops, *self.best)

    def _next(self, done: int) -> list[int]:
        """Return the operations that may come next: called before any unfinished one came back."""
        first = (~done & (done + 1)).bit_length() - 1  # the first operation that is not placed yet
        limit, found = math.inf, []
        for i in range(first, len(self.ops)):
            op = self.ops[i]
            if op.call > limit:
                break
            if not done >> i & 1:
                found.append(i)
                limit = min(limit, op.back)
        # Those that answered first: a pending one is only needed where an answer demands it.
        return sorted((i for i in found if self.ops[i].call <= limit), key=lambda i: self.ops[i].back)
