"""The open shards of a process: found by their files' names, read from where they were left."""

from __future__ import annotations

import gc
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from shardstore import CorruptShard, Store
from shardstore._files import pool
from shardstore._files.layout import Layout, shard_name
from shardstore._files.pool import Pool
from shardstore._files.shard import Shard
from tests.support import disk
from tests.support.actions import in_background

KEY, OTHER = "agent:main:main", "agent:main:other"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store(root) as made:
        made.create(KEY, {"n": 0})
        yield made


@pytest.fixture
def another(root: Path, store: Store) -> Iterator[Pool]:
    """Yield what another process has open of the same store: nothing yet."""
    made = Pool(Layout(root))
    yield made
    made.close()


def test_what_is_open_is_cached(store: Store, another: Pool) -> None:
    mine = store._engine.pool
    assert mine.cached(shard_name(KEY)) is mine.shard(KEY)
    assert mine.cached(shard_name(OTHER)) is None
    assert another.cached(shard_name(KEY)) is None
    assert mine.close_idle() == 1
    assert mine.cached(shard_name(KEY)) is None


def test_a_shard_opened_by_name_is_that_of_its_key(store: Store, another: Pool) -> None:
    opened = another.open_by_name(shard_name(KEY))
    assert opened is not None
    assert opened is another.shard(KEY) is another.open_by_name(shard_name(KEY)) is another.cached(shard_name(KEY))
    store.patch(KEY, {"n": 1})
    assert opened.read().state.rev == 2
    with another.transaction(KEY, 1.0, create=False) as txn:
        assert txn.state.rev == 2


@pytest.mark.damages("a copy of one shard in the place of another")
def test_nothing_is_opened_by_name_that_is_no_session_of_that_name(root: Path, store: Store, another: Pool) -> None:
    name = shard_name(OTHER)
    assert another.open_by_name(name) is None
    shutil.copy(disk.shard(root, KEY), store._engine.layout.shard_path(name))
    assert another.open_by_name(name) is None
    assert another.cached(name) is None
    with pytest.raises(CorruptShard):
        another.shard(OTHER).read()


@pytest.mark.damages("one shard")
def test_a_damaged_shard_is_not_kept(root: Path, store: Store, another: Pool) -> None:
    path = disk.shard(root, KEY)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    with pytest.raises(CorruptShard):
        another.open_by_name(shard_name(KEY))
    assert another.cached(shard_name(KEY)) is None


def test_opening_many_closes_the_oldest(store: Store, another: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [shard_name(KEY)]
    for n in range(12):
        store.create(f"k{n}", {"n": n})
        names.append(shard_name(f"k{n}"))
    monkeypatch.setattr(another, "_limit", 5)
    for name in names:
        assert another.open_by_name(name) is not None
    still = [name for name in names if another.cached(name) is not None]
    assert still == names[-5:]
    assert set(another._by_name) == {shard.name for shard in another._shards.values()}


def test_opening_at_the_same_time_gives_one(store: Store, another: Pool) -> None:
    for n in range(20):
        store.create(f"k{n}", {"n": n})
        waits = [in_background(another.open_by_name, shard_name(f"k{n}")) for _ in range(4)]
        waits += [in_background(another.shard, f"k{n}")]
        assert {wait() for wait in waits} == {another.shard(f"k{n}")}


def test_a_shard_is_read_under_its_lock_only_while_nobody_is_inside(root: Path, store: Store, another: Pool) -> None:
    opened = another.open_by_name(shard_name(KEY))
    assert opened is not None
    with store.edit(KEY) as draft:
        draft["n"] = 5
        assert opened.read_if_free() is None, "another process is inside"
        mine = store._engine.pool.shard(KEY)
        assert in_background(mine.read_if_free)() is None, "another thread is inside"
    journal = opened.read_if_free()
    assert journal is not None
    assert journal.state.rev == 2
    disk.shard(root, KEY).unlink()
    assert opened.read_if_free() is None, "its file is gone"
    store.create(KEY, {"n": 7})
    assert opened.read_if_free() is None, "its file is another one"
    assert opened.read().state.rev == 1


def test_every_number_of_foreign_records_is_read(root: Path, store: Store, another: Pool) -> None:
    """Few records are read from a small piece of the file, more of them from all of it."""
    opened = another.open_by_name(shard_name(KEY))
    assert opened is not None
    rev = 1
    for count in (1, 2, 3, 50, 1, 90, 200, 1, 0, 400):
        for _ in range(count):
            store.patch(KEY, {"n": rev, "text": "x" * (rev % 90)})
            rev += 1
        assert opened.read().state.rev == rev
        assert opened.read() == opened.read_if_free() == known(store)


def known(store: Store) -> object:
    """Return the state as the writer knows it."""
    return store._engine.pool.shard(KEY).read()


@pytest.mark.parametrize(
    ("soft", "limit"), [(10, 4), (256, 64), (1 << 20, pool.SHARDS_MAX), (resource.RLIM_INFINITY, pool.SHARDS_MAX)]
)
def test_the_limit_is_a_part_of_what_the_process_may_open(
    soft: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, soft))
    assert pool._descriptor_limit() == limit


def test_a_shard_may_be_used_while_others_are_evicted(store: Store) -> None:
    """Another thread moves a shard to the end at any moment: eviction, under the mutex, is not disturbed by that."""
    mine = store._engine.pool
    for number in range(3 * pool.SHARDS_MAX // 2):
        mine.shard(f"k{number}")
    stop: list[bool] = []

    def use() -> None:
        while not stop:
            for key in list(mine._shards)[-40:]:
                mine.shard(key)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    waits = [in_background(use) for _ in range(3)]
    try:
        for number in range(3_000):
            mine.shard(f"new{number}")
    finally:
        stop.append(True)
        sys.setswitchinterval(before)
        for wait in waits:
            wait()


def test_a_shard_may_be_used_between_any_two_steps_of_an_eviction(store: Store) -> None:
    """As above, but at each step for certain."""
    mine = store._engine.pool
    for number in range(40):
        mine.shard(f"k{number}")
    steps: list[int] = []

    def use(frame: FrameType, event: str, _arg: object) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            mine._shards.move_to_end(f"k{len(steps) % 5 + 35}")
            steps.append(frame.f_lasti)
        return use

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 tells of bytecodes only where any frame wanted it before
    sys.settrace(lambda frame, *_: use if frame.f_code is Pool._evict.__code__ else None)
    try:
        mine._evict(20)
    finally:
        sys.settrace(before)
    assert len(steps) > 100
    assert mine.cached(shard_name(KEY)) is None


def test_an_evicted_shard_is_freed_at_once(store: Store) -> None:
    """Not when the garbage collector next looks: by then thousands of sessions may have been used, each in memory."""
    mine = store._engine.pool
    gc.collect()
    gc.disable()
    try:
        for number in range(2 * mine._limit):
            store.update(f"k{number}", lambda draft: {"n": 1})
            store.get(f"k{number}")
        alive = sum(isinstance(one, Shard) for one in gc.get_objects())
    finally:
        gc.enable()
    assert alive <= mine._limit + 10  # and those of stores that other tests left to the collector
