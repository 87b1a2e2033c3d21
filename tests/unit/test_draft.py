"""A draft decodes what is touched, and commits what was changed."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from shardstore import DELETE, InvalidEntry
from shardstore._journal.replay import State
from shardstore.draft import Draft, changed_fields, patcher


def draft(entry: dict[str, Any] | None) -> Draft:
    """Return a draft of a session with this entry, or of an absent one."""
    from shardstore import _codec as codec

    fields = None if entry is None else codec.encode_entry(entry)
    return Draft("k", State(fields=fields, key="k", rev=1 if entry is not None else 0))


def test_only_what_is_touched_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting one field of an entry decodes no other: an update costs what it touches, not what the entry weighs."""
    from shardstore import _codec as codec

    decoded: list[bytes] = []
    loads = codec.loads
    monkeypatch.setattr(codec, "loads", lambda raw: decoded.append(raw) or loads(raw))
    one = draft({"small": 1, "blob": ["x" * 1_000] * 10})
    one["small"] = 2
    assert "blob" in one
    assert len(one) == 2
    change = one.change()
    assert decoded == []
    assert change is not None
    assert change.changed == {"small": b"2"}
    assert change.removed == []
    assert not change.whole


CHANGES: list[tuple[str, Any, dict[str, bytes] | None, list[str]]] = [
    ("nothing", lambda d: None, None, []),
    ("read", lambda d: d["b"]["c"], None, []),
    ("same value", lambda d: d.update(a=1), None, []),
    ("other type", lambda d: d.update(a=1.0), {"a": b"1.0"}, []),
    ("new field", lambda d: d.update(z=None), {"z": b"null"}, []),
    ("removed", lambda d: d.pop("a"), {}, ["a"]),
    ("removed and set", lambda d: d.update(a=d.pop("a")), None, []),
    ("removed and set anew", lambda d: d.update(a=d.pop("a") + 1), {"a": b"2"}, []),
    ("new and removed", lambda d: (d.update(z=1), d.pop("z")), None, []),
    ("nested", lambda d: d["b"]["c"].append(2), {"b": b'{"c":[1,2]}'}, []),
    ("cleared", lambda d: d.clear(), {}, ["a", "b"]),
    ("both", lambda d: (d.pop("a"), d.update(z=1)), {"z": b"1"}, ["a"]),
]


@pytest.mark.parametrize(("name", "mutate", "changed", "removed"), CHANGES, ids=[row[0] for row in CHANGES])
def test_the_change_is_the_smallest(
    name: str, mutate: Any, changed: dict[str, bytes] | None, removed: list[str]
) -> None:
    """What is committed names the fields that differ from what is stored, and no others."""
    one = draft({"a": 1, "b": {"c": [1]}})
    mutate(one)
    change = one.change()
    if changed is None:
        assert change is None
    else:
        assert change is not None
        assert (change.changed, change.removed, change.whole, change.delete) == (changed, removed, False, False)


def test_an_absent_session_is_made_whole() -> None:
    """The first commit of a session is its whole entry, even an empty one."""
    for mutate, expected in ((lambda d: None, {}), (lambda d: d.update(a=1), {"a": b"1"})):
        one = draft(None)
        assert len(one) == 0
        mutate(one)
        change = one.change()
        assert change is not None
        assert (change.changed, change.whole) == (expected, True)


def test_delete_is_one_thing_everywhere() -> None:
    """DELETE keeps its identity through pickle, and speaks for itself."""
    assert pickle.loads(pickle.dumps(DELETE)) is DELETE
    assert "DELETE" in repr(DELETE)
    one = draft({"a": 1})
    one.accept(DELETE)
    change = one.change()
    assert change is not None
    assert change.delete
    absent = draft(None)
    absent.accept(DELETE)
    assert absent.change() is None


def test_drafts_compare_and_print_as_mappings() -> None:
    """A draft equals a dict with its fields, shows them, and cannot be a key."""
    one = draft({"a": 1})
    assert one == {"a": 1}
    assert one != {"a": 2}
    assert "'a': 1" in repr(one)
    with pytest.raises(TypeError):
        hash(one)


MUTATIONS: list[Any] = [
    lambda d: None,
    lambda d: d.update(a=5),
    lambda d: d.update(z=5, y=6),
    lambda d: d.pop("a"),
    lambda d: d.update(a=d.pop("a")),
    lambda d: (d.update(z=1), d.pop("z")),
    lambda d: (d.pop("a"), d.pop("b"), d.update(b=2, new=3)),
    lambda d: d["b"].update(c=2),
]


@pytest.mark.parametrize("entry", [{"a": 1, "b": {"c": [1]}}, {"b": {}, "a": None, "c": 3}])
@pytest.mark.parametrize("mutate", MUTATIONS, ids=range(len(MUTATIONS)))
def test_a_draft_is_a_dict_to_whoever_uses_it(entry: dict[str, Any], mutate: Any) -> None:
    """Names, order, length and membership are those of a dict with which the same was done."""
    one, plain = (
        draft(entry),
        {name: value.copy() if isinstance(value, dict) else value for name, value in entry.items()},
    )
    mutate(one)
    mutate(plain)
    assert one == plain
    assert dict(one) == plain
    assert len(one) == len(plain) == len([*one])
    for name in ("a", "b", "c", "z", "new"):
        assert (name in one) is (name in plain)
        assert one.get(name, 77) == plain.get(name, 77)
        if name not in plain:
            with pytest.raises(KeyError):
                del one[name]
    assert (one | {"a": 9}) == (plain | {"a": 9})
    one |= {"late": 1}
    assert one == plain | {"late": 1}


