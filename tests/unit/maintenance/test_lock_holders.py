"""Lock holders: whose lock is held by whom."""

from __future__ import annotations

import os
import sys

import pytest

from shardstore import Store
from shardstore._files.engine import FileEngine
from shardstore._files.maintenance.lock_holders import lock_holders
from tests.support import disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show who holds a lock")


def test_a_held_session_is_named_with_its_holder(store: Store, engine: FileEngine) -> None:
    """Those that are open and not locked are not; nor is another store's."""
    for key in ("a", "b", "c"):
        store.create(key, {})
    other = Store(engine.root.with_name("other"))
    other.create("x", {})
    with store.edit("b"), other.edit("x"):
        (found,) = lock_holders(engine.layout)
        assert (found.key, found.path, found.pid) == ("b", str(disk.shard(engine.root, "b")), os.getpid())
    other.close()
    assert lock_holders(engine.layout) == []


@pytest.mark.damages("a journal that cannot be read")
@pytest.mark.parametrize("first", [b"noise\n", b"[1]\n", b'{"key":7}\n', b"{}\n", b""])
def test_a_file_that_does_not_tell_its_key_is_named_by_its_path(store: Store, engine: FileEngine, first: bytes) -> None:
    store.create("a", {})
    path = disk.shard(engine.root, "a")
    with store.edit("a"):
        whole = path.read_bytes()
        path.write_bytes(first)
        (found,) = lock_holders(engine.layout)
        path.write_bytes(whole)
    assert (found.key, found.path) == (None, str(path))
