"""draft.log: any sequence of what it offers equals the same on a list; the middle stays closed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardstore import InvalidEntry, Store
from tests.contract.log_items import fill, message


def test_a_draft_log_behaves_as_a_list_at_its_ends(store: Store) -> None:
    """append, extend, pop, item assignment, cuts, drops, whole replacement."""
    store.append("k", [1, 2, 3])
    with store.edit("k") as draft:
        log = draft.log
        log.append(4)
        log.extend([5, 6])
        assert log.pop() == 6
        log[0] = "one"
        log[-1] = "five"
        log += [7]
        assert (len(log), log[:], log[1], list(log), 3 in log) == (6, ["one", 2, 3, 4, "five", 7], 2, log[:], True)
        del log[4:]
        del log[:1]
        assert log == [2, 3, 4]
    assert draft.session.log == [2, 3, 4]
    assert draft.session.log.dropped == 1
    with store.edit("k") as draft:
        draft.log[:] = ["summary", *draft.log[-1:]]
    assert draft.session.log == ["summary", 4]
    with store.edit("k") as draft:
        draft.log.clear()
    assert draft.session.log == []


def test_the_middle_is_closed(store: Store) -> None:
    """Inserting and deleting in the middle are TypeErrors; the same calls at the ends are not."""
    store.append("k", [0, 1, 2, 3])
    with store.edit("k") as draft:
        for closed in (
            lambda log: log.insert(1, "x"),
            lambda log: log.__delitem__(2),
            lambda log: log.__delitem__(slice(1, 3)),
            lambda log: log.__delitem__(slice(None, None, 2)),
            lambda log: log.__setitem__(slice(1, 2), [7, 8]),
            lambda log: log.pop(1),
        ):
            with pytest.raises(TypeError, match="middle"):
                closed(draft.log)
        assert draft.log == [0, 1, 2, 3]
        draft.log.insert(4, 4)
        del draft.log[0]
        del draft.log[-1]
        draft.log[1:3] = ["b", "c"]
        draft.log[2:] = ["d", "e"]
        with pytest.raises(IndexError):
            draft.log[9]
        with pytest.raises(IndexError):
            del draft.log[9]
    assert draft.session.log == [1, "b", "d", "e"]
    with store.edit("k") as draft:
        draft.log.clear()
        with pytest.raises(IndexError):
            draft.log.pop()


def test_keep_keeps_ids_and_who_added_what(store: Store) -> None:
    """The items at some places stay what they are, in the order given."""
    store.using(actor="first").append("k", list("abcdef"), ids=list("123456"))
    with store.using(actor="second").edit("k") as draft:
        draft.log.keep([0, 4, 5])
        assert draft.log.append("again", id="1") is False
        assert draft.log.append("b", id="2") is True
    log = draft.session.log
    assert (log[:], log.ids()) == (["a", "e", "f", "b"], ["1", "5", "6", "2"])
    assert [entry.actor for entry in log.entries()] == ["first", "first", "first", "second"]
    with store.edit("k") as draft:
        draft.log.keep([-1])
        with pytest.raises(ValueError, match="once"):
            draft.log.keep([0, 0])
    assert draft.session.log == ["b"]
    with store.edit("k") as draft:
        draft.log.keep([])
    assert draft.session.log == []


def test_an_exception_writes_nothing(store: Store) -> None:
    """The log stays as it was."""
    store.append("k", [1])
    with pytest.raises(ZeroDivisionError), store.edit("k") as draft:
        draft.log.append(1 / 0)
    with pytest.raises(InvalidEntry, match=r"log\[1\]"), store.edit("k") as draft:
        draft.log.append({1, 2})
    assert store["k"].log == [1]


def test_settled_items_can_be_replaced_cut_and_dropped(store: Store) -> None:
    """The same on items that stand in the log's file."""
    fill(store, "k", 700)
    model: list[Any] = [message(n, 1_000) for n in range(700)]
    for change in (
        lambda log: log.__setitem__(3, "three"),
        lambda log: log.__delitem__(slice(None, 2)),
        lambda log: log.__setitem__(0, "two"),
        lambda log: log.__delitem__(slice(500, None)),
        lambda log: log.append("end"),
        lambda log: log.__setitem__(slice(100, None), [message(n, 1_000) for n in range(600)]),
        lambda log: log.__setitem__(slice(None), ["s", *log[-300:]]),
        lambda log: log.__delitem__(slice(None, 150)),
    ):
        with store.edit("k") as draft:
            change(draft.log)
        change(model)
        assert store["k"].log[:] == model
        assert store["k"].log[-5:] == model[-5:]


