"""The judge is judged first: histories it must reject, histories it must accept."""

from __future__ import annotations

import itertools
import random

import pytest

from .linearizable import LOG, PENDING, STEPS, Op, Rejected, State, check, frozen


def ops(*rows: tuple) -> list[Op]:
    """Return a history of (process, call, back, kind, args, result)."""
    return [Op(*row) for row in rows]


def wrote(n: int, w: str) -> dict:
    """Return what an update that made the counter `n` answers."""
    return {"n": n, "w": w}


def said(*tokens: str) -> dict:
    """Return what an append answers that added the last of these items."""
    return {"w": tokens[-1], LOG: ",".join(tokens)}


REJECTED = {
    "a lost item: two appends both answered that theirs is the only one": ops(
        (1, 0, 3, "append", {"w": "a"}, said("a")),
        (2, 1, 4, "append", {"w": "b"}, said("b")),
    ),
    "an item that is seen before one that was acknowledged earlier": ops(
        (1, 0, 1, "append", {"w": "a"}, said("a")),
        (1, 2, 3, "append", {"w": "b"}, said("b", "a")),
    ),
    "fields of one commit beside the log of another": ops(
        (1, 0, 1, "append", {"w": "a"}, said("a")),
        (1, 2, 3, "append", {"w": "b"}, said("a", "b")),
        (2, 4, 5, "get", {}, {"w": "b", LOG: "a"}),
    ),
    "a log that lacks an acknowledged item": ops(
        (1, 0, 1, "append", {"w": "a"}, said("a")),
        (1, 2, 3, "append", {"w": "b"}, said("a", "b")),
        (2, 4, 5, "log", {}, ["a"]),
    ),
    "a log in the order that nobody wrote": ops(
        (1, 0, 1, "append", {"w": "a"}, said("a")),
        (1, 2, 3, "append", {"w": "b"}, said("a", "b")),
        (2, 4, 5, "log", {}, ["b", "a"]),
    ),
    "an item that was cut and comes back": ops(
        (1, 0, 1, "append", {"w": "a"}, said("a")),
        (1, 2, 3, "append", {"w": "b"}, said("a", "b")),
        (2, 4, 5, "cut", {"w": "c"}, {"w": "c", LOG: "a"}),
        (3, 6, 7, "get", {}, {"w": "c", LOG: "a,b"}),
    ),
    "a lost update: two increments both answered 1": ops(
        (1, 0, 3, "update", {"w": "a"}, wrote(1, "a")),
        (2, 1, 4, "update", {"w": "b"}, wrote(1, "b")),
    ),
    "a stale read: an acknowledged increment is not seen by a later get": ops(
        (1, 0, 1, "update", {"w": "a"}, wrote(1, "a")),
        (1, 2, 3, "update", {"w": "b"}, wrote(2, "b")),
        (2, 4, 5, "get", {}, wrote(1, "a")),
    ),
    "two reads that go back in time": ops(
        (1, 0, 1, "update", {"w": "a"}, wrote(1, "a")),
        (1, 2, 9, "update", {"w": "b"}, wrote(2, "b")),
        (2, 3, 4, "get", {}, wrote(2, "b")),
        (3, 5, 6, "get", {}, wrote(1, "a")),
    ),
    "an update that comes back after its delete": ops(
        (1, 0, 1, "update", {"w": "a"}, wrote(1, "a")),
        (1, 2, 3, "delete", {}, True),
        (2, 4, 5, "get", {}, wrote(1, "a")),
    ),
    "an update of a killed process that is seen, gone, and seen again": ops(
        (1, 0, 1, "update", {"w": "a"}, wrote(1, "a")),
        (2, 2, PENDING, "update", {"w": "b"}, None),
        (3, 3, 4, "get", {}, wrote(2, "b")),
        (3, 5, 6, "get", {}, wrote(1, "a")),
        (3, 7, 8, "get", {}, wrote(2, "b")),
    ),
    "a value that nobody wrote": ops((1, 0, 1, "get", {}, wrote(7, "ghost"))),
    "a mixture of two versions": ops(
        (1, 0, 1, "patch", {"w": "a", "fields": {"x": 1, "y": 1}}, {"x": 1, "y": 1, "w": "a"}),
        (1, 2, 3, "patch", {"w": "b", "fields": {"x": 2, "y": 2}}, {"x": 2, "y": 2, "w": "b"}),
        (2, 0, 9, "get", {}, {"x": 2, "y": 1, "w": "b"}),
    ),
    "a patch that undid a field it did not name": ops(
        (1, 0, 1, "patch", {"w": "a", "fields": {"x": 1}}, {"x": 1, "w": "a"}),
        (2, 2, 3, "patch", {"w": "b", "fields": {"y": 1}}, {"y": 1, "w": "b"}),
    ),
    "two creators that both won": ops(
        (1, 0, 3, "create", {"w": "a", "fields": {}}, {"w": "a"}),
        (2, 1, 4, "create", {"w": "b", "fields": {}}, {"w": "b"}),
    ),
    "two deleters that both won": ops(
        (1, 0, 1, "create", {"w": "a", "fields": {}}, {"w": "a"}),
        (1, 2, 4, "delete", {}, True),
        (2, 2, 4, "delete", {}, True),
    ),
    "a replace that passed on an old version": ops(
        (1, 0, 1, "create", {"w": "a", "fields": {}}, {"w": "a"}),
        (1, 2, 3, "patch", {"w": "b", "fields": {"x": 1}}, {"x": 1, "w": "b"}),
        (2, 4, 5, "replace", {"w": "c", "fields": {}, "expect": "a"}, {"w": "c"}),
    ),
    "a conflict that had no reason": ops(
        (1, 0, 1, "create", {"w": "a", "fields": {}}, {"w": "a"}),
        (2, 4, 5, "replace", {"w": "c", "fields": {}, "expect": "a"}, "Conflict"),
    ),
    "a call that timed out and yet happened": ops(
        (1, 0, 1, "update", {"w": "a"}, wrote(1, "a")),
        (2, 2, 3, "update", {"w": "b"}, "LockTimeout"),
        (1, 4, 5, "get", {}, wrote(2, "b")),
    ),
    "an update that took effect before it was called": ops(
        (1, 0, 1, "get", {}, wrote(1, "a")),
        (2, 2, 3, "update", {"w": "a"}, wrote(1, "a")),
    ),
}

