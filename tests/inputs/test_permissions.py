"""Stores that may be read and not written, and stores of other people. As root these run in a child that gave root up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import ShardStoreError, Store, UnsafeStore
from tests.support import disk
from tests.support.peer import one_peer
from tests.support.readable import ReadableCopy

NOBODY = 65534


AsNobody = Callable[..., Any]


@pytest.fixture
def as_nobody(readable_copy: ReadableCopy) -> AsNobody:
    """Return a way to run a function in a process without privileges: permission bits do not bind root."""

    def run(function: Callable[..., Any], *args: Any) -> Any:
        with one_peer(cwd=readable_copy.place, **readable_copy.environment()) as peer:
            return peer.run(_give_up_root, function.__name__, *args)

    return run


def _give_up_root(name: str, *args: Any) -> Any:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return globals()[name](*args)


def _own(root: Path, *, writable: bool) -> None:
    """Hand the whole store to the user that the child will be, and take the right to write away."""
    os.chmod(root.parent, 0o755)
    for directory, _, files in os.walk(root, topdown=False):
        for name in files:
            _set(Path(directory, name), 0o600 if writable else 0o400)
        _set(Path(directory), 0o700 if writable else 0o500)


def _set(path: Path, mode: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    path.chmod(mode)


@pytest.fixture
def read_only(root: Path) -> Path:
    """Return a store with three sessions, one of them deleted, that its owner may only read."""
    with Store(root) as store:
        for n in range(3):
            store.create(f"k{n}", {"n": n, "status": "done"})
            store.patch(f"k{n}", {"m": n})
        store.delete("k2")
        store.list()  # makes the index
    _own(root, writable=False)
    return root


def _reads(root: str, options: dict[str, Any]) -> dict[str, Any]:
    """In a child: read everything that can be read."""
    with Store(root, create=False, **options) as store:
        return {
            "get": store["k0"].data,
            "absent": store.get("k2"),
            "in": "k1" in store,
            "history": [session.rev for session in store.history("k1")],
            "len": len(store),
            "iter": sorted(store),
            "list": sorted((info.key, info.fields["n"]) for info in store.list(where={"status": "done"})),
            "count": store.count(prefix="k"),
            "verify": store.verify().ok,
            "stats": store.stats().sessions,
        }


READ = {
    "get": {"n": 0, "status": "done", "m": 0},
    "absent": None,
    "in": True,
    "history": [1, 2],
    "len": 2,
    "iter": ["k0", "k1"],
    "list": [("k0", 0), ("k1", 1)],
    "count": 2,
    "verify": True,
    "stats": 2,
}


@pytest.mark.damages("the store may not be written by its owner")
@pytest.mark.parametrize("options", [{}, {"read_only": True}], ids=["as ever", "read_only=True"])
@pytest.mark.parametrize("index", ["present", "missing", "stale"])
def test_a_store_that_cannot_be_written_can_be_read(
    as_nobody: AsNobody, read_only: Path, options: dict[str, Any], index: str
) -> None:
    """Every reading verb works on a store without write permission, whatever state its index is in."""
    if index != "present":
        _own(read_only, writable=True)
        if index == "missing":
            shutil.rmtree(read_only / "index")
        else:
            with Store(read_only, allow_shared=True) as store:
                store.list()
                store.patch("k0", {"n": 5})
                store.patch("k0", {"n": 0})
        _own(read_only, writable=False)
    before = disk.fingerprint(read_only, without=())
    expected = {**READ, "history": [1, 2]}
    assert as_nobody(_reads, str(read_only), options) == expected
    assert disk.fingerprint(read_only, without=()) == before


def _writes(root: str) -> dict[str, str]:
    """In a child: try every writing verb; return the classes of what they raised."""
    outcomes = {}
    with Store(root, lock_timeout=2.0) as store:
        calls: dict[str, Callable[[], object]] = {
            "update": lambda: store.update("k0", lambda draft: draft.update(n=9)),
            "patch": lambda: store.patch("k0", {"n": 9}),
            "create": lambda: store.create("new", {}),
            "get_or_create": lambda: store.get_or_create("new", {}),
            "replace": lambda: store.replace("k0", {}),
            "delete": lambda: store.delete("k0"),
            "edit": lambda: store.edit("k0").__enter__(),
        }
        for name, call in calls.items():
            try:
                call()
                outcomes[name] = "written"
            except ShardStoreError as error:
                assert isinstance(error, OSError), error
                outcomes[name] = "refused"
        compact = store.prune(older_than=0)
        assert not compact.ok
        assert compact.skipped
        assert store["k0"].data == READ["get"]
    return outcomes


@pytest.mark.damages("the store may not be written by its owner")
def test_a_store_that_cannot_be_written_refuses_every_writer(as_nobody: AsNobody, read_only: Path) -> None:
    """Without write permission each writer raises a typed OSError at once (FileLock would wait for ever)."""
    before = disk.fingerprint(read_only)
    verbs = ("update", "patch", "create", "get_or_create", "replace", "delete", "edit")
    assert as_nobody(_writes, str(read_only)) == dict.fromkeys(verbs, "refused")
    assert disk.fingerprint(read_only) == before


def _one_unreadable(root: str) -> tuple[str, int, int]:
    """In a child: meet a shard without any permission among healthy ones."""
    with Store(root) as store:
        try:
            store.get("k0")
            outcome = "read"
        except ShardStoreError as error:
            assert isinstance(error, OSError)
            outcome = type(error).__name__
        try:
            store.patch("k0", {"n": 9})
            outcome += " written"
        except ShardStoreError:
            pass
        return outcome, store["k1"]["n"], store.patch("k1", {"n": 7}).rev


@pytest.mark.damages("a shard without permissions")
def test_an_unreadable_shard_is_an_error_and_not_an_absent_session(as_nobody: AsNobody, root: Path) -> None:
    """chmod 000 on one shard: that session is an error for readers and writers, the others work."""
    with Store(root) as store:
        store.create("k0", {"n": 0})
        store.create("k1", {"n": 1})
    _own(root, writable=True)
    disk.shard(root, "k0").chmod(0)
    outcome, seen, rev = as_nobody(_one_unreadable, str(root))
    assert outcome == "StoreIOError"
    assert (seen, rev) == (1, 2)


def _open_foreign(root: str) -> tuple[str, int]:
    """In a child: open a store that belongs to root, without and with leave."""
    try:
        Store(root, create=False)
        first = "opened"
    except UnsafeStore:
        first = "UnsafeStore"
    with Store(root, create=False, allow_shared=True) as store:
        return first, store["k"]["n"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a store of another user")
def test_a_store_of_another_user_is_opened_only_by_leave(as_nobody: AsNobody, root: Path) -> None:
    """Somebody else's readable store is UnsafeStore; with allow_shared it is read."""
    with Store(root) as store:
        store.create("k", {"n": 1})
    os.chmod(root.parent, 0o755)
    for directory, _, files in os.walk(root):
        os.chmod(directory, 0o755)
        for name in files:
            os.chmod(os.path.join(directory, name), 0o644)
    assert as_nobody(_open_foreign, str(root)) == ("UnsafeStore", 1)
