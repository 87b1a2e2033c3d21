"""Indexed fields change beside running writers, and lists are right at every moment."""

from __future__ import annotations

import threading
import time
from typing import Any

from tests.contract.backend import PostgresBackend, holder


def test_lists_are_right_while_fields_are_indexed_beside_holders(database: PostgresBackend) -> None:
    """Of two sessions that are held meanwhile, one is only being made: their writers know the old settings."""
    with database.open() as store, database.open() as other:
        for n in range(20):
            store.create(f"k{n}", {"n": n})
        with holder(database, "k0") as one, holder(database, "new") as two:
            work = threading.Thread(target=store.reindex, args=(["held", "n"],))
            work.start()
            time.sleep(0.5)
            assert other.list(where={"held": 1}) == []
            assert [info.key for info in other.list(where={"n": (">=", 18)}, order_by="n")] == ["k18", "k19"]
            one.tell()
            two.tell()
            assert (one.result(), two.result()) == (2, 1)
            work.join()
        engine: Any = store.engine
        assert engine.rows.store.is_indexed
        assert sorted(info.key for info in other.list(where={"held": 1})) == ["k0", "new"]
        assert [info.key for info in other.list(order_by="-n", limit=2)] == ["k19", "k18"]
        assert other.count(where={"n": ("<", 3)}) == 3


def test_long_values_and_keys_are_ordered_and_found(database: PostgresBackend) -> None:
    """An index holds their beginnings alone."""
    with database.open(indexed=["text"]) as store:
        start = "é" * 3000
        for n in (2, 0, 1):
            store.create(f"{'k' * 3000}{n}", {"text": f"{start}{n}"})
        ordered = [info.key[-1] for info in store.list(order_by="text")]
        assert ordered == ["0", "1", "2"]
        assert [info.key[-1] for info in store.list(where={"text": f"{start}1"})] == ["1"]
        assert [info.key[-1] for info in store.list(where={"text": (">", f"{start}1")})] == ["2"]
        assert [key[-1] for key in store] == ["0", "1", "2"]
        assert [info.key[-1] for info in store.list(prefix=f"{'k' * 3000}2")] == ["2"]
        (last,) = store.list(order_by="-text", limit=1)
        assert [info.key[-1] for info in store.list(order_by="-text", after=last)] == ["1", "0"]