ACCEPTED = {
    "nothing at all": ops(),
    "one after the other": ops(
        (1, 0, 1, "update", {"w": "a"}, wrote(1, "a")),
        (2, 2, 3, "update", {"w": "b"}, wrote(2, "b")),
        (1, 4, 5, "get", {}, wrote(2, "b")),
    ),
    "overlapping updates in the order opposite to their calls": ops(
        (1, 0, 9, "update", {"w": "a"}, wrote(2, "a")),
        (2, 1, 8, "update", {"w": "b"}, wrote(1, "b")),
    ),
    "a log that is read during a cut, before and after it": ops(
        (1, 0, 1, "append", {"w": "a"}, said("a")),
        (1, 2, 3, "append", {"w": "b"}, said("a", "b")),
        (2, 4, 9, "cut", {"w": "c"}, {"w": "c", LOG: "a"}),
        (3, 5, 6, "log", {}, ["a", "b"]),
        (3, 7, 8, "log", {}, ["a"]),
    ),
    "a read during a write that sees the old or the new": ops(
        (1, 0, 1, "update", {"w": "a"}, wrote(1, "a")),
        (1, 2, 9, "update", {"w": "b"}, wrote(2, "b")),
        (2, 3, 4, "get", {}, wrote(1, "a")),
        (3, 5, 6, "get", {}, wrote(2, "b")),
    ),
    "a killed update that never happened": ops(
        (1, 0, 1, "update", {"w": "a"}, wrote(1, "a")),
        (2, 2, PENDING, "update", {"w": "b"}, None),
        (1, 3, 4, "get", {}, wrote(1, "a")),
    ),
    "a killed update that happened later than others": ops(
        (2, 0, PENDING, "update", {"w": "b"}, None),
        (1, 3, 4, "update", {"w": "a"}, wrote(1, "a")),
        (1, 5, 6, "get", {}, wrote(2, "b")),
    ),
    "delete and make again": ops(
        (1, 0, 1, "create", {"w": "a", "fields": {}}, {"w": "a"}),
        (1, 2, 5, "delete", {}, True),
        (2, 3, 7, "create", {"w": "b", "fields": {}}, {"w": "b"}),
        (3, 8, 9, "replace", {"w": "c", "fields": {}, "expect": "a"}, "Conflict"),
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_rejects(name: str) -> None:
    """No order explains it, so the checker must not find one."""
    with pytest.raises(Rejected):
        check(REJECTED[name])


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepts(name: str) -> None:
    """Some order explains it, so the checker must find one."""
    check(ACCEPTED[name])


def test_the_order_it_names_explains_the_answers() -> None:
    """What check returns can be replayed one at a time and gives every answer of the history."""
    history = sorted(ACCEPTED["overlapping updates in the order opposite to their calls"], key=lambda o: o.call)
    state: State = None
    for i in check(history):
        state, answer = STEPS[history[i].kind](state, history[i].args)
        assert answer == history[i].result


def simulated(rng: random.Random, clients: int, length: int) -> list[Op]:
    """Return a true history: random intervals around random instants, some of which never answer."""
    rows, state, token = [], None, itertools.count()
    ready = [0.0] * clients
    for instant in range(1, length + 1):
        client = rng.randrange(clients)
        kind = rng.choice(["get", "update", "update", "patch", "replace", "create", "delete"])
        w = f"t{next(token)}"
        args: dict = {"w": w, "fields": {rng.choice("xyz"): w}, "expect": dict(state or ()).get("w", "none")}
        call = max(ready[client], instant - rng.random() * 5)
        if call >= instant:
            continue
        state, answer = STEPS[kind](state, args)
        back = instant + rng.random() * 5
        if rng.random() < 0.05:
            rows.append(Op(client, call, PENDING, kind, args, None))
            ready[client] = instant + 0.001
            continue
        rows.append(Op(client, call, back, kind, args, answer))
        ready[client] = back
    return rows


def test_true_histories_are_accepted_and_their_forgeries_rejected() -> None:
    """In 60 made histories of 150 operations none is refused; change one answer and none is accepted."""
    rng = random.Random(4)
    forged = 0
    for _ in range(60):
        history = simulated(rng, 6, 150)
        check(history)
        answered = [i for i, o in enumerate(history) if isinstance(o.result, dict) and "w" in o.result]
        if not answered:
            continue
        i = rng.choice(answered)
        o = history[i]
        lie = Op(o.process, o.call, o.back, o.kind, o.args, {**o.result, "n": o.result.get("n", 0) + 1000})
        with pytest.raises(Rejected):
            check([*history[:i], lie, *history[i + 1 :]])
        forged += 1
    assert forged > 40


def test_the_search_agrees_with_trying_every_order() -> None:
    """On 400 small histories, true and spoiled, the verdict is that of brute force."""
    rng = random.Random(7)
    verdicts = {True: 0, False: 0}
    for _ in range(400):
        history = simulated(rng, 3, 6)
        if history and rng.random() < 0.6:
            i = rng.randrange(len(history))
            o, other = history[i], rng.choice(history)
            history[i] = Op(o.process, o.call, o.back, o.kind, o.args, other.result if not o.pending else None)
        expected = any_order_explains(history)
        verdicts[expected] += 1
        try:
            check(history)
            found = True
        except Rejected:
            found = False
        assert found == expected, history
    assert min(verdicts.values()) > 50


def any_order_explains(history: list[Op]) -> bool:
    """Try every order of every subset that holds all answered operations."""
    must = [o for o in history if not o.pending]
    may = [o for o in history if o.pending]
    for r in range(len(may) + 1):
        for extra in itertools.combinations(may, r):
            for order in itertools.permutations(must + list(extra)):
                if all(a.call <= b.back for a, b in itertools.combinations(order, 2)) and explains(order):
                    return True
    return False


def explains(order: tuple[Op, ...]) -> bool:
    """Return whether the operations in this order give their answers."""
    state = frozen(None)
    for o in order:
        state, answer = STEPS[o.kind](state, o.args)
        if not o.pending and answer != o.result:
            return False
    return True
