"""Reading many sessions: each once, in the order of files, none kept open, and what is odd is looked at again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardstore import CorruptShard, InvalidKey, Store
from shardstore._files import file, many
from shardstore._files.engine import FileEngine
from shardstore._files.layout import shard_name
from shardstore._files.many import read_many
from shardstore._model import State
from tests.support import disk

KEYS = [f"k{number}" for number in range(30)]


@pytest.fixture
def engine(store: Store) -> FileEngine:
    """Return an engine of 30 sessions, none of which is open."""
    for number, key in enumerate(KEYS):
        store.create(key, {"n": number})
    assert isinstance(store.engine, FileEngine)
    store.engine.pool.close_idle()
    return store.engine


def opened(engine: FileEngine) -> list[str]:
    return [one.path for one in file.open_files if one.fd >= 0 and one.path.startswith(engine.location)]


def test_each_key_once_in_the_order_of_files_and_nothing_stays_open(engine: FileEngine) -> None:
    found = list(read_many(engine.pool, [*KEYS, *KEYS, "nobody"]))
    assert [key for key, _ in found] == sorted([*KEYS, "nobody"], key=shard_name)
    states = {key: state for key, state in found if isinstance(state, State)}
    assert {key: states[key].fields for key in KEYS} == {key: {"n": b"%d" % n} for n, key in enumerate(KEYS)}
    assert not states["nobody"].exists
    assert opened(engine) == []


def test_what_is_open_is_read_through_that(engine: FileEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.read("k3")
    read: list[str] = []
    once = many._read_once
    monkeypatch.setattr(many, "_read_once", lambda path: (read.append(path), once(path))[1])
    assert len(list(read_many(engine.pool, KEYS))) == len(KEYS)
    assert len(read) == len(KEYS) - 1
    assert engine.place("k3") not in read


@pytest.mark.damages("files that are damaged, swapped, linked or gone")
def test_one_bad_file_is_one_bad_answer(engine: FileEngine, root: Path) -> None:
    disk.edit(disk.shard(root, "k1"), b"noise" * 1000)
    disk.edit(disk.shard(root, "k2"), disk.shard(root, "k3").read_bytes())
    link = disk.shard(root, "k4")
    link.rename(root / "elsewhere")
    os.symlink(root / "elsewhere", link)
    disk.shard(root, "k5").unlink()
    found = dict(read_many(engine.pool, KEYS))
    assert {key for key, one in found.items() if isinstance(one, CorruptShard)} == {"k1", "k2", "k4"}
    gone = found["k5"]
    assert isinstance(gone, State)
    assert not gone.exists
    assert len(found) == len(KEYS)


def test_a_large_file_is_left_to_the_shard(engine: FileEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which looks at its size before it reads."""
    monkeypatch.setattr(many, "_LARGE", 10)
    assert len([one for _, one in read_many(engine.pool, KEYS) if isinstance(one, State) and one.exists]) == len(KEYS)
    assert opened(engine) == []


def test_what_is_no_key_is_refused_before_anything_is_read(engine: FileEngine) -> None:
    with pytest.raises(InvalidKey):
        list(read_many(engine.pool, ["k1", ""]))
