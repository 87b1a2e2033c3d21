"""Opening, closing and sharing a store."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from shardstore import ShardStoreError, Store, StoreClosed, StoreNotFound, UnsafeStore, UnsupportedFormat
from tests.contract.backend import Backend, open_at

CALLS = {
    "get": lambda store: store.get("k"),
    "[]": lambda store: store["k"],
    "in": lambda store: "k" in store,
    "len": len,
    "iter": list,
    "list": lambda store: store.list(),
    "count": lambda store: store.count(),
    "history": lambda store: store.history("k"),
    "create": lambda store: store.create("new", {}),
    "get_or_create": lambda store: store.get_or_create("new", {}),
    "update": lambda store: store.update("k", lambda draft: draft.update(a=2)),
    "patch": lambda store: store.patch("k", {"a": 2}),
    "edit": lambda store: store.edit("k").__enter__(),
    "replace": lambda store: store.replace("k", {}),
    "delete": lambda store: store.delete("k"),
    "compact": lambda store: store.compact(),
    "verify": lambda store: store.verify(),
    "stats": lambda store: store.stats(),
    "restore": lambda store: store.archive.restore("k"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_store_refuses_every_verb(store: Store, store_factory, backend: Backend, name: str) -> None:
    """After close every verb raises StoreClosed and nothing is written; other Store objects work on."""
    other = store_factory()
    store.create("k", {"a": 1})
    store.close()
    before = backend.written()
    with pytest.raises(StoreClosed):
        CALLS[name](store)
    assert backend.written() == before
    assert other.patch("k", {"a": 3}).rev == 2


def test_closing_twice_is_fine(store: Store) -> None:
    """close can be called again, and after a with statement."""
    store.close()
    store.close()


def test_a_store_is_a_context_manager(store_factory) -> None:
    """The with statement gives the store itself and closes it, also after an error, which passes through."""
    with store_factory() as store:
        store.create("k", {"a": 1})
    with pytest.raises(StoreClosed):
        store.get("k")
    with pytest.raises(ZeroDivisionError), store_factory() as store:
        1 / 0
    with pytest.raises(StoreClosed):
        store.get("k")


def test_closing_while_another_thread_updates(store: Store, store_factory) -> None:
    """An update that is under way when its store is closed either commits or raises StoreClosed; never in between."""
    store.create("k", {"n": 0})
    outcomes: list[int] = []
    begun = threading.Event()

    def work() -> None:
        done = 0
        try:
            while True:
                done = store.patch("k", {"n": done + 1})["n"]
                begun.set()
        except StoreClosed:
            outcomes.append(done)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(10)
    store.close()
    thread.join(10)
    assert not thread.is_alive()
    assert store_factory()["k"]["n"] == outcomes[0]


def test_every_open_store_sees_the_same_sessions(store_factory) -> None:
    """Any number of Store objects on one store show one truth."""
    one, two, three = store_factory(), store_factory(durability="relaxed"), store_factory(actor="x")
    one.create("a", {"n": 1})
    two.patch("a", {"n": 2})
    three.create("b", {})
    for store in (one, two, three):
        assert store["a"]["n"] == 2
        assert sorted(store) == ["a", "b"]


def test_an_unknown_durability_is_refused(store_factory) -> None:
    """A misspelt durability is an error, not the weaker or the slower one."""
    for wrong in ("Commit", "", "none", None, 1):
        with pytest.raises((ValueError, TypeError)):
            store_factory(durability=wrong)


def test_both_durabilities_may_be_mixed(store_factory) -> None:
    """One session may be written at both levels in turn."""
    commit, relaxed = store_factory(durability="commit"), store_factory(durability="relaxed")
    for n in range(1, 11):
        (commit if n % 2 else relaxed).patch("k", {"n": n})
    assert [session["n"] for session in commit.history("k")] == list(range(1, 11))


@pytest.mark.files
def test_a_store_is_made_on_first_use(tmp_path: Path) -> None:
    """The constructor makes the directory and its parents' last step; root tells where; both path types work."""
    for path in (tmp_path / "as path", str(tmp_path / "as text"), os.path.join(tmp_path, "deep", "er")):
        with Store(path) as store:
            assert store.root == Path(path)
            assert isinstance(store.root, Path)
            store.create("k", {})
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


@pytest.mark.files
def test_create_false_needs_a_store(tmp_path: Path) -> None:
    """With create=False a missing store is StoreNotFound, also FileNotFoundError, and nothing is made."""
    with pytest.raises(StoreNotFound) as caught:
        Store(tmp_path / "none", create=False)
    assert isinstance(caught.value, FileNotFoundError)
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreNotFound):
        Store(tmp_path / "empty", create=False)
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.files
def test_create_false_opens_an_existing_store(store: Store, backend: Backend) -> None:
    """With create=False an existing store opens as ever."""
    store.create("k", {"a": 1})
    with Store(backend.root, create=False) as again:
        assert again["k"].data == {"a": 1}


