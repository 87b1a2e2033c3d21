"""A draft decodes what is touched, and commits what was changed."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from shardstore import DELETE
from shardstore._journal.replay import State
from shardstore.draft import Draft


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
