"""Whatever key and entry hypothesis thinks of: it comes back exactly, and the model and the store never part."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shardstore import DELETE, Conflict, SessionExists, SessionNotFound, Store
from tests.conftest import verify, working_directory
from tests.inputs.strategies import entries, keys, names, same, values
from tests.support import disk

QUICK = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def relaxed(root: Path) -> Iterator[Store]:
    """Yield a store that does not sync."""
    with Store(root, durability="relaxed") as store:
        yield store


@QUICK
@given(key=keys, entry=entries)
def test_any_entry_under_any_key_comes_back(relaxed: Store, root: Path, key: str, entry: dict[str, Any]) -> None:
    """What was created is what this process, another reader and a plain JSON reader of the file get."""
    relaxed.delete(key)
    assert same(relaxed.create(key, entry).data, entry)
    assert same(relaxed[key].data, entry)
    with Store(root) as fresh:
        assert same(fresh[key].data, entry)
    path = disk.shard(root, key)
    assert same(disk.state(path.read_bytes()), entry)
    assert path.parent.parent == root / "shards"
    assert len(path.name) <= 143


@QUICK
@given(before=entries, fields=entries, unset=st.lists(names, max_size=3))
def test_any_patch_does_what_a_dict_would(
    relaxed: Store, root: Path, before: dict[str, Any], fields: dict[str, Any], unset: list[str]
) -> None:
    """patch equals updating a dict and dropping names, order included, in the store and in the file."""
    unset = [name for name in unset if name not in fields]
    expected = {**before, **fields}
    for name in unset:
        expected.pop(name, None)
    relaxed.delete("k")
    relaxed.create("k", before)
    assert same(relaxed.patch("k", fields, unset=unset).data, expected)
    assert same(disk.state(disk.shard(root, "k").read_bytes()), expected)


@QUICK
@given(before=entries, after=entries)
def test_any_replacement_leads_exactly_there(
    relaxed: Store, root: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """replace, and a mapping that a mutator returns, lead to that entry, also in order, or are no change at all."""
    for replace in (lambda: relaxed.replace("k", after), lambda: relaxed.update("k", lambda draft: after)):
        relaxed.delete("k")
        relaxed.create("k", before)
        replace()
        got = relaxed["k"].data
        assert same(sorted(got.items()), sorted(after.items()))
        assert same(disk.state(disk.shard(root, "k").read_bytes()), got)
        if sorted(before) != sorted(after):
            assert list(got) == list(after)


class Model(RuleBasedStateMachine):
    """Two Store objects and a dict: every call must do to the store what it does to the dict."""

    KEYS = st.sampled_from(["a", "A", "agent:main:main", "é"])

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="shardstore-test-", dir=working_directory()))
        self.truth: dict[str, list[dict[str, Any]]] = {}  # every state of the present incarnation
        self.old: dict[str, str] = {}
        self.steps = 0

    @initialize(durability=st.sampled_from(["commit", "relaxed"]))
    def open(self, durability: Any) -> None:
        self.stores = [Store(self.base / "s", durability=durability), Store(self.base / "s", durability="relaxed")]

    def teardown(self) -> None:
        try:
            for store in getattr(self, "stores", []):
                store.close()
            if (self.base / "s").exists():
                verify(self.base / "s")
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    def _commit(self, key: str, entry: dict[str, Any]) -> None:
        past = self.truth.setdefault(key, [])
        if not past or not same(past[-1], entry):
            past.append(entry)

    which = st.sampled_from([0, 1])

    @rule(which=which, key=KEYS, entry=entries)
    def create(self, which: int, key: str, entry: dict[str, Any]) -> None:
        if key in self.truth:
            with pytest.raises(SessionExists):
                self.stores[which].create(key, entry)
        else:
            self.stores[which].create(key, entry)
            self._commit(key, entry)

    @rule(which=which, key=KEYS, fields=entries)
    def patch(self, which: int, key: str, fields: dict[str, Any]) -> None:
        self.stores[which].patch(key, fields)
        self._commit(key, {**self.truth.get(key, [{}])[-1], **fields})

    @rule(which=which, key=KEYS, name=names)
    def unset(self, which: int, key: str, name: str) -> None:
        if key in self.truth:
            self.stores[which].patch(key, {}, unset=[name])
            self._commit(key, {field: value for field, value in self.truth[key][-1].items() if field != name})
        else:
            with pytest.raises(SessionNotFound):
                self.stores[which].patch(key, {}, unset=[name], create=False)

    @rule(which=which, key=KEYS, name=names, value=values)
    def append(self, which: int, key: str, name: str, value: Any) -> None:
        """Change a nested value in place, or fail in the middle when it is no list."""
        now = self.truth.get(key, [{}])[-1]
        with self.stores[which].edit(key) as draft:
            if type(draft.get(name)) is list:
                draft[name].append(value)
                now = {**now, name: [*now[name], value]}
            else:
                draft[name] = [value]
                now = {**now, name: [value]}
        self._commit(key, now)

    @rule(which=which, key=KEYS, name=names)
    def fail(self, which: int, key: str, name: str) -> None:
        with pytest.raises(ZeroDivisionError), self.stores[which].edit(key) as draft:
            draft[name] = 1
            1 / 0

    @rule(which=which, key=KEYS)
    def delete(self, which: int, key: str) -> None:
        session = self.stores[which].get(key)
        if session is not None:
            self.old[key] = session.version
        assert self.stores[which].delete(key) is (self.truth.pop(key, None) is not None)

    @rule(which=which, key=KEYS)
    def delete_in_a_mutator(self, which: int, key: str) -> None:
        assert not self.stores[which].update(key, lambda draft: DELETE).exists
        self.truth.pop(key, None)

    @precondition(lambda self: bool(self.old))
    @rule(which=which, data=st.data())
    def stale_replace(self, which: int, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.old)))
        with pytest.raises(Conflict):
            self.stores[which].replace(key, {"stale": True}, expect=self.old[key])

    @rule(which=which)
    def reopen(self, which: int) -> None:
        self.stores[which].close()
        self.stores[which] = Store(self.base / "s", durability="relaxed")

    @rule(which=which)
    def compact(self, which: int) -> None:
        assert self.stores[which].compact().ok
        for past in self.truth.values():
            del past[:-1]  # compact may have shortened the history

    @invariant()
    def agree(self) -> None:
        self.steps += 1
        for store in getattr(self, "stores", [])[self.steps % 2 :]:
            for key in ("a", "A", "agent:main:main", "é"):
                session = store.get(key)
                if key not in self.truth:
                    assert session is None
                    assert store.history(key) == []
                else:
                    assert session is not None
                    assert same(session.data, self.truth[key][-1])
                    kept = [one.data for one in store.history(key)]
                    shorter = min(len(kept), len(self.truth[key]))
                    assert same(kept[-shorter:], self.truth[key][-shorter:])
            assert sorted(store) == sorted(self.truth)
            assert {info.key: info.rev for info in store.list()} == {key: store[key].rev for key in self.truth}


Model.TestCase.settings = settings(deadline=None, max_examples=12, stateful_step_count=20)
TestModel = Model.TestCase