NUMBERS = st.integers(-3, 12)
OPERATIONS = st.one_of(
    st.tuples(st.just("append"), st.integers(-9, 9)),
    st.tuples(st.just("extend"), st.lists(st.integers(-9, 9), max_size=4)),
    st.tuples(st.just("pop")),
    st.tuples(st.just("set"), NUMBERS, st.text(max_size=3)),
    st.tuples(st.just("cut"), NUMBERS),
    st.tuples(st.just("drop"), NUMBERS),
    st.tuples(st.just("whole"), st.lists(st.integers(-9, 9), max_size=5)),
    st.tuples(st.just("keep"), st.sets(st.integers(0, 11))),
    st.tuples(st.just("big"), st.integers(1, 4)),
    st.tuples(st.just("commit")),
)


def run(log: Any, operation: tuple[Any, ...]) -> None:
    """Apply one operation to a list, or to a draft's log."""
    name, *args = operation
    if name in ("append", "extend"):
        getattr(log, name)(*args)
    elif name == "pop":
        if len(log):
            log.pop()
    elif name == "set":
        if len(log):
            log[args[0] % len(log)] = args[1]
    elif name == "cut":
        del log[args[0] :]
    elif name == "drop":
        del log[: args[0]]
    elif name == "whole":
        log[:] = args[0]
    elif name == "big":
        log.extend([f"{n}" * 70_000 for n in range(args[0])])
    elif name == "keep":
        places = sorted(place for place in args[0] if place < len(log))
        if isinstance(log, list):
            log[:] = [log[place] for place in places]
        else:
            log.keep(places)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(OPERATIONS, max_size=25))
def test_any_sequence_of_operations_equals_a_list(store: Store, operations: list[tuple[Any, ...]]) -> None:
    """In one commit or in many, settled or not, a log holds what a list would."""
    quick = store.using(durability="relaxed")
    quick.delete("k")
    quick.create("k", {})
    model: list[Any] = []
    pending: list[tuple[Any, ...]] = []
    for operation in [*operations, ("commit",)]:
        if operation[0] != "commit":
            pending.append(operation)
            run(model, operation)
            continue
        with quick.edit("k") as draft:
            for one in pending:
                run(draft.log, one)
            assert draft.log[:] == model
        pending = []
        log = quick["k"].log
        assert log[:] == model
        assert [entry.index for entry in log.entries()] == list(range(len(model)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(0, 12),
    places=st.lists(st.tuples(*[st.none() | st.integers(-15, 15)] * 2, st.none() | st.integers(-4, 4).filter(bool))),
)
def test_slices_equal_list_slices(store: Store, count: int, places: list[tuple[Any, Any, Any]]) -> None:
    """Any slice of a log that is partly settled is that of a list."""
    quick = store.using(durability="relaxed")
    quick.delete("k")
    model = [str(n) * (60_000 if n % 3 else 2) for n in range(count)]
    for item in model:
        quick.append("k", [item])
    log = (quick.get("k") or quick.create("k", {})).log
    for start, stop, step in places:
        assert log[start:stop:step] == model[start:stop:step]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["append", "pop", "drop", "big"]), st.lists(st.sampled_from("abcdefgh"), max_size=4)),
        max_size=20,
    )
)
def test_ids_are_a_set(store: Store, steps: list[tuple[str, list[str]]]) -> None:
    """An id is known exactly while an item with it stands; a retry never adds a second one."""
    quick = store.using(durability="relaxed")
    quick.delete("k")
    quick.create("k", {})
    model: list[str | None] = []
    for action, names in steps:
        if action == "append":
            quick.append("k", [f"item {name}" for name in names], ids=names)
            model += [name for name in dict.fromkeys(names) if name not in model]
        elif action == "big":
            quick.append("k", ["x" * 300_000])
            model.append(None)
        else:
            with quick.edit("k") as draft:
                if action == "pop" and model:
                    draft.log.pop()
                    model.pop()
                elif action == "drop":
                    del draft.log[: len(names)]
                    del model[: len(names)]
        log = quick["k"].log
        assert log.ids() == model
        for name in "abcdefgh":
            assert log.find(name) == (model.index(name) if name in model else None)