@pytest.mark.parametrize(
    ("new", "changed", "removed", "whole"),
    [
        ({"a": 1, "b": 2, "c": 3}, None, None, None),
        ({"a": 1, "b": 5, "c": 3}, {"b": b"5"}, [], False),
        ({"a": 1, "c": 3}, {}, ["b"], False),
        ({"a": 1, "c": 4, "d": 5}, {"c": b"4", "d": b"5"}, ["b"], False),
        ({"d": 5, "a": 1, "b": 2, "c": 3}, {"d": b"5", "a": b"1", "b": b"2", "c": b"3"}, [], True),
        ({"b": 2, "a": 5, "c": 3}, {"b": b"2", "a": b"5", "c": b"3"}, [], True),
        ({}, {}, ["a", "b", "c"], False),
    ],
)
def test_a_replacement_is_the_smallest_change_that_keeps_the_order(
    new: dict[str, Any], changed: dict[str, bytes] | None, removed: list[str] | None, whole: bool | None
) -> None:
    for give in ("returned", "replace"):
        one = draft({"a": 1, "b": 2, "c": 3})
        one.accept(new) if give == "returned" else one.replace(new)
        change = one.change()
        if changed is None:
            assert change is None
        else:
            assert change is not None
            assert (change.changed, [*change.changed], change.removed) == (changed, [*changed], removed)
            assert (change.whole, change.delete, change.log) == (whole, False, None)
    absent = draft(None)
    absent.replace(new)
    change = absent.change()
    assert change is not None
    assert (change.whole, change.delete) == (True, False)


def test_a_deleted_draft_says_so() -> None:
    """By `delete`, or by DELETE; the change is a delete and nothing else."""
    for give in (lambda d: d.delete(), lambda d: d.accept(DELETE)):
        one = draft({"a": 1})
        assert not one.is_deleted
        give(one)
        assert one.is_deleted
        change = one.change()
        assert change is not None
        assert (change.changed, change.removed, change.whole, change.delete, change.log) == ({}, [], False, True, None)


def test_a_draft_has_one_log() -> None:
    """What is appended to it is committed beside the fields, and alone where those stay; a delete ends it."""
    one = draft({"a": 1})
    one.log.append("x")
    assert one.log is one.log
    change = one.change()
    assert change is not None
    assert change.log is not None
    assert [raw for raw, *_ in change.log.add] == [b'"x"']
    assert (change.changed, change.removed, change.whole, change.delete) == ({}, [], False, False)
    one["a"] = 2
    change = one.change()
    assert change is not None
    assert (change.changed, change.log is None) == ({"a": b"2"}, False)
    one.delete()
    change = one.change()
    assert change is not None
    assert (change.delete, change.log) == (True, None)
    untouched = draft({"a": 1})
    assert len(untouched.log) == 0
    assert untouched.change() is None


def test_a_coroutine_is_no_mutators_answer() -> None:
    """It is closed: Python would warn that it was never awaited, wherever that is noticed, and fail this test."""

    async def later() -> None: ...

    with pytest.raises(TypeError, match="cannot be a coroutine"):
        draft({"a": 1}).accept(later())


def test_what_a_mutator_may_return() -> None:
    """A value of the entry itself is refused: it was meant for something else."""
    for name in ("b", "new"):
        one = draft({"a": 1, "b": {"c": 1}, "text": "x"})
        value = one.setdefault(name, {"fresh": 1})
        with pytest.raises(TypeError, match="own values"):
            one.accept(value)
    one = draft({"a": 1, "b": {"c": 1}})
    first, one["b"] = one["b"], {"c": 2}
    with pytest.raises(TypeError, match="own values"):
        one.accept(first)
    for wrong in (5, "text", [("a", 1)]):
        with pytest.raises(TypeError, match="a mutator returns"):
            one.accept(wrong)
    with pytest.raises(TypeError, match="mapping"):
        one.replace([("a", 1)])  # type: ignore[arg-type]
    one.accept({"c": 1})
    change = one.change()
    assert change is not None
    assert change.changed == {"c": b"1"}


def test_names_that_are_no_text_are_refused() -> None:
    """At once where it is no str; when it is committed where it is one that JSON cannot hold."""
    one = draft({"a": 1})
    with pytest.raises(InvalidEntry, match="field name"):
        one[7] = 1  # type: ignore[index]
    one["\ud800"] = 1
    with pytest.raises(InvalidEntry, match="surrogate"):
        one.change()


def test_a_patch_finds_what_a_draft_finds() -> None:
    """`changed_fields` and `patcher` name the same fields, and refuse the same names."""
    from shardstore import _codec as codec

    state = State(fields=codec.encode_entry({"a": 1, "b": [2]}), key="k", rev=1)
    for fields, changed in (
        ({}, {}),
        ({"a": 1}, {}),
        ({"a": 1.0}, {"a": b"1.0"}),
        ({"b": [2], "new": None}, {"new": b"null"}),
    ):
        assert changed_fields(state, fields) == changed
        one = Draft("k", state)
        patcher(fields, ())(one)
        change = one.change()
        assert ({} if change is None else change.changed) == changed
    for name in (7, "\ud800"):
        with pytest.raises(InvalidEntry, match="field name"):
            changed_fields(state, {name: 1})  # type: ignore[dict-item]
    for unset in ("a", ["a", "gone"], iter(["a"])):
        one = Draft("k", state)
        patcher({"c": 1}, unset)(one)
        assert one == {"b": [2], "c": 1}
    with pytest.raises(InvalidEntry) as caught:
        patcher({"a": 1, "b": 2}, ["c", "b", "a"])
    assert caught.value.path == "entry['b']"
    with pytest.raises(InvalidEntry, match="not a mapping"):
        patcher([("a", 1)], ())  # type: ignore[arg-type]