@pytest.mark.files
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"not json", b"[]", b"null", b'{"format": 999}', b'{"format":"shardstore","version":999}']
)
@pytest.mark.damages("the marker is not of this format")
def test_a_directory_of_another_format_is_refused(root: Path, content: bytes) -> None:
    """A marker that this version does not know is an error, and the directory is left as it was."""
    root.mkdir(mode=0o700)
    (root / "shardstore.json").write_bytes(content)
    with pytest.raises(UnsupportedFormat):
        Store(root)
    assert [path.name for path in root.iterdir()] == ["shardstore.json"]
    assert (root / "shardstore.json").read_bytes() == content


@pytest.mark.files
def test_a_file_is_not_a_store(tmp_path: Path) -> None:
    """A path that is a file is a clear error and the file is untouched."""
    path = tmp_path / "sessions.json"
    path.write_text('{"a": 1}')
    with pytest.raises((ShardStoreError, NotADirectoryError, FileExistsError)):
        Store(path)
    assert path.read_text() == '{"a": 1}'


@pytest.mark.files
def test_a_directory_with_other_things_in_it_is_not_taken_over(tmp_path: Path) -> None:
    """Opening a store on a directory full of somebody's files, without a marker, destroys none of them."""
    (tmp_path / "precious.txt").write_text("mine")
    try:
        Store(tmp_path, allow_shared=True).close()
    except ShardStoreError:
        pass
    assert (tmp_path / "precious.txt").read_text() == "mine"


@pytest.mark.files
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777, 0o720, 0o702])
@pytest.mark.damages("the root is open to others")
def test_a_store_that_others_can_write_is_refused(store: Store, backend: Backend, mode: int) -> None:
    """A root that the group or the world may write is UnsafeStore unless it is allowed by name."""
    store.create("k", {"a": 1})
    store.close()
    backend.root.chmod(mode)
    with pytest.raises(UnsafeStore) as caught:
        backend.open()
    assert isinstance(caught.value, PermissionError)
    assert str(backend.root) in str(caught.value)
    with backend.open(allow_shared=True) as shared:
        assert shared["k"].data == {"a": 1}


@pytest.mark.files
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a store away")
@pytest.mark.damages("the root belongs to somebody else")
def test_a_store_of_another_user_is_refused(store: Store, backend: Backend) -> None:
    """A root that belongs to another user is UnsafeStore unless it is allowed by name."""
    store.create("k", {"a": 1})
    store.close()
    os.chown(backend.root, 65534, 65534)
    with pytest.raises(UnsafeStore):
        backend.open()
    with backend.open(allow_shared=True) as shared:
        assert shared["k"].data == {"a": 1}


@pytest.mark.files
def test_a_store_that_vanished_is_not_made_again_by_a_write(store: Store, backend: Backend) -> None:
    """After the root was removed every write raises StoreNotFound and no directory comes back."""
    import shutil

    store.create("k", {"a": 1})
    shutil.rmtree(backend.root)
    for name in ("create", "get_or_create", "update", "patch", "edit", "replace", "delete"):
        with pytest.raises(StoreNotFound):
            CALLS[name](store)
        assert not backend.root.exists(), name


@pytest.mark.files
@pytest.mark.damages("the store is moved away")
def test_a_store_that_was_moved_is_not_made_again_by_a_write(store: Store, backend: Backend) -> None:
    """After the root was renamed a write through the old path neither re-creates it nor changes the moved store."""
    store.create("k", {"a": 1})
    moved = backend.root.with_name("moved")
    backend.root.rename(moved)
    with pytest.raises(StoreNotFound):
        store.patch("k", {"a": 2})
    with pytest.raises(StoreNotFound):
        store.create("new", {})
    assert not backend.root.exists()
    with Store(moved) as there:
        assert there["k"].data == {"a": 1}
        assert "new" not in there


@pytest.mark.processes
def test_concurrent_first_opens_make_one_store(backend: Backend, crew) -> None:
    """Processes that open a store which is not there yet, in the same instant, all get the same store."""
    for attempt in range(5):
        place = backend.another(f"sessions{attempt}")
        moment = time.monotonic() + 0.05
        crew(4).each(open_at, [(moment, place, f"k{n}") for n in range(4)])
        with place.open() as store:
            assert sorted(store) == ["k0", "k1", "k2", "k3"]
            assert store.verify().ok
