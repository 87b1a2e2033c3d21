"""Indexed fields, cursors, fields of any size and warnings, as a user of a Store meets them."""

from __future__ import annotations

import copy
import json
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import pytest

from shardstore import DamagedSessions, InvalidQuery, SessionInfo, Store, UnknownField
from tests.index import moves
from tests.support import disk
from tests.support.peer import one_peer


def fill(store: Store, count: int = 30) -> None:
    for n in range(count):
        store.create(f"k{n:02}", {"n": n % 7, "status": ["idle", "running", None][n % 3], "text": "x" * (n * 400)})


# Settings


def test_indexed_is_a_setting_of_the_store(root: Path) -> None:
    """None: as the store has it; the same set in any order; others are refused, and the error names what changes them."""
    Store(root, indexed=["status", "n"]).close()
    for same in (None, ["n", "status"], ("status", "n", "n")):
        Store(root, indexed=same).close()
    for other in ([], ["n"], ["n", "status", "x"]):
        with pytest.raises(ValueError, match="reindex"):
            Store(root, indexed=other)
    assert json.loads((root / "shardstore.json").read_text())["shardstore"]["indexed"] == ["status", "n"]


@pytest.mark.parametrize("wrong", ["status", [1], ["\ud800"], [f"f{n}" for n in range(65)]])
def test_what_is_no_list_of_names_is_refused(root: Path, wrong: Any) -> None:
    """Before a store is made, and before one is changed."""
    with pytest.raises(ValueError, match="indexed"):
        Store(root, indexed=wrong)
    assert not root.exists()
    with Store(root) as store, pytest.raises(ValueError, match="indexed"):
        store.reindex(wrong)


def test_every_process_follows_a_reindex(root: Path) -> None:
    """One that has the store open under the old settings answers rightly, and by the new index."""
    with Store(root, indexed=["n"]) as store, one_peer() as peer:
        fill(store)
        assert peer.run(moves.counted, str(root), "idle") == 10
        store.reindex(["status"])
        assert store._engine.index.lister.place.indexed == ("status",)
        assert peer.run(moves.counted, str(root), "idle") == 10
        assert peer.run(_indexed, str(root)) == ("status",)
        assert store.count(where={"status": "idle"}) == 10
        store.reindex([])
        assert peer.run(moves.counted, str(root), "running") == 10
        assert peer.run(_indexed, str(root)) == ()
    with pytest.raises(OSError, match="read_only"), Store(root, read_only=True) as store:
        store.reindex(["n"])


def _indexed(root: str) -> tuple[str, ...]:
    return moves.store(root)._engine.index.lister.place.indexed


# Cursors


@pytest.mark.parametrize("indexed", [(), ("n", "status")])
@pytest.mark.parametrize("order", ["-updated_at", "size", "-rev", "n", "-n", "-status", "status", "missing", "-key"])
def test_two_pages_neither_skip_nor_repeat(root: Path, indexed: tuple[str, ...], order: str) -> None:
    """Whatever others do between the pages: a session that does not move is in exactly one."""
    rng = random.Random(f"{indexed}{order}")
    with Store(root, indexed=indexed, durability="relaxed") as store, Store(root) as other:
        fill(store)
        moved: set[str] = set()
        everything = [info.key for info in store.list(order_by=order)]
        seen: list[str] = []
        last: SessionInfo | str | None = None
        while page := store.list(order_by=order, limit=4, after=last):
            seen += [info.key for info in page]
            last = page[-1].cursor if len(seen) % 8 else page[-1]
            key = f"k{rng.randrange(30):02}"
            moved.add(key)
            rng.choice([lambda: other.patch(key, {"n": rng.randrange(7), "status": "x"}), lambda: other.delete(key)])()
        still = [key for key in everything if key not in moved]
        assert [key for key in seen if key not in moved] == still


def test_a_cursor_belongs_to_its_order(store: Store) -> None:
    """In another order, beside an offset, or as anything else it is refused."""
    fill(store, 3)
    info = store.list(order_by="n")[0]
    assert store.list(order_by="n", after=info.cursor) == store.list(order_by="n")[1:]
    for after in (info, info.cursor):
        for order in ("-n", "key", "-updated_at", "status"):
            with pytest.raises(InvalidQuery, match="order_by"):
                store.list(order_by=order, after=after)
    for wrong in ("", "x", "é", info.cursor[:-4], 5, b"x", store.get("k00")):
        with pytest.raises(InvalidQuery, match="after"):
            store.list(order_by="n", after=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="offset"):
        store.list(order_by="n", after=info, offset=1)
    assert store.list(order_by="n", after=info, offset=0, limit=0) == []


# What a list shows


