"""Locks that the index holds while it reads a shard: who interrupts it is told, and does not wait for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardstore import NestedUpdate, Store
from shardstore._files.direct import shards
from shardstore._files.direct.reading import reading
from shardstore._inside import inside_update
from tests.index.actors import once_before
from tests.support import actions

Patch = pytest.MonkeyPatch


def test_an_update_from_a_handler_while_its_shard_is_read_under_its_lock(filled: Store, monkeypatch: Patch) -> None:
    """The lock is held beneath the handler: it raises at once, and the list goes on."""
    raised: list[BaseException] = []

    def handler() -> None:
        try:
            filled.patch("k0", {"n": 12})
        except NestedUpdate as error:
            raised.append(error)

    happened = once_before(monkeypatch, shards.ShardReader, "_bytes", handler)
    assert {info.key: info.fields["n"] for info in filled.list()}["k0"] == 10
    assert happened and raised
    assert filled.patch("k0", {"n": 13})["n"] == 13


def test_it_is_inside_in_its_own_thread_alone(root: Path) -> None:
    """The block ends it, also by an exception; other threads may update meanwhile."""
    elsewhere = None
    with pytest.raises(KeyError), reading(str(root)):
        assert inside_update()
        elsewhere = actions.in_background(inside_update)()
        raise KeyError
    assert elsewhere is False
    assert not inside_update()
