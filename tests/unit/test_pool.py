"""The open shards of a process: found by their files' names, read from where they were left."""

from __future__ import annotations

import gc
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from shardstore import CorruptShard, LockTimeout, SessionNotFound, Store
from shardstore._files import pool
from shardstore._files.layout import Layout, shard_name
from shardstore._files.pool import Pool
from shardstore._files.shard import Shard
from shardstore._files.syncs import Syncs
from shardstore._model import ABSENT
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


@pytest.mark.parametrize("used", [Pool.shard, lambda pool, key: pool.transaction(key, 1.0)], ids=["read", "written"])
def test_what_was_used_last_stays_open(store: Store, another: Pool, used: Callable[[Pool, str], object]) -> None:
    store.create_many({key: {} for key in "abc"})
    for key in "abc":
        assert another.open_by_name(shard_name(key)) is not None
    used(another, "a")
    with another._mutex:
        assert another._evict(1) == 1
    assert [key for key in "abc" if another.cached(shard_name(key)) is not None] == ["a", "c"]


def test_never_more_than_the_limit_are_open(another: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(another, "_limit", 5)
    for n in range(12):
        another.shard(f"k{n}")
        assert len(another._shards) == min(n + 1, 5)


def test_half_of_them_are_closed_where_they_take_too_much_memory(
    another: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory is added up at every sixteenth that is opened, and the one that was just opened stays."""
    monkeypatch.setattr(pool, "CACHED_BYTES_MAX", 1000)
    sizes = [1001, 1000, 1001]
    asked: list[int] = []
    monkeypatch.setattr(another, "_cached", lambda: asked.append(sizes[len(asked)]) or asked[-1])  # type: ignore[func-returns-value]
    monkeypatch.setattr(another, "_limit", 40)
    counts = []
    for n in range(48):
        another.shard(f"k{n}")
        counts.append(len(another._shards))
    assert asked == sizes
    assert counts == [*range(1, 16), 8, *range(9, 25), *range(25, 40), 20]
    monkeypatch.setattr(another, "_limit", 10)
    another.shard("k48")
    assert (len(another._shards), "k48" in another._shards) == (10, True)


def test_the_memory_is_added_up_also_where_the_limit_is_just_reached(
    another: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(another, "_cached", lambda: pool.CACHED_BYTES_MAX + 1)
    monkeypatch.setattr(another, "_limit", 16)
    for n in range(16):
        another.shard(f"k{n}")
    assert list(another._shards) == [f"k{n}" for n in range(8, 16)]


def test_the_memory_is_that_of_all_that_are_open(store: Store, another: Pool) -> None:
    store.create(OTHER, {"text": "x" * 5000})
    assert another._cached() == 0
    for key in (KEY, OTHER):
        another.shard(key).read()
    assert another._cached() == another.shard(KEY).cached_bytes + another.shard(OTHER).cached_bytes > 5000


def test_small_is_what_is_open_and_read_in_no_time(store: Store, another: Pool) -> None:
    """An event loop reads it itself, and hands all others to a thread."""
    assert another.small(KEY) is None
    shard = another.shard(KEY)
    assert another.small(KEY) is None, "known, but not open"
    shard.read()
    assert another.small(KEY) is shard
    assert shard.file is not None
    shard.file.size = pool.SMALL_BYTES
    assert another.small(KEY) is shard
    shard.file.size += 1
    assert another.small(KEY) is None
    for key in (OTHER, 5, ["k"], None):
        assert another.small(key) is None  # type: ignore[arg-type]


# Transactions


def test_a_transaction_is_used_again_with_settings_of_its_own(store: Store, another: Pool) -> None:
    before = another.transaction(KEY, 1.0, create=False)
    with before:
        before.apart = True
        before.syncs = Syncs(str(another.layout.root), durable=False)
        before.syncs.close()
    again = another.transaction(KEY, 2.0)
    assert again is before
    assert (again.timeout, again.create, again.present, again.syncs, again.apart) == (2.0, True, False, None, False)
    other = another.transaction(KEY, None, create=False)
    assert other is not again
    assert (other.timeout, other.create, other.present, other.syncs, other.apart) == (None, False, True, None, False)


def test_a_transaction_of_maintenance_makes_nothing_and_reads(store: Store, another: Pool) -> None:
    """Unless it is told to; it waits for nobody, and syncs at once."""
    txn = another.transaction_on_file(another.shard(KEY))
    assert (txn.timeout, txn.create, txn.read, txn.apart) == (0.0, False, True, True)
    with txn:
        assert txn.state.rev == 1
    with pytest.raises(SessionNotFound), another.transaction_on_file(another.shard(OTHER)):
        pass
    with another.transaction_on_file(another.shard(KEY), read=False) as txn:
        assert txn.state == ABSENT
    with another.transaction_on_file(another.shard(OTHER), create=True) as txn:
        assert txn.state == ABSENT


def test_at_hand_is_a_session_that_is_open_free_and_whole(root: Path, store: Store, another: Pool) -> None:
    assert another.at_hand(KEY) is None, "not open"
    another.shard(KEY).read()
    txn = another.at_hand(KEY)
    assert txn is not None
    assert txn.append_only
    with pytest.raises(LockTimeout):
        in_background(store.using(lock_timeout=0).patch, KEY, {"n": 1})()
    txn.__exit__()
    assert not txn.append_only
    store.patch(KEY, {"n": 1})
    with store.edit(KEY):
        assert in_background(another.at_hand, KEY)() is None, "in use"
    assert is_free(store), "and it does not stand in a queue"
    assert another.at_hand(OTHER) is None, "unknown"


@pytest.mark.damages("a torn commit, and a second name of a shard")
@pytest.mark.parametrize("how", ["a second name", "a torn commit", "deleted"])
def test_what_takes_more_than_an_append_is_not_at_hand(root: Path, store: Store, another: Pool, how: str) -> None:
    """And its lock is free afterwards: whoever tries again in a thread takes it."""
    another.shard(KEY).read()
    path = disk.shard(root, KEY)
    if how == "a second name":
        (root / "backup").hardlink_to(path)
    elif how == "a torn commit":
        path.write_bytes(path.read_bytes().rstrip(b"\n") + b'\n{"crc":"00000000","rev":2')
    else:
        store.delete(KEY)
    assert another.at_hand(KEY) is None
    assert is_free(store)


def is_free(store: Store) -> bool:
    """Return whether the session's lock can be taken at once."""
    store.using(lock_timeout=0).update(KEY, lambda draft: draft.update(seen=True))
    return True


# Closing


def test_the_last_transaction_of_an_evicted_shard_keeps_nothing_alive(store: Store, another: Pool) -> None:
    """A spare would keep the shard alive in a circle, and its descriptor open."""
    txn = another.transaction(KEY, 1.0)
    with txn:
        pass
    shard = another.shard(KEY)
    taken = another.transaction(KEY, 1.0)
    assert another.close_idle() == 1
    with taken:
        pass
    assert shard.spare == []
    assert another.cached(shard_name(KEY)) is None


def test_closing_what_is_idle_waits_for_nobody(store: Store, another: Pool) -> None:
    """Who closes may be who opens a shard while this pool admits another one. It leaves the pool to others."""
    another.shard(KEY).read()
    with another._mutex:
        assert in_background(another.close_idle)() == 0
        in_background(another.let_go)()
        assert another.cached(shard_name(KEY)) is not None
    assert another.close_idle() == 1
    assert in_background(another.shard, OTHER)() is another.shard(OTHER), "the mutex is free again"
    another.let_go()
    assert in_background(another.shard, KEY)() is another.shard(KEY)


@pytest.mark.parametrize("end", [Pool.close, Pool.let_go, Pool.after_fork])
def test_the_queue_is_closed_with_the_pool(store: Store, another: Pool, end: Callable[[Pool], None]) -> None:
    """In a forked child, too: the place in it is the parent's."""
    assert another._queue_file.fd() >= 0
    end(another)
    assert another._queue_file.opened == -1
    assert (another._queue_file.fd() >= 0) == (end is Pool.after_fork), "which opens its own"


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