def test_fields_of_any_size_are_shown(store: Store) -> None:
    """As they are, in the order asked for, whichever are there; without the pool."""
    fill(store)
    store.list()
    store._engine.pool.close()
    infos = store.list(order_by="key", fields=["text", "nothing", "n"])
    assert [info.fields for info in infos] == [{"text": "x" * (n * 400), "n": n % 7} for n in range(30)]
    assert not store._engine.pool._shards, "no session was opened through the pool"
    assert all(info.fields == {} for info in store.list(fields=[]))
    assert "text" not in store.list(order_by="-key", limit=1)[0].fields, "too large to be shown unasked"
    for wrong in ("n", [1], [None]):
        with pytest.raises(InvalidQuery, match="fields"):
            store.list(fields=wrong)  # type: ignore[arg-type]


def test_a_session_that_changes_while_its_large_field_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown as of one moment, in its place, and only if it matches then."""
    from shardstore._files.direct.shards import ShardReader

    with Store(root) as store, Store(root) as other:
        for key in ("a", "b", "c"):
            store.create(key, {"text": f"{key}" * 5000, "n": 1})
        store.list()
        real = ShardReader.state
        changes = iter([lambda: other.delete("c"), lambda: other.patch("b", {"text": "z" * 5000, "n": 2})])

        def values(self: Any, *args: Any, **kwargs: Any) -> Any:
            next(changes, lambda: None)()
            return real(self, *args, **kwargs)

        monkeypatch.setattr(ShardReader, "state", values)
        found = store.list(order_by="-key", fields=["text", "n"])
        assert [(info.key, info.rev, info.fields["text"][0], info.fields["n"]) for info in found] == [
            ("b", 2, "z", 2),
            ("a", 1, "a", 1),
        ]


def test_a_line_of_a_list_is_a_value(store: Store) -> None:
    """Immutable, comparable, hashable; the same after pickle and copy; no tuple."""
    fill(store, 2)
    one, other = store.list(order_by="n", fields=["n"])
    for twin in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
        assert (twin, twin.fields, twin.cursor, hash(twin)) == (one, one.fields, one.cursor, hash(one))
    assert one != other
    assert one != "k00"
    assert not isinstance(one, tuple)
    assert {one, one, other} == {one, other}
    for name in ("key", "rev", "fields", "cursor", "new"):
        with pytest.raises(AttributeError):
            setattr(one, name, 1)
    session = store["k00"]
    assert (one.key, one.rev, one.version, one.size) == (session.key, session.rev, session.version, session.size)
    assert (one.created_at, one.updated_at) == (session.created_at, session.updated_at)
    one.fields["n"] = 9
    assert one.fields == {"n": 0}
    assert repr(one) == f"SessionInfo('k00', rev=1, size={one.size})"


# Warnings


def test_a_field_that_no_session_has_is_named_once(store: Store) -> None:
    """Where nothing matches and the store is not empty; not where the field is there, at this line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.list(where={"staus": "idle"})
        fill(store, 3)
        assert store.list(where={"status": "nothing"}) == []
        assert store.count(where={"n": (">", 100), "text": ("exists", True)}) == 0
        assert len(store.list(where={"staus": ("exists", False)})) == 3
    with pytest.warns(UnknownField, match="'staus'") as caught:
        assert store.list(where={"staus": "idle"}) == []
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.list(where={"staus": "idle"}) == [], "once is enough"
    with pytest.warns(UnknownField, match="'typo'"):
        assert store.count(where={"typo": 1}) == 0


def test_a_list_ordered_by_a_field_that_no_session_has_says_so(store: Store) -> None:
    """Not where some session has the field, though others come first; once for each field."""
    fill(store, 3)
    store.create("rare", {"rare": 1, "large": "x" * 5000})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for order in ("rare", "-rare", "large", "status", "-key", "updated_at", "log_length"):
            assert len(store.list(order_by=order)) == 4
        assert store.list("k", order_by="rare", limit=1), "no session of this prefix has it, but another one does"
        assert store.list("none:", order_by="nosuch") == []
    with pytest.warns(UnknownField, match="order_by: no session in this store has a field 'nosuch'") as caught:
        assert len(store.list(order_by="-nosuch")) == 4
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.list(order_by="nosuch")


@pytest.mark.damages
def test_a_list_that_leaves_damaged_sessions_out_says_how_many(store: Store, root: Path) -> None:
    """list, count and len; by the catalog and by a scan."""
    fill(store, 5)
    for number, key in enumerate(["k01", "k03"], 1):
        path = disk.shard(root, key)
        path.write_bytes(b"noise\n" + path.read_bytes())
        assert not store.verify().ok
        for ask in (store.list, store.count, lambda: len(store), lambda: store.list(limit=1)):
            with pytest.warns(DamagedSessions, match=f"^{number} session") as caught:
                ask()
            assert caught[0].filename == __file__
    (root / "index" / "catalog").unlink()
    with pytest.warns(DamagedSessions, match="^2 sessions are"), Store(root, read_only=True) as reader:
        assert [info.key for info in reader.list(order_by="key")] == ["k00", "k02", "k04"]
